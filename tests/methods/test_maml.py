"""MAML: episodes worked out by hand, meta-gradients against differences of the outer loss, and the orders."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from ppfsl.autodiff import functional_call
from ppfsl.methods.task_network import copies, query_logits
from ppfsl.randomness import generator

MODES = ("transductive", "support_statistics", "running")
modes = pytest.mark.parametrize("batch_norm", MODES)
Arrays = dict[str, np.ndarray]


def adapted(method: Any, task: Any) -> dict[str, paddle.Tensor]:
    return method.adapted(copies(method.network.weights()), task.support, task.support_labels, False, task.chance)


# --- by hand


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("shot", [1, 4])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_linear_classifier_by_hand(
    linear: Callable[..., Any], task: Callable[..., Any], by_hand: Any, gradients: Any, in_two: Any,
    steps: int, shot: int, order: int,
) -> None:  # fmt: skip
    method, start = linear(name="maml", inner_steps=steps, inner_lr=0.7, order=order)
    episode = task(shot, 4, side=2)
    support, queries = by_hand(episode)
    path = support.descent(start, 0.7, steps)
    for name, value in in_two(path[-1]).items():
        np.testing.assert_allclose(adapted(method, episode)[name].numpy(), value, rtol=1e-10)
    loss, accuracy = method.learn(episode, 0.25, 0)
    assert loss == pytest.approx(queries.loss(path[-1]), rel=1e-10)
    assert accuracy == pytest.approx(queries.accuracy(path[-1]))
    outer = queries.gradient(path[-1])
    expected = support.meta_gradient(path, 0.7, outer)[0] if order == 2 else outer
    found = gradients(method)
    assert found.keys() == {"linear.weight", "linear.bias"}
    for name, value in in_two(0.25 * expected).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9)


def test_the_answers_of_an_adapted_linear_classifier_by_hand(
    linear: Callable[..., Any], task: Callable[..., Any], by_hand: Any, support_of: Any
) -> None:
    method, start = linear(name="maml", inner_steps=3, inner_lr=0.7)
    one, other = task(2, 4, side=2), task(2, 4, side=2, key=1)
    found = method.adapt(support_of(one, other))(paddle.stack([one.queries, other.queries])).numpy()
    for logits, episode in zip(found, (one, other), strict=True):
        support, queries = by_hand(episode)
        np.testing.assert_allclose(logits, queries.x @ support.descent(start, 0.7, 3)[-1], rtol=1e-9)


# --- second order


def meta_gradient(method: Any, task: Any, gradients: Callable[[Any], Arrays], epoch: int = 0) -> Arrays:
    method.learn(task, 1.0, epoch)
    return gradients(method)


@modes
def test_meta_gradient_of_a_convolutional_network_equals_differences_of_the_loss(
    convolutional: Callable[..., Any], task: Callable[..., Any], gradients: Any, slope: Any, batch_norm: str
) -> None:
    method, episode = convolutional(name="maml", inner_steps=3, inner_lr=0.4, batch_norm=batch_norm), task(2, 3)
    found = meta_gradient(method, episode, gradients)
    weights = method.network.weights()
    assert found.keys() == weights.keys()
    assert {"embedder.backbone.blocks.0.0.weight", "linear.weight", "linear.bias"} <= found.keys()
    for name, weight in weights.items():
        direction = generator(0, "direction", name).normal(size=weight.shape)
        expected = slope(method, episode, weight, direction)
        # A quotient of two losses near 1 over 2e-7 is exact to some 1e-9.
        assert abs((found[name] * direction).sum() - expected) <= 1e-5 * abs(expected) + 5e-9, name


@modes
def test_second_order_differs_from_first_in_every_weight(
    convolutional: Callable[..., Any], task: Callable[..., Any], gradients: Any, batch_norm: str
) -> None:
    method, episode = convolutional(name="maml", inner_steps=3, inner_lr=0.4, batch_norm=batch_norm), task(2, 3)
    second = meta_gradient(method, episode, gradients)
    first = meta_gradient(replace(method, order=1), episode, gradients)
    assert second.keys() == first.keys()
    for name, gradient in second.items():
        assert np.abs(gradient - first[name]).max() > 0.05 * np.abs(gradient).max(), name


def test_both_orders_report_the_same_loss_and_accuracy(
    convolutional: Callable[..., Any], task: Callable[..., Any], gradients: Any
) -> None:
    method, episode = convolutional(name="maml", inner_steps=2), task(2, 3)
    second, first = method.learn(episode, 1.0, 0), replace(method, order=1).learn(episode, 1.0, 0)
    assert first == pytest.approx(second, rel=1e-6)  # Paddle takes batch norm's epsilon as a float32


# --- first order


@modes
def test_first_order_is_the_gradient_at_the_adapted_weights(
    convolutional: Callable[..., Any], task: Callable[..., Any], gradients: Any, batch_norm: str
) -> None:
    keys = {"name": "maml", "inner_steps": 3, "order": 1, "batch_norm": batch_norm}
    method, episode = convolutional(**keys), task(2, 3)
    found = meta_gradient(method, episode, gradients)
    weights = adapted(method, episode)
    logits = query_logits(method.network, weights, episode.support, episode.queries, batch_norm)[0]
    F.cross_entropy(logits, episode.query_labels).backward()
    for name, weight in weights.items():
        np.testing.assert_allclose(found[name], weight.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_the_inner_steps_are_plain_gradient_descent_on_the_support_set(
    convolutional: Callable[..., Any], task: Callable[..., Any]
) -> None:
    """Whose images batch norm normalises together, whatever holds for the queries."""
    method, episode = convolutional(name="maml", inner_steps=3, inner_lr=0.4), task(2, 3)
    weights = copies(method.network.weights())
    for _ in range(3):
        F.cross_entropy(functional_call(method.network, weights, episode.support), episode.support_labels).backward()
        weights = {name: paddle.to_tensor((w - 0.4 * w.grad).numpy()) for name, w in weights.items()}
        for weight in weights.values():
            weight.stop_gradient = False
    for mode in MODES:
        found = adapted(replace(method, batch_norm=mode), episode)
        for name, weight in weights.items():
            np.testing.assert_allclose(found[name].numpy(), weight.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_order_two_begins_after_the_epochs_of_first_order(
    convolutional: Callable[..., Any], task: Callable[..., Any], gradients: Any, epochs: int
) -> None:
    method, episode = convolutional(name="maml", first_order_epochs=epochs), task(1, 2)
    orders = {order: meta_gradient(convolutional(name="maml", order=order), episode, gradients) for order in (1, 2)}
    for epoch in range(5):
        found = meta_gradient(method, episode, gradients, epoch)
        expected = orders[2 if epoch >= epochs else 1]
        assert all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("order", [1, 2])
def test_gradients_are_added_in_shares(
    convolutional: Callable[..., Any], task: Callable[..., Any], gradients: Any, order: int
) -> None:
    method, one, other = convolutional(name="maml", order=order), task(1, 2), task(1, 2, key=1)
    first, second = (meta_gradient(method, episode, gradients) for episode in (one, other))
    method.learn(one, 0.25, 0)
    method.learn(other, 0.5, 0)
    for name, gradient in gradients(method).items():
        np.testing.assert_allclose(gradient, 0.25 * first[name] + 0.5 * second[name], rtol=1e-9, atol=1e-12)


# --- running statistics


@pytest.mark.parametrize("order", [1, 2])
@modes
def test_learning_leaves_the_running_statistics_of_the_adapted_network(
    convolutional: Callable[..., Any], task: Callable[..., Any], batch_norm: str, order: int
) -> None:
    """Of the images that normalise the queries; the inner steps leave nothing."""
    method, episode = convolutional(name="maml", inner_steps=2, order=order, batch_norm=batch_norm), task(2, 3)
    expected = convolutional(name="maml").network
    own = dict(expected.named_parameters())
    for name, weight in adapted(method, episode).items():
        own[name].set_value(weight)
    expected(episode.support if batch_norm == "support_statistics" else episode.queries)
    method.learn(episode, 1.0, 0)
    found = {
        name: tensor for name, tensor in method.network.named_parameters() if name.endswith(("_mean", "_variance"))
    }
    assert len(found) == 8
    for name, tensor in found.items():
        np.testing.assert_allclose(tensor.numpy(), own[name].numpy(), rtol=1e-6)
        assert not np.array_equal(tensor.numpy(), np.full(4, float(name.endswith("_variance"))))
