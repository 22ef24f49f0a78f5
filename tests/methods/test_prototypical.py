"""Prototypical Networks against plain loops in float64."""

import math

import numpy as np
import paddle
import pytest

from ppfsl.methods.base import Support
from ppfsl.methods.prototypical import Prototypical
from ppfsl.randomness import generator

EPISODES, WAY, DIM, QUERIES = 3, 4, 5, 6
METRICS = ("squared_euclidean", "cosine")


def draw(*shape: int, key: str = "x") -> np.ndarray:
    return 2 * generator(0, "prototypical", key, *shape).standard_normal(shape)


def task(shot: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Support [E, S, D], labels in any order, query [E, Q, D]; vectors of any length."""
    labels = generator(0, "order", shot).permutation(np.repeat(np.arange(WAY), shot))
    return draw(EPISODES, WAY * shot, DIM), labels, draw(EPISODES, QUERIES, DIM, key="query")


def logits(method: Prototypical, inputs: np.ndarray, labels: np.ndarray, query: np.ndarray) -> np.ndarray:
    support = Support(paddle.to_tensor(inputs), paddle.to_tensor(labels), WAY, np.arange(len(inputs)))
    return method.adapt(support)(paddle.to_tensor(query)).numpy()


def expected_logits(inputs: np.ndarray, labels: np.ndarray, query: np.ndarray, metric: str) -> np.ndarray:
    """By the paper's equations 1 and 2, temperature one."""
    found = np.empty((*query.shape[:2], WAY))
    for e, q, k in np.ndindex(*found.shape):
        own = [inputs[e, image] for image in range(len(labels)) if labels[image] == k]
        prototype = (sum(own) / len(own)).tolist()
        pairs = list(zip(query[e, q].tolist(), prototype, strict=True))
        if metric == "squared_euclidean":
            found[e, q, k] = -sum((a - b) ** 2 for a, b in pairs)
        else:
            lengths = math.sqrt(sum(a * a for a, _ in pairs)) * math.sqrt(sum(b * b for _, b in pairs))
            found[e, q, k] = sum(a * b for a, b in pairs) / lengths
    return found


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shot", [1, 3])
@pytest.mark.parametrize("temperature", [1.0, 0.1, 64.0])
def test_logits_match_plain_loops(metric: str, shot: int, temperature: float) -> None:
    inputs, labels, query = task(shot)
    found = logits(Prototypical(metric, temperature), inputs, labels, query)
    expected = expected_logits(inputs, labels, query, metric) / temperature
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_episode_by_hand() -> None:
    # Class 0 at (0, 0) and (4, 0), hence its prototype at (2, 0); class 1 at (0, 3) twice.
    inputs = np.asarray([[[0.0, 0], [0, 3], [4, 0], [0, 3]]])
    query = np.asarray([[[2.0, 0], [0, 2]]])
    support = Support(paddle.to_tensor(inputs), paddle.to_tensor(np.asarray([0, 1, 0, 1])), 2, np.arange(1))
    found = Prototypical().adapt(support)(paddle.to_tensor(query)).numpy()
    np.testing.assert_allclose(found, [[[0, -13], [-8, -1]]], atol=1e-12)


def test_one_shot_with_vectors_of_length_one_gives_the_same_answers_by_both_metrics() -> None:
    inputs, labels, query = task(1)
    inputs, query = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (inputs, query))
    distance, cosine = (logits(Prototypical(metric), inputs, labels, query) for metric in METRICS)
    np.testing.assert_allclose(distance, 2 * cosine - 2, atol=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_loss_is_the_cross_entropy_of_the_paper(metric: str) -> None:
    inputs, labels, query = task(2)
    truth = generator(0, "truth").integers(0, WAY, (EPISODES, QUERIES))
    method = Prototypical(metric, 2.0)
    expected = expected_logits(inputs, labels, query, metric) / 2
    total = 0.0
    for e, q in np.ndindex(EPISODES, QUERIES):
        total += math.log(sum(math.exp(value) for value in expected[e, q])) - expected[e, q, truth[e, q]]
    found = method.loss(paddle.to_tensor(logits(method, inputs, labels, query)), paddle.to_tensor(truth))
    assert found.shape == []
    assert found.item() == pytest.approx(total / (EPISODES * QUERIES), rel=1e-9)


def test_facts() -> None:
    method = Prototypical(name="mine")
    assert (method.name, method.inputs, method.transductive, method.layer) == ("mine", "projected", False, None)
    assert (method.metric, method.temperature) == ("squared_euclidean", 1)
