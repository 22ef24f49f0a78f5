"""Baseline and Baseline++ against stochastic gradient descent by hand, one episode at a time, in float64."""

from typing import Any

import numpy as np
import paddle
import pytest

from ppfsl.config import BaselineConfig
from ppfsl.methods.base import Support
from ppfsl.methods.baseline import Baseline
from ppfsl.randomness import generator

WAY, SHOT, DIM, QUERIES = 3, 2, 4, 5
COUNT = WAY * SHOT
LABELS = np.asarray([2, 0, 1, 1, 0, 2])
NAMES = ("baseline", "baseline++")
NUMBERS = (4, 0, 17)


def config(name: str, **changes: Any) -> BaselineConfig:
    return BaselineConfig.model_validate({"name": name, "epochs": 3, "lr": 0.1, **changes})


def draw(*shape: int, key: str = "x") -> np.ndarray:
    return generator(0, "baseline", key, *shape).standard_normal(shape)


def task() -> tuple[np.ndarray, np.ndarray]:
    return draw(len(NUMBERS), COUNT, DIM), draw(len(NUMBERS), QUERIES, DIM, key="query")


def logits(method: Baseline, inputs: np.ndarray, query: np.ndarray, numbers: Any = NUMBERS) -> np.ndarray:
    support = Support(paddle.to_tensor(inputs), paddle.to_tensor(LABELS), WAY, np.asarray(numbers))
    return method.adapt(support)(paddle.to_tensor(query)).numpy()


def unit(x: np.ndarray, axis: int) -> np.ndarray:
    return x / np.sqrt((x * x).sum(axis, keepdims=True))


def numpy_logits(settings: BaselineConfig, weight: np.ndarray, bias: np.ndarray, x: np.ndarray) -> np.ndarray:
    if settings.name == "baseline":
        return x @ weight + bias
    return settings.scale * unit(x, 1) @ unit(weight, 0)


