"""Class means against plain loops."""

import math

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfsl.methods.base import Support
from ppfsl.methods.class_mean import ClassMean, class_means
from ppfsl.randomness import generator


def draw(*shape: int, key: str = "x") -> np.ndarray:
    return generator(0, "class mean", key, *shape).standard_normal(shape)


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / math.sqrt(sum(float(v) ** 2 for v in vector))


def support_of(inputs: np.ndarray, labels: np.ndarray, way: int) -> Support:
    return Support(paddle.to_tensor(inputs), paddle.to_tensor(labels), way, np.arange(len(inputs)))


def logits(inputs: np.ndarray, labels: np.ndarray, way: int, query: np.ndarray, scale: float = 10.0) -> np.ndarray:
    return ClassMean(scale=scale).adapt(support_of(inputs, labels, way))(paddle.to_tensor(query)).numpy()


@settings(deadline=None, max_examples=40)
@given(
    episodes=st.integers(1, 3), way=st.integers(2, 5), shot=st.integers(1, 4), dim=st.integers(2, 6), key=st.text("ab")
)
def test_logits_match_plain_loops(episodes: int, way: int, shot: int, dim: int, key: str) -> None:
    inputs = draw(episodes, way * shot, dim, key=key)
    labels = generator(0, "order", key).permutation(np.repeat(np.arange(way), shot))  # in any order
    query = draw(episodes, 7, dim, key=f"query{key}")
    expected = np.empty((episodes, 7, way))
    for e in range(episodes):
        for k in range(way):
            mean = unit(sum(x for x, label in zip(inputs[e], labels, strict=True) if label == k) / shot)
            for q in range(7):
                expected[e, q, k] = 3 * sum(float(a) * float(b) for a, b in zip(unit(query[e, q]), mean, strict=True))
    found = logits(inputs, labels, way, query, scale=3.0)
    assert found.shape == (episodes, 7, way)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_episode_by_hand() -> None:
    # Class 0 at 0 and 90 degrees, hence its mean at 45; class 1 at 180.
    inputs = np.asarray([[[1.0, 0], [0, 1], [-1, 0], [-1, 0]]])
    query = np.asarray([[[1.0, 1], [2, 0], [-3, 0], [0, -1]]])
    half = math.sqrt(0.5)
    expected = [[1, -half], [half, -1], [-half, 1], [-half, 0]]
    np.testing.assert_allclose(logits(inputs, np.asarray([0, 0, 1, 1]), 2, query, 1.0)[0], expected, atol=1e-6)


def test_means_are_columns_of_length_one() -> None:
    means = class_means(paddle.to_tensor(draw(3, 6, 4)), paddle.to_tensor(np.repeat([0, 1, 2], 2)), 3)
    assert means.shape == [3, 4, 3]
    np.testing.assert_allclose(np.linalg.norm(means.numpy(), axis=1), 1, atol=1e-6)


def test_classes_may_have_different_numbers_of_shots() -> None:
    inputs, labels = draw(1, 4, 3), np.asarray([1, 0, 1, 1])
    means = class_means(paddle.to_tensor(inputs), paddle.to_tensor(labels), 2).numpy()[0]
    np.testing.assert_allclose(means[:, 0], unit(inputs[0, 1]), atol=1e-6)
    np.testing.assert_allclose(means[:, 1], unit(inputs[0, [0, 2, 3]].sum(0)), atol=1e-6)


def test_permuting_classes_permutes_logits() -> None:
    inputs, labels, query = draw(2, 9, 5), np.repeat([0, 1, 2], 3), draw(2, 4, 5, key="query")
    order = np.asarray([2, 0, 1])
    np.testing.assert_allclose(
        logits(inputs, order[labels], 3, query)[:, :, order], logits(inputs, labels, 3, query), atol=1e-5
    )


def test_many_episodes_equal_one_at_a_time() -> None:
    inputs, labels, query = draw(6, 10, 5), np.repeat(np.arange(5), 2), draw(6, 4, 5, key="query")
    together = logits(inputs, labels, 5, query)
    for e in range(6):
        alone = logits(inputs[e : e + 1], labels, 5, query[e : e + 1])
        np.testing.assert_allclose(together[e : e + 1], alone, atol=1e-5)


def test_scale_changes_no_answer() -> None:
    inputs, labels, query = draw(2, 10, 5), np.repeat(np.arange(5), 2), draw(2, 30, 5, key="query")
    one, ten = (logits(inputs, labels, 5, query, scale) for scale in (1.0, 10.0))
    np.testing.assert_allclose(10 * one, ten, rtol=1e-4, atol=1e-5)


def test_adapting_is_pure() -> None:
    method, labels = ClassMean(), np.repeat([0, 1], 2)
    query = paddle.to_tensor(draw(1, 3, 4, key="query"))
    first = support_of(draw(1, 4, 4), labels, 2)
    before = first.inputs.numpy().copy()
    classify = method.adapt(first)
    answers = classify(query).numpy()
    method.adapt(support_of(draw(1, 4, 4, key="other"), labels, 2))
    np.testing.assert_array_equal(classify(query).numpy(), answers)
    np.testing.assert_array_equal(first.inputs.numpy(), before)


def test_facts() -> None:
    method = ClassMean("mine")
    assert (method.name, method.inputs, method.transductive) == ("mine", "embedding", False)


@pytest.mark.parametrize("scale", [0.5, 10.0])
def test_logits_stay_within_the_scale(scale: float) -> None:
    found = logits(100 * draw(2, 4, 3), np.repeat([0, 1], 2), 2, 100 * draw(2, 50, 3, key="query"), scale)
    assert np.abs(found).max() <= scale * (1 + 1e-6)
