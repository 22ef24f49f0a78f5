"""The LSTM meta-learner: steps by hand, what it becomes with constant gates, and its gradient at frozen gradients."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from ppfsl.backbones.embedder import Architecture
from ppfsl.backbones.weights import weights_of
from ppfsl.methods import lstm_meta_learner
from ppfsl.methods.coordinate_lstm import preprocessed
from ppfsl.methods.layers import build_layer, describe
from ppfsl.methods.lstm_meta_learner import LstmMetaLearner, LstmTaskHead
from ppfsl.methods.task_network import copies, query_logits
from ppfsl.randomness import generator
from ppfsl.training.checkpoint import Checkpoint, load_checkpoint, method_layer, save_checkpoint

MODES = ("transductive", "support_statistics", "running")
GATES = {
    *("cell.weight_ih", "cell.weight_hh", "cell.bias_ih", "cell.bias_hh"),
    *(f"{gate}.{part}" for gate in ("forget_gate", "input_gate") for part in ("weight", "bias")),
}
KEYS: dict[str, Any] = {"name": "lstm_meta_learner", "inner_steps": 3, "inner_lr": 0.3, "hidden": 4}
modes = pytest.mark.parametrize("batch_norm", MODES)


def adapted(method: Any, task: Any) -> dict[str, paddle.Tensor]:
    return method.adapted(copies(method.network.weights()), task.support, task.support_labels, False, task.chance)


def own(method: Any) -> dict[str, paddle.Tensor]:
    """All that it learns; the classifier's weights are the network's."""
    gates = {name: one for name, one in method.layer.named_parameters() if not name.startswith("linear")}
    return {**method.network.weights(), **gates}


def drawn(method: Any) -> Any:
    """With gates that depend on all that they see."""
    for name, parameter in own(method).items():
        if name in GATES:
            parameter.set_value(generator(0, "gates", name).normal(0, 0.5, parameter.shape))
    return method


def constant(method: Any, lr: float) -> Any:
    """With gates of 1 and lr, whatever they see."""
    for gate, logit in ((method.layer.forget_gate, 50.0), (method.layer.input_gate, np.log(lr / (1 - lr)))):
        gate.weight.set_value(np.zeros(gate.weight.shape))
        gate.bias.set_value(np.full(1, logit))
    return method


def taken(method: Any) -> dict[str, np.ndarray]:
    """The gradients, which are cleared."""
    found = {name: one.grad.numpy().copy() for name, one in own(method).items() if one.grad is not None}
    for one in own(method).values():
        one.clear_gradient(set_to_zero=False)
    return found


# --- by hand


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def seen(value: Any) -> np.ndarray:
    assert np.abs(value).min() > np.exp(-10)
    return np.stack([np.log(np.abs(value)) / 10, np.sign(value)], axis=-1)


def steps_by_hand(layer: Any, start: np.ndarray, support: Any, steps: int, lr: float) -> np.ndarray:
    """Weights [5, way], whose last row is the bias, after steps of the paper's equations 3 to 5."""
    w, u, b, c = (getattr(layer.cell, name).numpy() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    gates = [(gate.weight.numpy()[:, 0], gate.bias.item()) for gate in (layer.forget_gate, layer.input_gate)]
    weights = start.ravel()
    hidden = memory = np.zeros((len(weights), len(u[0])))
    before = [np.ones(len(weights)), np.full(len(weights), lr)]
    for _ in range(steps):
        gradient, loss = (one(weights.reshape(start.shape)) for one in (support.gradient, support.loss))
        x = np.column_stack([seen(gradient.ravel()), np.tile(seen(loss), (len(weights), 1))])
        take, forget, candidate, out = np.split(x @ w.T + b + hidden @ u.T + c, 4, axis=-1)
        memory = sigmoid(forget) * memory + sigmoid(take) * np.tanh(candidate)
        hidden = sigmoid(out) * np.tanh(memory)
        before = [
            sigmoid(np.column_stack([hidden, weights, old]) @ weight + bias)
            for (weight, bias), old in zip(gates, before, strict=True)
        ]
        weights = before[0] * weights - before[1] * gradient.ravel()
    return weights.reshape(start.shape)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_linear_classifier_by_hand(
    linear: Callable[..., Any], task: Callable[..., Any], by_hand: Any, support_of: Any, in_two: Any, steps: int
) -> None:
    method, start = linear(**{**KEYS, "inner_steps": steps})
    drawn(method)
    episode = task(2, 4, side=2)
    support, queries = by_hand(episode)
    expected = steps_by_hand(method.layer, start, support, steps, 0.3)
    found = adapted(method, episode)
    for name, value in in_two(expected).items():
        np.testing.assert_allclose(found[name].numpy(), value, rtol=1e-8)
    logits = method.adapt(support_of(episode))(episode.queries.unsqueeze(0)).numpy()[0]
    np.testing.assert_allclose(logits, queries.x @ expected, rtol=1e-8)
    loss, accuracy = method.learn(episode, 0.25, 0)
    assert loss == pytest.approx(queries.loss(expected), rel=1e-8)
    assert accuracy == pytest.approx(queries.accuracy(expected))


def test_fresh_gates_are_near_gradient_descent(linear: Callable[..., Any], task: Callable[..., Any]) -> None:
    """Nothing much is forgotten, and steps have about the size of the rate."""
    method, start = linear(**{**KEYS, "inner_steps": 1, "hidden": 20})
    episode = task(2, 4, side=2)
    plain, _ = linear(name="maml", order=1, inner_steps=1, inner_lr=0.3)
    for name, expected in adapted(plain, episode).items():
        before = method.network.weights()[name].numpy()
        found, gradient = adapted(method, episode)[name].numpy(), (before - expected.numpy()) / 0.3
        assert (np.abs(found - before) < 0.05 * np.abs(before) + 2 * 0.3 * np.abs(gradient)).all()
        assert (np.abs(found - before) > 0).all()
    assert start.shape == (5, 3)


def test_numbers_are_treated_alike(linear: Callable[..., Any], task: Callable[..., Any]) -> None:
    """Another order of the pixels, and of their weights, gives the adapted weights in that order."""
    order, episode = np.asarray([2, 0, 3, 1]), task(2, 4, side=2)
    method, start = linear(**KEYS)
    expected = adapted(drawn(method), episode)
    pixels = episode.support.numpy().reshape(-1, 4)[:, order].reshape(-1, 1, 2, 2)
    method.network.linear.weight.set_value(start[:4][order])
    found = adapted(method, replace(episode, support=paddle.to_tensor(pixels)))
    np.testing.assert_allclose(found["linear.weight"].numpy(), expected["linear.weight"].numpy()[order], rtol=1e-9)
    np.testing.assert_allclose(found["linear.bias"].numpy(), expected["linear.bias"].numpy(), rtol=1e-9)
    assert not np.allclose(found["linear.weight"].numpy(), expected["linear.weight"].numpy(), rtol=0.01)


# --- constant gates


@modes
def test_with_constant_gates_it_is_first_order_maml(
    convolutional: Callable[..., Any], task: Callable[..., Any], batch_norm: str
) -> None:
    episode = task(2, 3)
    method = constant(convolutional(**KEYS, batch_norm=batch_norm), 0.3)
    plain = convolutional(name="maml", order=1, inner_steps=3, inner_lr=0.3, batch_norm=batch_norm)
    expected = adapted(plain, episode)
    for name, weight in adapted(method, episode).items():
        np.testing.assert_allclose(weight.numpy(), expected[name].numpy(), rtol=1e-9, atol=1e-12)
    assert method.learn(episode, 0.5, 0) == pytest.approx(plain.learn(episode, 0.5, 0), rel=1e-6)
    found = taken(method)
    for name, weight in plain.network.weights().items():
        np.testing.assert_allclose(found[name], weight.grad.numpy(), rtol=1e-7, atol=1e-11)


# --- its own gradient


@modes
def test_meta_gradient_takes_gradients_and_losses_that_it_is_shown_as_given(
    convolutional: Callable[..., Any], task: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, batch_norm: str
) -> None:
    method, episode = convolutional(**KEYS, batch_norm=batch_norm), task(2, 3)
    shown: list[Any] = []
    grad = lstm_meta_learner.grad

    def kept(loss: paddle.Tensor, leaves: Any) -> Any:
        shown.append((loss.detach(), grad(loss, leaves)))
        return shown[-1][1]

    with monkeypatch.context() as patch:
        patch.setattr(lstm_meta_learner, "grad", kept)
        expected_loss, _ = method.learn(episode, 1.0, 0)
    assert len(shown) == 3
    found = taken(method)
    assert found.keys() == own(method).keys()
    assert found.keys() >= GATES | {"linear.weight", "linear.bias", "embedder.backbone.blocks.0.0.weight"}

    def frozen() -> float:
        losses, gradients = (iter(part) for part in zip(*shown, strict=True))
        with monkeypatch.context() as patch, paddle.no_grad():
            patch.setattr(LstmMetaLearner, "support_loss", lambda *_: next(losses))
            patch.setattr(lstm_meta_learner, "grad", lambda *_: next(gradients))
            weights = adapted(method, episode)
            logits = query_logits(method.network, weights, episode.support, episode.queries, batch_norm)[0]
            return F.cross_entropy(logits, episode.query_labels).item()

    assert frozen() == pytest.approx(expected_loss, rel=1e-6)
    for name, parameter in own(method).items():
        before, ends = parameter.numpy().copy(), []
        direction = generator(0, "direction", name).normal(size=before.shape)
        for step in (1e-6, -1e-6):
            parameter.set_value(before + step * direction)
            ends.append(frozen())
        parameter.set_value(before)
        expected = (ends[0] - ends[1]) / 2e-6
        assert (found[name] * direction).sum() == pytest.approx(expected, rel=1e-4, abs=1e-8), name
        assert np.abs(found[name]).max() > 1e-9, name


def test_gradients_are_added_in_shares(convolutional: Callable[..., Any], task: Callable[..., Any]) -> None:
    method, one, other = convolutional(**KEYS), task(1, 2), task(1, 2, key=1)
    alone = []
    for episode in (one, other):
        method.learn(episode, 1.0, 0)
        alone.append(taken(method))
    method.learn(one, 0.25, 0)
    method.learn(other, 0.5, 0)
    for name, gradient in taken(method).items():
        expected = 0.25 * alone[0][name] + 0.5 * alone[1][name]
        np.testing.assert_allclose(gradient, expected, rtol=1e-8, atol=1e-12)


@modes
def test_learning_leaves_the_running_statistics_of_the_adapted_network(
    convolutional: Callable[..., Any], task: Callable[..., Any], batch_norm: str
) -> None:
    method, episode = convolutional(**KEYS, batch_norm=batch_norm), task(2, 3)
    expected = convolutional(name="maml").network
    names = dict(expected.named_parameters())
    for name, weight in adapted(method, episode).items():
        names[name].set_value(weight)
    expected(episode.support if batch_norm == "support_statistics" else episode.queries)
    method.learn(episode, 1.0, 0)
    running = {name: one for name, one in method.network.named_parameters() if name.endswith(("_mean", "_variance"))}
    assert len(running) == 8
    for name, one in running.items():
        np.testing.assert_allclose(one.numpy(), names[name].numpy(), rtol=1e-6)


# --- checkpoints


def test_a_checkpoint_keeps_arguments_and_weights(tmp_path: Path) -> None:
    arguments = {"dim": 5, "way": 3, "steps": 2, "lr": 0.3, "batch_norm": "support_statistics", "hidden": 4}
    layer = build_layer({"name": "lstm_meta_learner", "arguments": arguments}, 3)
    for parameter in layer.parameters():
        parameter.set_value(parameter + 0.25)
    architecture = Architecture("conv4", 16, 1, 5, "unit", (("width", 4),))
    path = tmp_path / "c.safetensors"
    save_checkpoint(Checkpoint(architecture, {}, layer=describe(layer), layer_weights=weights_of(layer)), path)
    found = method_layer(load_checkpoint(path), "here")
    assert isinstance(found, LstmTaskHead)
    assert found.arguments == arguments
    for name, tensor in found.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), layer.state_dict()[name].numpy())


def test_gates_start_near_one_and_near_the_rate() -> None:
    arguments = {"dim": 5, "way": 3, "steps": 2, "lr": 0.02, "batch_norm": "running", "hidden": 20}
    layer: Any = build_layer({"name": "lstm_meta_learner", "arguments": arguments}, 0)
    assert F.sigmoid(layer.forget_gate.bias).item() > 0.99
    assert F.sigmoid(layer.input_gate.bias).item() == pytest.approx(0.02, rel=1e-5)
    signal, _ = layer.cell(paddle.concat([preprocessed(paddle.to_tensor([0.3, -1e-3, 0.0]))] * 2, -1))
    values, rate = paddle.to_tensor([[0.5], [-0.5], [0.0]]), paddle.full([3, 1], 0.02)
    forget = F.sigmoid(layer.forget_gate(paddle.concat([signal, values, paddle.ones([3, 1])], -1)))
    take = F.sigmoid(layer.input_gate(paddle.concat([signal, values, rate], -1)))
    assert (forget > 0.98).all()
    assert ((take > 0.01) & (take < 0.04)).all()
