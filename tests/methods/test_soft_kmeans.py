"""Soft k-means against plain loops in float64, and by hand."""

import math

import numpy as np
import paddle
import pytest

from ppfsl.methods.base import Support
from ppfsl.methods.class_mean import ClassMean
from ppfsl.methods.soft_kmeans import SoftKMeans
from ppfsl.randomness import generator

EPISODES, WAY, DIM, QUERIES = 3, 4, 5, 12


def draw(*shape: int, key: str = "x") -> np.ndarray:
    vectors = generator(0, "soft k-means", key, *shape).standard_normal(shape)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def logits(method: SoftKMeans | ClassMean, inputs: np.ndarray, labels: np.ndarray, query: np.ndarray) -> np.ndarray:
    queries = paddle.to_tensor(query)
    way, numbers = int(labels.max()) + 1, np.arange(len(inputs))
    support = Support(paddle.to_tensor(inputs), paddle.to_tensor(labels), way, numbers, queries)
    return method.adapt(support)(queries).numpy()


def unit(vector: list[float]) -> list[float]:
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector]


def total(vectors: list[list[float]], weights: list[float]) -> list[float]:
    return [sum(w * vector[d] for w, vector in zip(weights, vectors, strict=True)) for d in range(len(vectors[0]))]


def by_hand(method: SoftKMeans, shots: list[list[float]], labels: list[int], queries: list[list[float]]) -> np.ndarray:
    """One episode in plain loops."""
    way = max(labels) + 1

    def scores(means: list[list[float]]) -> list[list[float]]:
        return [
            [method.scale * sum(a * b for a, b in zip(query, mean, strict=True)) for mean in means] for query in queries
        ]

    means = [unit(total(shots, [float(label == k) for label in labels])) for k in range(way)]
    for _ in range(method.steps):
        weights = [[math.exp(value) for value in row] for row in scores(means)]
        weights = [[value / sum(row) for value in row] for row in weights]
        if method.balanced:
            for _ in range(2000):  # to the end, where the package stops early
                columns = [sum(row[k] for row in weights) for k in range(way)]
                weights = [[row[k] * len(queries) / way / columns[k] for k in range(way)] for row in weights]
                weights = [[value / sum(row) for value in row] for row in weights]
        means = [
            unit(
                [
                    a + b
                    for a, b in zip(
                        total(shots, [float(label == k) for label in labels]),
                        total(queries, [row[k] for row in weights]),
                        strict=True,
                    )
                ]
            )
            for k in range(way)
        ]
    return np.asarray(scores(means))


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize(("shot", "steps"), [(1, 1), (1, 7), (3, 4)])
def test_logits_match_plain_loops(shot: int, steps: int, balanced: bool) -> None:
    labels = generator(0, "order", shot).permutation(np.repeat(np.arange(WAY), shot))
    inputs, query = draw(EPISODES, WAY * shot, DIM), draw(EPISODES, QUERIES, DIM, key="query")
    method = SoftKMeans(scale=4.0, steps=steps, balanced=balanced)
    found = logits(method, inputs, labels, query)
    assert found.shape == (EPISODES, QUERIES, WAY)
    for episode in range(EPISODES):
        expected = by_hand(method, inputs[episode].tolist(), labels.tolist(), query[episode].tolist())
        np.testing.assert_allclose(found[episode], expected, atol=1e-2 if balanced else 1e-9)


def test_queries_move_the_means_to_where_they_lie() -> None:
    # Shots at 0 and 90 degrees, the queries about 45 and 130: half of the first ones are nearer to the wrong shot.
    angles = {"shots": [0, 90], "queries": [46, 44, 43, 47, 130, 131, 129, 128]}
    shots, queries = (
        np.asarray([[[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in angles[key]]])
        for key in ("shots", "queries")
    )
    labels, truth = np.arange(2), [0, 0, 0, 0, 1, 1, 1, 1]
    before = logits(ClassMean(), shots, labels, queries).argmax(-1)[0]
    after = logits(SoftKMeans(scale=10.0, steps=10), shots, labels, queries).argmax(-1)[0]
    assert before.tolist() == [1, 0, 0, 1, 1, 1, 1, 1]
    assert after.tolist() == truth


def test_balanced_weights_have_equal_sums() -> None:
    queries, means = paddle.to_tensor(draw(EPISODES, 40, DIM)), paddle.to_tensor(draw(EPISODES, WAY, DIM, key="means"))
    weights = SoftKMeans(scale=10.0, balanced=True)._weights(queries, means).numpy()
    np.testing.assert_allclose(weights.sum(2), 1, atol=1e-12)
    np.testing.assert_allclose(weights.sum(1), 10, rtol=0.05)
    plain = SoftKMeans(scale=10.0)._weights(queries, means).numpy()
    assert np.abs(plain.sum(1) - 10).max() > 3


def test_the_lengths_of_queries_do_not_matter() -> None:
    labels = np.repeat(np.arange(WAY), 2)
    inputs, query = draw(EPISODES, 2 * WAY, DIM), draw(EPISODES, QUERIES, DIM, key="query")
    lengths = generator(0, "lengths").uniform(0.2, 5, (EPISODES, QUERIES, 1))
    found = logits(SoftKMeans(), inputs, labels, lengths * query)
    np.testing.assert_allclose(found, logits(SoftKMeans(), inputs, labels, query), atol=1e-12)


def test_an_episode_does_not_depend_on_the_others() -> None:
    labels = np.repeat(np.arange(WAY), 2)
    inputs, query = draw(EPISODES, 2 * WAY, DIM), draw(EPISODES, QUERIES, DIM, key="query")
    together = logits(SoftKMeans(), inputs, labels, query)
    alone = logits(SoftKMeans(), inputs[1:2], labels, query[1:2])
    np.testing.assert_allclose(together[1:2], alone, atol=1e-12)


def test_needs_the_queries() -> None:
    support = Support(paddle.to_tensor(draw(1, 2, DIM)), paddle.to_tensor(np.arange(2)), 2, np.zeros(1, dtype=np.int64))
    with pytest.raises(ValueError, match="needs the unlabelled queries"):
        SoftKMeans().adapt(support)


def test_facts() -> None:
    method = SoftKMeans(name="mine")
    assert (method.name, method.inputs, method.transductive) == ("mine", "embedding", True)