def numpy_gradients(
    settings: BaselineConfig, weight: np.ndarray, bias: np.ndarray, x: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of the mean cross-entropy, by the chain rule."""
    powers = np.exp(numpy_logits(settings, weight, bias, x))
    error = (powers / powers.sum(1, keepdims=True) - np.eye(WAY)[labels]) / len(labels)
    if settings.name == "baseline":
        return x.T @ error, error.sum(0)
    directions = unit(weight, 0)
    slope = settings.scale * unit(x, 1).T @ error
    along = directions * (directions * slope).sum(0)  # which normalisation takes away
    return (slope - along) / np.sqrt((weight * weight).sum(0)), np.zeros(WAY)


class Sgd:
    """PyTorch's: buffer = gradient at the first step, momentum x buffer + (1 - dampening) x gradient after it."""

    def __init__(self, settings: BaselineConfig) -> None:
        self._settings, self._buffer = settings, None

    def moved(self, value: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        gradient = gradient + self._settings.weight_decay * value
        if self._buffer is None:
            self._buffer = gradient
        else:
            self._buffer = self._settings.momentum * self._buffer + (1 - self._settings.dampening) * gradient
        return value - self._settings.lr * self._buffer


def numpy_fit(settings: BaselineConfig, seed: int, number: int, shots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight [D, way] and bias [way] of one episode."""
    weight = generator(seed, "classifier", number).uniform(-1, 1, (DIM, WAY)) / np.sqrt(DIM)
    bias = np.zeros(WAY)
    of_weight, of_bias = Sgd(settings), Sgd(settings)
    passes = np.tile(np.arange(COUNT), (settings.epochs, 1))
    for order in generator(seed, "order", number).permuted(passes, axis=1):
        while len(order):
            batch, order = order[: settings.batch_size], order[settings.batch_size :]
            slopes = numpy_gradients(settings, weight, bias, shots[batch], LABELS[batch])
            weight, bias = of_weight.moved(weight, slopes[0]), of_bias.moved(bias, slopes[1])
    return weight, bias


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch_size", [1, 4, 6, 100])
@pytest.mark.parametrize(
    "optimizer",
    [{}, {"momentum": 0.8, "dampening": 0.25, "weight_decay": 0.1}, {"momentum": 0.0, "dampening": 0.0}],
    ids=["default", "other", "plain"],
)
def test_fit_matches_numpy(name: str, batch_size: int, optimizer: dict[str, float]) -> None:
    settings = config(name, batch_size=batch_size, **optimizer)
    inputs, query = task()
    found = logits(Baseline(settings, 7), inputs, query)
    assert found.shape == (len(NUMBERS), QUERIES, WAY)
    for e, number in enumerate(NUMBERS):
        weight, bias = numpy_fit(settings, 7, number, inputs[e])
        np.testing.assert_allclose(found[e], numpy_logits(settings, weight, bias, query[e]), atol=1e-9)


def test_default_fit_matches_numpy_after_all_of_its_epochs() -> None:
    for name in NAMES:
        settings = BaselineConfig(name=name)
        assert (settings.epochs, settings.batch_size, settings.lr) == (100, 4, 0.01)
        assert (settings.momentum, settings.dampening, settings.weight_decay) == (0.9, 0.9, 0.001)
        inputs, query = task()
        weight, bias = numpy_fit(settings, 0, NUMBERS[0], inputs[0])
        found = logits(Baseline(settings), inputs[:1], query[:1], NUMBERS[:1])[0]
        np.testing.assert_allclose(found, numpy_logits(settings, weight, bias, query[0]), atol=1e-9)


def test_gradients_of_this_page_match_finite_differences() -> None:
    """The yardstick itself."""
    x, weight, bias = draw(COUNT, DIM), draw(DIM, WAY, key="weight"), draw(WAY, key="bias")

    def loss(settings: BaselineConfig, weight: np.ndarray, bias: np.ndarray) -> float:
        found = numpy_logits(settings, weight, bias, x)
        return float((np.log(np.exp(found).sum(1)) - found[np.arange(COUNT), LABELS]).mean())

    for name in NAMES:
        settings = config(name)
        slopes = numpy_gradients(settings, weight, bias, x, LABELS)
        for place in np.ndindex(DIM, WAY):
            step = np.zeros_like(weight)
            step[place] = 1e-6
            expected = (loss(settings, weight + step, bias) - loss(settings, weight - step, bias)) / 2e-6
            assert slopes[0][place] == pytest.approx(expected, abs=1e-8)
        for k in range(WAY):
            step = 1e-6 * np.eye(WAY)[k]
            expected = (loss(settings, weight, bias + step) - loss(settings, weight, bias - step)) / 2e-6
            assert slopes[1][k] == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_answer_depends_on_seed_and_episode_number_alone(name: str) -> None:
    inputs, query = task()
    settings = config(name)

    def one(seed: int, number: int) -> np.ndarray:
        return logits(Baseline(settings, seed), inputs[:1], query[:1], [number])

    assert np.array_equal(one(0, 3), one(0, 3))
    assert not np.allclose(one(0, 3), one(0, 4))
    assert not np.allclose(one(0, 3), one(1, 3))
    same = np.repeat(inputs[:1], 2, 0), np.repeat(query[:1], 2, 0)
    both = logits(Baseline(settings), *same, [4, 3])
    np.testing.assert_allclose(both, np.concatenate([one(0, 4), one(0, 3)]), atol=1e-12)


@pytest.mark.parametrize("factor", [0.5, 40.0])
def test_only_the_linear_classifier_sees_how_long_vectors_are(factor: float) -> None:
    inputs, query = task()
    for name in NAMES:
        one = logits(Baseline(config(name)), inputs, query)
        other = logits(Baseline(config(name)), factor * inputs, factor * query)
        assert np.allclose(one, other, atol=1e-9) == (name == "baseline++")


def test_cosine_classifier_stays_within_its_scale() -> None:
    inputs, query = task()
    found = logits(Baseline(config("baseline++", scale=5.0)), 100 * inputs, 100 * query)
    assert 2 < np.abs(found).max() <= 5 + 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_fitting_lowers_the_loss_of_the_support_set(name: str) -> None:
    inputs, _ = task()
    losses = []
    for epochs in (1, 60):
        found = logits(Baseline(config(name, epochs=epochs)), inputs, inputs)
        powers = np.exp(found)
        shares = (powers / powers.sum(-1, keepdims=True))[:, np.arange(COUNT), LABELS]
        losses.append(-np.log(shares).mean())
    assert losses[1] < 0.8 * losses[0]


def test_gradients_do_not_flow_back_into_the_embeddings() -> None:
    inputs, query = task()
    shots = paddle.to_tensor(inputs, stop_gradient=False)
    support = Support(shots, paddle.to_tensor(LABELS), WAY, np.asarray(NUMBERS))
    assert Baseline(config("baseline")).adapt(support)(paddle.to_tensor(query)).stop_gradient
    assert shots.grad is None


def test_facts() -> None:
    for name in NAMES:
        method = Baseline(config(name))
        assert (method.name, method.inputs, method.transductive) == (name, "projected", False)
        assert Baseline(config(name, label="mine")).name == "mine"
