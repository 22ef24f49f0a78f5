"""The learned optimizer: steps by hand, the gradients that it is shown, its own gradient, and that it learns."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from ppfsl.methods.base import Support
from ppfsl.methods.layers import build_layer
from ppfsl.methods.learned_optimizer import LearnedOptimizer, LearnedOptimizerHead
from ppfsl.randomness import generator

EPISODES, WAY, DIM, SCALE = 2, 3, 4, 5.0
LABELS = np.asarray([1, 0, 2, 2, 1, 0])


def optimizer(hidden: int = 3, scale: float = 0.1) -> LearnedOptimizer:
    """In float64, nothing in it at zero."""
    layer: Any = build_layer({"name": "learned_optimizer", "arguments": {"hidden": hidden, "scale": scale}}, 0)
    layer.to(dtype="float64")
    for name, parameter in layer.named_parameters():
        parameter.set_value(generator(0, "weights", name).normal(0, 0.7, parameter.shape))
    return layer


def unit(*shape: int, key: str) -> np.ndarray:
    x = generator(0, key).normal(size=(*shape, DIM))
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


SUPPORT, QUERY = unit(EPISODES, len(LABELS), key="support"), unit(EPISODES, 5, key="query")


def support(inputs: np.ndarray = SUPPORT) -> Support:
    return Support(paddle.to_tensor(inputs), paddle.to_tensor(LABELS), WAY, np.arange(len(inputs)))


def answers(head: LearnedOptimizerHead) -> paddle.Tensor:
    return head.adapt(support())(paddle.to_tensor(QUERY))


class Witness:
    """Stands for an optimizer, and keeps what it is shown and what it answers."""

    def __init__(self, layer: Any) -> None:
        self.layer, self.shown, self.updates = layer, [], []

    def start(self, coordinates: int) -> Any:
        return self.layer.start(coordinates)

    def __call__(self, gradients: paddle.Tensor, states: Any) -> Any:
        self.shown.append(gradients.numpy())
        update, states = self.layer(gradients, states)
        self.updates.append(update.numpy())
        return update, states


class Replay(Witness):
    """Shows the optimizer the gradients of another time."""

    def __init__(self, layer: Any, shown: list[np.ndarray]) -> None:
        super().__init__(layer)
        self.others = iter(shown)

    def __call__(self, gradients: paddle.Tensor, states: Any) -> Any:
        return super().__call__(paddle.to_tensor(next(self.others)), states)


# --- by hand


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def cell_by_hand(cell: Any, x: np.ndarray, hidden: np.ndarray, memory: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gates in the order input, forget, candidate, output."""
    w, u, b, c = (getattr(cell, name).numpy() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    take, forget, candidate, out = np.split(x @ w.T + b + hidden @ u.T + c, 4, axis=-1)
    memory = sigmoid(forget) * memory + sigmoid(take) * np.tanh(candidate)
    return sigmoid(out) * np.tanh(memory), memory


def seen(gradient: np.ndarray) -> np.ndarray:
    assert np.abs(gradient).min() > np.exp(-10)
    return np.stack([np.log(np.abs(gradient)) / 10, np.sign(gradient)], axis=-1)


def test_two_steps_by_hand() -> None:
    layer = optimizer(scale=0.3)
    target, one = np.eye(WAY)[LABELS], np.zeros((1, 3))
    for episode in range(EPISODES):
        x, weight = SUPPORT[episode], np.zeros((DIM, WAY))
        state = {place: {level: (one, one) for level in (0, 1)} for place in np.ndindex(DIM, WAY)}
        for _ in range(2):
            odds = np.exp(SCALE * x @ weight)
            gradient = SCALE * x.T @ (odds / odds.sum(1, keepdims=True) - target) / len(x)
            for place, levels in state.items():  # every number by itself
                signal = seen(gradient[place])[None]
                for level, cell in enumerate(layer.cells):
                    levels[level] = cell_by_hand(cell, signal, *levels[level])
                    signal = levels[level][0]
                weight[place] += 0.3 * (signal @ layer.output.weight.numpy() + layer.output.bias.numpy()).item()
        found = LearnedOptimizerHead(layer, 2, SCALE).adapt(support())(paddle.to_tensor(QUERY))[episode]
        np.testing.assert_allclose(found.numpy(), SCALE * QUERY[episode] @ weight, rtol=1e-9)


def test_one_step_of_the_optimizer_keeps_shapes_and_takes_numbers_in_any_order() -> None:
    layer, gradient = optimizer(), generator(0, "g").normal(size=(2, 3, 4))
    update, states = layer(paddle.to_tensor(gradient), layer.start(24))
    assert update.shape == [2, 3, 4]
    assert [[part.shape for part in state] for state in states] == [[[24, 3]] * 2] * 2
    order = generator(0, "order").permutation(24)
    shuffled, others = layer(paddle.to_tensor(gradient.ravel()[order]), layer.start(24))
    np.testing.assert_allclose(shuffled.numpy(), update.numpy().ravel()[order], rtol=1e-12)
    for state, other in zip(states, others, strict=True):
        for part, same in zip(state, other, strict=True):
            np.testing.assert_allclose(same.numpy(), part.numpy()[order], rtol=1e-12)


# --- what it is shown


def test_the_optimizer_is_shown_the_gradient_of_each_episodes_mean_cross_entropy() -> None:
    witness: Any = Witness(optimizer())
    answers(LearnedOptimizerHead(witness, 3, SCALE))
    assert len(witness.shown) == 3
    weight = np.zeros((EPISODES, DIM, WAY))
    for shown, update in zip(witness.shown, witness.updates, strict=True):
        for episode in range(EPISODES):
            own = paddle.to_tensor(weight[episode], stop_gradient=False)
            F.cross_entropy(SCALE * paddle.to_tensor(SUPPORT[episode]) @ own, paddle.to_tensor(LABELS)).backward()
            np.testing.assert_allclose(shown[episode], own.grad.numpy(), rtol=1e-9, atol=1e-14)
        weight += update


def test_the_answers_are_those_of_the_sum_of_all_updates() -> None:
    witness: Any = Witness(optimizer())
    found = answers(LearnedOptimizerHead(witness, 3, SCALE))
    np.testing.assert_allclose(found.numpy(), SCALE * QUERY @ np.sum(witness.updates, axis=0), rtol=1e-12)


def test_more_steps_continue_fewer() -> None:
    few, many = [Witness(optimizer()) for _ in range(2)]
    for witness, steps in ((few, 2), (many, 5)):
        layer: Any = witness
        answers(LearnedOptimizerHead(layer, steps, SCALE))
    assert (len(few.updates), len(many.updates)) == (2, 5)
    for one, other in zip(few.updates, many.updates, strict=False):
        assert np.array_equal(one, other)
    assert not np.allclose(many.updates[1], many.updates[2], rtol=0.01)


def test_episodes_are_fitted_independently() -> None:
    head = LearnedOptimizerHead(optimizer(), 4, SCALE)
    together = answers(head).numpy()
    for episode in range(EPISODES):
        one = slice(episode, episode + 1)
        alone = head.adapt(support(SUPPORT[one]))(paddle.to_tensor(QUERY[one])).numpy()
        np.testing.assert_allclose(alone, together[one], rtol=1e-12)
    assert not np.allclose(together[0], together[1], atol=0.1)


# --- its own gradient


def gradient_of(layer: LearnedOptimizer, loss: paddle.Tensor) -> dict[str, np.ndarray]:
    loss.backward()
    return {name: parameter.grad.numpy() for name, parameter in layer.named_parameters()}


def weighted(logits: paddle.Tensor) -> paddle.Tensor:
    return (logits * paddle.to_tensor(generator(0, "weighted").normal(size=logits.shape))).sum()


def slope(layer: Any, name: str, direction: np.ndarray, loss: Callable[[], float]) -> float:
    parameter = dict(layer.named_parameters())[name]
    before, ends = parameter.numpy().copy(), []
    for step in (1e-5, -1e-5):
        parameter.set_value(before + step * direction)
        ends.append(loss())
    parameter.set_value(before)
    return (ends[0] - ends[1]) / 2e-5


def test_its_gradient_takes_the_gradients_that_it_is_shown_as_given() -> None:
    layer = optimizer()
    head, witness = LearnedOptimizerHead(layer, 4, SCALE), Witness(layer)
    kept: Any = witness
    answers(replace(head, layer=kept))
    found = gradient_of(layer, weighted(answers(head)))
    assert len(found) == 10

    def frozen() -> float:
        replay: Any = Replay(layer, witness.shown)
        return weighted(answers(replace(head, layer=replay))).item()

    true = []
    for name, gradient in found.items():
        direction = generator(0, "direction", name).normal(size=gradient.shape)
        expected = slope(layer, name, direction, frozen)
        assert (gradient * direction).sum() == pytest.approx(expected, rel=1e-6, abs=1e-8), name
        assert abs(expected) > 1e-6, name
        true.append(slope(layer, name, direction, lambda: weighted(answers(head)).item()) / expected)
    assert np.abs(np.asarray(true) - 1).max() > 0.05  # gradients that are shown do depend on its weights


def test_embeddings_learn_from_the_queries_alone() -> None:
    inputs, query = (paddle.to_tensor(value, stop_gradient=False) for value in (SUPPORT, QUERY))
    shown = Support(inputs, paddle.to_tensor(LABELS), WAY, np.arange(EPISODES))
    weighted(LearnedOptimizerHead(optimizer(), 2, SCALE).adapt(shown)(query)).backward()
    assert inputs.grad is None
    assert np.abs(query.grad.numpy()).min() > 1e-6


# --- learning


def test_it_learns_to_fit_heads() -> None:
    """One shot of 5 classes about random directions; the queries' loss by far lower than before, most answers right."""
    layer: Any = build_layer({"name": "learned_optimizer", "arguments": {"hidden": 10}}, 0)
    head, labels = LearnedOptimizerHead(layer, 5), np.arange(5)
    truth = paddle.to_tensor(np.tile(np.repeat(labels, 3), (8, 1)))

    def score(*key: int | str) -> tuple[paddle.Tensor, float]:
        rng = generator(0, *key)
        centres = rng.normal(size=(8, 5, 1, 16))
        images = centres + 0.4 * rng.normal(size=(8, 5, 4, 16))
        x = paddle.to_tensor((images / np.linalg.norm(images, axis=-1, keepdims=True)).astype(np.float32))
        own = Support(x[:, :, 0], paddle.to_tensor(labels), 5, np.arange(8))
        logits = head.adapt(own)(x[:, :, 1:].reshape([8, 15, 16]))
        return head.loss(logits, truth), float((logits.argmax(-1) == truth).astype("float32").mean())

    before, _ = score("test")
    adam = paddle.optimizer.Adam(5e-3, parameters=layer.parameters())
    for step in range(150):
        loss, _ = score("training", step)
        loss.backward()
        adam.step()
        adam.clear_grad()
    after, accuracy = score("test")
    assert before.item() > 1.3
    assert after.item() < 0.6
    assert accuracy > 0.9
