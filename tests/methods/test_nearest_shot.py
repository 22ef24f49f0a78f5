"""The nearest shot against plain loops in float64."""

import math

import numpy as np
import paddle
import pytest

from ppfsl.methods.base import Support
from ppfsl.methods.nearest_shot import NearestShot
from ppfsl.randomness import generator

EPISODES, WAY, DIM, QUERIES = 3, 4, 3, 6


def draw(*shape: int, key: str = "x") -> np.ndarray:
    return generator(0, "nearest shot", key, *shape).standard_normal(shape)


def logits(method: NearestShot, inputs: np.ndarray, labels: np.ndarray, query: np.ndarray) -> np.ndarray:
    way = int(labels.max()) + 1
    support = Support(paddle.to_tensor(inputs), paddle.to_tensor(labels), way, np.arange(len(inputs)))
    return method.adapt(support)(paddle.to_tensor(query)).numpy()


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    dot = sum(a * b for a, b in zip(left.tolist(), right.tolist(), strict=True))
    return dot / math.sqrt(sum(a * a for a in left.tolist()) * sum(b * b for b in right.tolist()))


@pytest.mark.parametrize("shots", ["max", "mean"])
@pytest.mark.parametrize("shot", [1, 3])
def test_logits_match_plain_loops(shots: str, shot: int) -> None:
    labels = generator(0, "order", shot).permutation(np.repeat(np.arange(WAY), shot))
    inputs, query = draw(EPISODES, WAY * shot, DIM), draw(EPISODES, QUERIES, DIM, key="query")
    found = logits(NearestShot(shots), inputs, labels, query)
    assert found.shape == (EPISODES, QUERIES, WAY)
    for e, q, k in np.ndindex(*found.shape):
        own = [cosine(query[e, q], inputs[e, image]) for image in range(len(labels)) if labels[image] == k]
        assert found[e, q, k] == pytest.approx(max(own) if shots == "max" else sum(own) / shot, abs=1e-9)


def test_one_near_shot_decides_but_not_the_mean() -> None:
    # The query points along x: class 0 has one shot there and one opposite, class 1 two at 45 degrees.
    inputs = np.asarray([[[1.0, 0], [-1, 0], [1, 1], [1, -1]]])
    labels, query = np.asarray([0, 0, 1, 1]), np.asarray([[[2.0, 0]]])
    half = math.sqrt(0.5)
    np.testing.assert_allclose(logits(NearestShot(), inputs, labels, query), [[[1, half]]], atol=1e-12)
    np.testing.assert_allclose(logits(NearestShot("mean"), inputs, labels, query), [[[0, half]]], atol=1e-12)


def test_answer_is_the_class_of_the_nearest_vector_of_length_one() -> None:
    labels = np.repeat(np.arange(WAY), 3)
    inputs, query = draw(EPISODES, 3 * WAY, DIM), draw(EPISODES, 50, DIM, key="query")
    inputs, query = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (inputs, query))
    found = logits(NearestShot(), inputs, labels, query).argmax(-1)
    for e, q in np.ndindex(EPISODES, 50):
        distances = [sum((a - b) ** 2 for a, b in zip(query[e, q], shot, strict=True)) for shot in inputs[e]]
        assert found[e, q] == labels[np.argmin(distances)]


def test_facts() -> None:
    method = NearestShot(name="mine")
    assert (method.name, method.inputs, method.transductive, method.shots) == ("mine", "embedding", False, "max")
