"""Siamese networks against plain loops in float64."""

from collections.abc import Iterator

import numpy as np
import paddle
import pytest

from ppfsl.methods import siamese
from ppfsl.methods.base import Support
from ppfsl.methods.siamese import PairHead, Siamese
from ppfsl.randomness import generator

EPISODES, WAY, DIM, QUERIES = 2, 3, 4, 5
MERGES = ("absolute_difference", "concatenation")
HIDDEN = ((), (6,), (6, 3))


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    before = paddle.get_default_dtype()
    paddle.set_default_dtype("float64")
    yield
    paddle.set_default_dtype(before)


def draw(*shape: int, key: str = "x") -> np.ndarray:
    return generator(0, "siamese", key, *shape).standard_normal(shape)


def head(merge: str, hidden: tuple[int, ...]) -> PairHead:
    """All weights, the biases among them, drawn at random."""
    layer = PairHead(DIM, merge, hidden)
    for number, parameter in enumerate(layer.parameters()):
        parameter.set_value(generator(1, "head", number).standard_normal(tuple(parameter.shape)))
    return layer


def perceptron(layer: PairHead, merged: np.ndarray) -> float:
    """Fully connected layers, ReLU between them, neuron by neuron."""
    values = merged.tolist()
    for number, linear in enumerate(layer.linears):
        weight, bias = linear.weight.numpy(), linear.bias.numpy()
        if number:
            values = [max(0.0, value) for value in values]
        values = [bias[j] + sum(v * weight[i, j] for i, v in enumerate(values)) for j in range(len(bias))]
    (log_odds,) = values
    return float(log_odds)


def numpy_log_odds(layer: PairHead, left: np.ndarray, right: np.ndarray) -> float:
    if layer.arguments["merge"] == "absolute_difference":
        return perceptron(layer, np.abs(left - right))
    orders = (np.concatenate([left, right]), np.concatenate([right, left]))
    return sum(perceptron(layer, merged) for merged in orders) / 2


def run(layer: PairHead, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return layer(paddle.to_tensor(left), paddle.to_tensor(right)).numpy()


heads = pytest.mark.parametrize(
    ("merge", "hidden"), [(merge, hidden) for merge in MERGES for hidden in HIDDEN], ids=lambda value: str(value)
)


@heads
def test_pairs_match_plain_loops(merge: str, hidden: tuple[int, ...]) -> None:
    layer, left, right = head(merge, hidden), draw(8, DIM, key="left"), draw(8, DIM, key="right")
    found = run(layer, left, right)
    assert found.shape == (8,)
    for pair in range(8):
        assert found[pair] == pytest.approx(numpy_log_odds(layer, left[pair], right[pair]), rel=1e-9, abs=1e-9)


@heads
def test_which_picture_is_left_does_not_matter(merge: str, hidden: tuple[int, ...]) -> None:
    layer, left, right = head(merge, hidden), draw(8, DIM, key="left"), draw(8, DIM, key="right")
    np.testing.assert_allclose(run(layer, left, right), run(layer, right, left), atol=1e-12)


@heads
def test_leading_dimensions_broadcast(merge: str, hidden: tuple[int, ...]) -> None:
    layer, left, right = head(merge, hidden), draw(3, 1, DIM, key="left"), draw(4, DIM, key="right")
    found = run(layer, left, right)
    assert found.shape == (3, 4)
    for i, j in np.ndindex(3, 4):
        assert found[i, j] == pytest.approx(numpy_log_odds(layer, left[i, 0], right[j]), rel=1e-9, abs=1e-9)


@heads
@pytest.mark.parametrize("shots", ["mean", "max"])
@pytest.mark.parametrize("shot", [1, 3])
def test_logits_match_plain_loops(merge: str, hidden: tuple[int, ...], shots: str, shot: int) -> None:
    layer = head(merge, hidden)
    labels = generator(0, "order", shot).permutation(np.repeat(np.arange(WAY), shot))
    inputs, query = draw(EPISODES, WAY * shot, DIM), draw(EPISODES, QUERIES, DIM, key="query")
    support = Support(paddle.to_tensor(inputs), paddle.to_tensor(labels), WAY, np.arange(EPISODES))
    found = Siamese(layer, shots).adapt(support)(paddle.to_tensor(query)).numpy()
    assert found.shape == (EPISODES, QUERIES, WAY)
    for e, q, k in np.ndindex(*found.shape):
        own = [numpy_log_odds(layer, query[e, q], inputs[e, i]) for i in range(len(labels)) if labels[i] == k]
        assert found[e, q, k] == pytest.approx(max(own) if shots == "max" else sum(own) / shot, rel=1e-9, abs=1e-9)


def test_papers_head_is_the_weighted_city_block_distance() -> None:
    layer = PairHead(2, "absolute_difference", ())
    layer.linears[0].weight.set_value(np.asarray([[-1.0], [-3.0]]))
    layer.linears[0].bias.set_value(np.asarray([5.0]))
    assert run(layer, np.asarray([[1.0, 2]]), np.asarray([[4.0, 1]])).tolist() == [5 - 3 - 3]


def test_log_odds_still_differ_where_sigmoids_no_longer_do() -> None:
    layer = PairHead(1, "absolute_difference", ())
    layer.linears[0].weight.set_value(np.asarray([[-1.0]]))
    layer.linears[0].bias.set_value(np.asarray([60.0]))
    inputs, query = np.asarray([[[1.0], [0.5]]]), np.asarray([[[0.0]]])
    support = Support(paddle.to_tensor(inputs), paddle.to_tensor(np.asarray([0, 1])), 2, np.arange(1))
    found = Siamese(layer).adapt(support)(paddle.to_tensor(query))
    assert found.argmax(-1).numpy().tolist() == [[1]]
    assert len(set(paddle.nn.functional.sigmoid(found).numpy().ravel().tolist())) == 1


def test_concatenation_without_hidden_layers_cannot_compare() -> None:
    # A sum of what the one and what the other picture are like: the best class is the same for every query.
    layer = head("concatenation", ())
    inputs, query = draw(1, WAY, DIM), draw(1, 30, DIM, key="query")
    support = Support(paddle.to_tensor(inputs), paddle.to_tensor(np.arange(WAY)), WAY, np.arange(1))
    found = Siamese(layer).adapt(support)(paddle.to_tensor(query)).numpy().argmax(-1)
    assert len(set(found.ravel().tolist())) == 1


def test_facts() -> None:
    method = Siamese(head("concatenation", (6,)), name="mine")
    assert (method.name, method.inputs, method.transductive, method.shots) == ("mine", "projected", False, "mean")
    assert [linear.weight.shape for linear in method.layer.linears] == [[2 * DIM, 6], [6, 1]]


def test_queries_are_merged_in_parts_when_the_embeddings_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = head("absolute_difference", (6,))
    shots, queries = (paddle.to_tensor(draw(2, number, DIM)) for number in (6, 7))
    support = Support(shots, paddle.to_tensor([0, 0, 1, 1, 2, 2]), 3, np.arange(2))
    whole = Siamese(layer).adapt(support)(queries).numpy()
    monkeypatch.setattr(siamese, "_MOST_NUMBERS", 3 * 2 * 6 * DIM)  # three queries at a time
    np.testing.assert_allclose(Siamese(layer).adapt(support)(queries).numpy(), whole, atol=1e-12)
