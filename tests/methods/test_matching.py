"""Matching Networks against plain loops and LSTM cells in numpy, float64."""

import math
from collections.abc import Iterator

import numpy as np
import paddle
import pytest

from ppfsl.methods.base import Support
from ppfsl.methods.matching import FullContext, Matching
from ppfsl.randomness import generator

EPISODES, WAY, DIM, QUERIES = 2, 3, 4, 5


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    before = paddle.get_default_dtype()
    paddle.set_default_dtype("float64")
    yield
    paddle.set_default_dtype(before)


def draw(*shape: int, key: str = "x") -> np.ndarray:
    """Vectors of length one."""
    x = generator(0, "matching", key, *shape).standard_normal(shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def task(shot: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Support [E, S, D], labels in any order, query [E, Q, D]."""
    labels = generator(0, "order", shot).permutation(np.repeat(np.arange(WAY), shot))
    return draw(EPISODES, WAY * shot, DIM), labels, draw(EPISODES, QUERIES, DIM, key="query")


def logits(method: Matching, inputs: np.ndarray, labels: np.ndarray, query: np.ndarray) -> paddle.Tensor:
    support = Support(paddle.to_tensor(inputs), paddle.to_tensor(labels), WAY, np.arange(len(inputs)))
    return method.adapt(support)(paddle.to_tensor(query))


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def attention(query: np.ndarray, shots: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """p(k | q) of one episode by the paper's equation 1: [Q, way]."""
    found = np.zeros((len(query), WAY))
    for q, one in enumerate(query):
        cosines = [float(one @ shot) / math.sqrt(float(one @ one) * float(shot @ shot)) for shot in shots]
        total = sum(math.exp(c / temperature) for c in cosines)
        for label, c in zip(labels.tolist(), cosines, strict=True):
            found[q, label] += math.exp(c / temperature) / total
    return found


# --- without context


@pytest.mark.parametrize("shot", [1, 3])
@pytest.mark.parametrize("temperature", [1.0, 0.05])
def test_probability_of_a_class_is_the_attention_on_its_shots(shot: int, temperature: float) -> None:
    inputs, labels, query = task(shot)
    found = softmax(logits(Matching(temperature=temperature), inputs, labels, query).numpy())
    assert found.shape == (EPISODES, QUERIES, WAY)
    for e in range(EPISODES):
        np.testing.assert_allclose(found[e], attention(query[e], inputs[e], labels, temperature), atol=1e-12)


def test_two_shots_outvote_a_nearer_one() -> None:
    # cos 0.9 for class 0; cos 0.8 for both shots of class 1.
    inputs = np.asarray([[[0.9, math.sqrt(1 - 0.81)], [0.8, 0.6], [0.8, -0.6]]])
    support = Support(paddle.to_tensor(inputs), paddle.to_tensor(np.asarray([0, 1, 1])), 2, np.arange(1))
    found = softmax(Matching().adapt(support)(paddle.to_tensor(np.asarray([[[1.0, 0]]]))).numpy())[0, 0]
    near, far = math.exp(0.9), 2 * math.exp(0.8)
    np.testing.assert_allclose(found, [near / (near + far), far / (near + far)], atol=1e-12)
    sharp = Matching(temperature=0.01).adapt(support)(paddle.to_tensor(np.asarray([[[1.0, 0]]])))
    assert sharp.numpy().argmax(-1).tolist() == [[0]]


# --- with full context embeddings


def context(steps: int) -> FullContext:
    """All weights, the biases among them, drawn at random."""
    layer = FullContext(DIM, steps)
    for number, parameter in enumerate(layer.parameters()):
        parameter.set_value(0.7 * generator(1, "context", number).standard_normal(tuple(parameter.shape)))
    return layer


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


Weights = dict[str, np.ndarray]


def lstm(weights: Weights, name: str, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One step of an LSTM; `name` holds a % for the word between "weight" or "bias" and its number."""
    gates = weights[name % "weight_ih"] @ x + weights[name % "bias_ih"]
    gates = gates + weights[name % "weight_hh"] @ h + weights[name % "bias_hh"]
    enter, forget, candidate, leave = np.split(gates, 4)
    c = sigmoid(forget) * c + sigmoid(enter) * np.tanh(candidate)
    return sigmoid(leave) * np.tanh(c), c


def numpy_of_support(weights: Weights, shots: np.ndarray) -> np.ndarray:
    """g of one episode, appendix A.2 of the paper."""
    found = shots.copy()
    for name, order in (("reader.%s_l0", range(len(shots))), ("reader.%s_l0_reverse", reversed(range(len(shots))))):
        h = c = np.zeros(DIM)
        for place in order:
            h, c = lstm(weights, name, shots[place], h, c)
            found[place] += h
    return found


def numpy_of_query(weights: Weights, query: np.ndarray, shots: np.ndarray, steps: int) -> np.ndarray:
    """f of one episode, appendix A.1 of the paper; before the first step h is 0."""
    found = np.empty_like(query)
    for q, one in enumerate(query):
        h, c = np.zeros(DIM), np.zeros(DIM)
        for _ in range(steps):
            shares = softmax(np.asarray([float(h @ shot) for shot in shots]))
            read = sum(share * shot for share, shot in zip(shares, shots, strict=True))
            output, c = lstm(weights, "cell.%s", np.concatenate([one, read]), h, c)
            h = output + one
        found[q] = h
    return found


@pytest.mark.parametrize("shot", [1, 3])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_full_context_matches_lstm_cells_in_numpy(shot: int, steps: int) -> None:
    inputs, labels, query = task(shot)
    layer = context(steps)
    weights = {name: parameter.numpy() for name, parameter in layer.named_parameters()}
    assert len(weights) == 12
    found_shots = layer.of_support(paddle.to_tensor(inputs)).numpy()
    found_query = layer.of_query(paddle.to_tensor(query), paddle.to_tensor(inputs)).numpy()
    found = softmax(logits(Matching(layer, 0.5), inputs, labels, query).numpy())
    for e in range(EPISODES):
        shots = numpy_of_support(weights, inputs[e])
        np.testing.assert_allclose(found_shots[e], shots, atol=1e-12)
        np.testing.assert_allclose(found_query[e], numpy_of_query(weights, query[e], inputs[e], steps), atol=1e-12)
        read = numpy_of_query(weights, query[e], shots, steps)
        np.testing.assert_allclose(found[e], attention(read, shots, labels, 0.5), atol=1e-12)


def test_lstms_without_weights_leave_the_embeddings_as_they_are() -> None:
    inputs, labels, query = task(2)
    layer = context(3)
    for parameter in layer.parameters():
        parameter.set_value(np.zeros(tuple(parameter.shape)))
    np.testing.assert_allclose(
        logits(Matching(layer), inputs, labels, query).numpy(), logits(Matching(), inputs, labels, query).numpy()
    )


def test_order_of_the_support_set_matters_with_full_context_alone() -> None:
    inputs, labels, query = task(2)
    order = np.arange(len(labels))[::-1].copy()
    for layer in (None, context(2)):
        straight = logits(Matching(layer), inputs, labels, query).numpy()
        turned = logits(Matching(layer), inputs[:, order], labels[order], query).numpy()
        assert (np.abs(straight - turned).max() < 1e-9) == (layer is None)


# --- training


@pytest.mark.parametrize("full", [False, True])
def test_loss_is_minus_the_logarithm_of_the_right_classs_attention(full: bool) -> None:
    inputs, labels, query = task(3)
    layer = context(2) if full else None
    truth = generator(0, "truth").integers(0, WAY, (EPISODES, QUERIES))
    total = 0.0
    for e in range(EPISODES):
        shots, read = inputs[e], query[e]
        if layer is not None:
            weights = {name: parameter.numpy() for name, parameter in layer.named_parameters()}
            shots = numpy_of_support(weights, shots)
            read = numpy_of_query(weights, read, shots, 2)
        shares = attention(read, shots, labels, 0.3)
        total -= sum(math.log(shares[q, truth[e, q]]) for q in range(QUERIES))
    method = Matching(layer, 0.3)
    loss = method.loss(logits(method, inputs, labels, query), paddle.to_tensor(truth))
    assert loss.shape == []
    assert loss.item() == pytest.approx(total / (EPISODES * QUERIES), rel=1e-9)


def test_facts() -> None:
    method = Matching(name="mine")
    assert (method.name, method.inputs, method.transductive, method.layer) == ("mine", "embedding", False, None)
    assert method.temperature == 1
