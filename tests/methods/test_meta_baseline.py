"""Meta-Baseline against plain loops in float64."""

import math
from collections.abc import Iterator

import numpy as np
import paddle
import pytest

from ppfsl.methods.base import Support
from ppfsl.methods.class_mean import ClassMean
from ppfsl.methods.meta_baseline import LearnedScale, MetaBaseline
from ppfsl.randomness import generator

EPISODES, WAY, DIM, QUERIES, SCALE = 3, 4, 5, 6, 3.7


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    before = paddle.get_default_dtype()
    paddle.set_default_dtype("float64")
    yield
    paddle.set_default_dtype(before)


def draw(*shape: int, key: str = "x") -> np.ndarray:
    return 2 * generator(0, "meta-baseline", key, *shape).standard_normal(shape)


def task(shot: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Support [E, S, D], labels in any order, query [E, Q, D]; vectors of any length."""
    labels = generator(0, "order", shot).permutation(np.repeat(np.arange(WAY), shot))
    return draw(EPISODES, WAY * shot, DIM), labels, draw(EPISODES, QUERIES, DIM, key="query")


def support_of(inputs: np.ndarray, labels: np.ndarray) -> Support:
    return Support(paddle.to_tensor(inputs), paddle.to_tensor(labels), int(labels.max()) + 1, np.arange(len(inputs)))


def expected_logits(inputs: np.ndarray, labels: np.ndarray, query: np.ndarray) -> np.ndarray:
    found = np.empty((*query.shape[:2], WAY))
    for e, q, k in np.ndindex(*found.shape):
        own = [inputs[e, image] for image in range(len(labels)) if labels[image] == k]
        pairs = list(zip(query[e, q].tolist(), (sum(own) / len(own)).tolist(), strict=True))
        lengths = math.sqrt(sum(a * a for a, _ in pairs)) * math.sqrt(sum(b * b for _, b in pairs))
        found[e, q, k] = SCALE * sum(a * b for a, b in pairs) / lengths
    return found


@pytest.mark.parametrize("shot", [1, 3])
def test_logits_and_loss_match_plain_loops(shot: int) -> None:
    inputs, labels, query = task(shot)
    method = MetaBaseline(LearnedScale(SCALE))
    found = method.adapt(support_of(inputs, labels))(paddle.to_tensor(query))
    expected = expected_logits(inputs, labels, query)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)
    truth = generator(0, "truth").integers(0, WAY, (EPISODES, QUERIES))
    total = 0.0
    for e, q in np.ndindex(EPISODES, QUERIES):
        total += math.log(sum(math.exp(value) for value in expected[e, q])) - expected[e, q, truth[e, q]]
    loss = method.loss(found, paddle.to_tensor(truth))
    assert loss.shape == []
    assert loss.item() == pytest.approx(total / (EPISODES * QUERIES), rel=1e-9)


def test_centroids_are_means_of_vectors_as_they_are() -> None:
    # The long shot outweighs the short one: the mean of (9, 0) and (0, 1) is near the first axis.
    inputs, labels = np.asarray([[[9.0, 0], [0, 1], [0, -1]]]), np.asarray([0, 0, 1])
    query = np.asarray([[[1.0, 1]]])
    method = MetaBaseline(LearnedScale(1.0))
    half = math.sqrt(0.5)
    found = method.adapt(support_of(inputs, labels))(paddle.to_tensor(query)).numpy()
    np.testing.assert_allclose(found, [[[10 / math.sqrt(82) * half, -half]]], atol=1e-9)
    unit = inputs / np.linalg.norm(inputs, axis=-1, keepdims=True)
    normalised = method.adapt(support_of(unit, labels))(paddle.to_tensor(query)).numpy()
    np.testing.assert_allclose(normalised, [[[1, -half]]], atol=1e-9)


def test_class_means_with_vectors_of_length_one_and_that_scale_agree() -> None:
    inputs, labels, query = task(3)
    inputs = inputs / np.linalg.norm(inputs, axis=-1, keepdims=True)
    support = support_of(inputs, labels)
    found = MetaBaseline(LearnedScale(SCALE)).adapt(support)(paddle.to_tensor(query)).numpy()
    np.testing.assert_allclose(found, ClassMean(scale=SCALE).adapt(support)(paddle.to_tensor(query)).numpy(), atol=1e-6)


def test_scale_is_learned() -> None:
    inputs, labels, query = task(2)
    layer = LearnedScale(SCALE)
    method = MetaBaseline(layer)
    truth = paddle.to_tensor(generator(0, "truth").integers(0, WAY, (EPISODES, QUERIES)))

    def loss() -> paddle.Tensor:
        return method.loss(method.adapt(support_of(inputs, labels))(paddle.to_tensor(query)), truth)

    loss().backward()
    slope = layer.scale.grad.item()
    ends = []
    for step in (1e-6, -1e-6):
        layer.scale.set_value(np.asarray([SCALE + step]))
        ends.append(loss().item())
    assert abs(slope) > 1e-3
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6)


def test_facts() -> None:
    method = MetaBaseline(LearnedScale(10.0), name="mine")
    assert (method.name, method.inputs, method.transductive) == ("mine", "projected", False)
    assert [name for name, _ in method.layer.named_parameters()] == ["scale"]
    assert method.layer.scale.numpy().tolist() == [10]
