"""Reptile: the outer step against Adam in numpy, and what the images of a step are."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import paddle
import pytest

from ppfsl.autodiff import functional_call
from ppfsl.config import OptimizerConfig
from ppfsl.methods.inner_loop import minibatches
from ppfsl.methods.task_network import copies
from ppfsl.optimizers import build_optimizer
from ppfsl.randomness import generator


def adam(support: Any, weights: np.ndarray, places: np.ndarray, lr: float) -> np.ndarray:
    """Kingma and Ba's Adam with beta1 = 0 and beta2 = 0.999, both moments corrected for their start at zero."""
    squares = np.zeros_like(weights)
    for step, chosen in enumerate(places, 1):
        gradient = support.subset(chosen).gradient(weights)
        squares = 0.999 * squares + 0.001 * gradient**2
        weights = weights - lr * gradient / (np.sqrt(squares / (1 - 0.999**step)) + 1e-8)
    return weights


@pytest.mark.parametrize(("steps", "batch"), [(1, 100), (5, 4), (7, 5)])
def test_the_outer_step_moves_by_the_rate_times_the_mean_displacement(
    linear: Callable[..., Any], task: Callable[..., Any], by_hand: Any, gradients: Any, in_two: Any,
    steps: int, batch: int,
) -> None:  # fmt: skip
    method, start = linear(name="reptile", inner_steps=steps, inner_lr=0.05, inner_batch=batch)
    optimizer = build_optimizer(OptimizerConfig(name="sgd", lr=0.3), method.network.parameters())
    episodes, ends = [task(4, 2, side=2, key=key) for key in (0, 1, 2)], []
    for key, episode in enumerate(episodes):
        support, queries = by_hand(episode)
        ends.append(adam(support, start, minibatches(12, batch, steps, generator(0, "chance", key)), 0.05))
        loss, accuracy = method.learn(episode, 1 / 3, 0)
        assert loss == pytest.approx(queries.loss(ends[-1]), rel=1e-9)
        assert accuracy == pytest.approx(queries.accuracy(ends[-1]))
    optimizer.step()
    for name, value in in_two(start + 0.3 * (np.mean(ends, axis=0) - start)).items():
        np.testing.assert_allclose(method.network.weights()[name].numpy(), value, rtol=1e-9)


def test_queries_do_not_move_the_weights(
    convolutional: Callable[..., Any], task: Callable[..., Any], gradients: Any
) -> None:
    method, found = convolutional(name="reptile"), []
    for queries in (task(3, 2).queries, task(3, 2, key=1).queries):
        method.learn(replace(task(3, 2), queries=queries, chance=generator(0)), 1.0, 0)
        found.append(gradients(method))
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])


def test_the_gradient_is_the_way_back_from_the_adapted_weights(
    convolutional: Callable[..., Any], task: Callable[..., Any], gradients: Any
) -> None:
    method, episode = convolutional(name="reptile", inner_batch=4), task(3, 2)
    before = copies(method.network.weights())
    adapted = method.adapted(before, episode.support, episode.support_labels, False, generator(5))
    method.learn(replace(episode, chance=generator(5)), 0.5, 0)
    found = gradients(method)
    assert found.keys() == before.keys()
    for name, gradient in found.items():
        expected = 0.5 * (before[name] - adapted[name]).numpy()
        assert np.abs(expected).max() > 1e-5
        np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("batch_norm", ["transductive", "support_statistics", "running"])
def test_learning_leaves_the_running_statistics_of_the_adapted_network(
    convolutional: Callable[..., Any], task: Callable[..., Any], batch_norm: str
) -> None:
    method, episode = convolutional(name="reptile", inner_batch=4, batch_norm=batch_norm), task(3, 2)
    expected = convolutional(name="reptile").network
    own = dict(expected.named_parameters())
    weights = copies(method.network.weights())
    for name, weight in method.adapted(weights, episode.support, episode.support_labels, False, generator(5)).items():
        own[name].set_value(weight)
    expected(episode.support if batch_norm == "support_statistics" else episode.queries)
    method.learn(replace(episode, chance=generator(5)), 1.0, 0)
    for name, tensor in method.network.named_parameters():
        if name.endswith(("_mean", "_variance")):
            np.testing.assert_allclose(tensor.numpy(), own[name].numpy(), rtol=1e-6)
            assert not np.array_equal(tensor.numpy(), np.full(4, float(name.endswith("_variance"))))


def test_steps_are_a_pure_function_of_chance(convolutional: Callable[..., Any], task: Callable[..., Any]) -> None:
    method, episode = convolutional(name="reptile", inner_batch=4), task(3, 2)

    def end(key: int) -> np.ndarray:
        weights = copies(method.network.weights())
        found = method.adapted(weights, episode.support, episode.support_labels, False, generator(key))
        return found["linear.weight"].numpy()

    assert np.array_equal(end(1), end(1))
    assert not np.array_equal(end(1), end(2))


def test_each_step_normalises_its_own_images(convolutional: Callable[..., Any], task: Callable[..., Any]) -> None:
    method, episode = convolutional(name="reptile", inner_steps=1, inner_batch=4, inner_lr=0.01), task(3, 2)
    chosen = paddle.to_tensor(minibatches(9, 4, 1, generator(5))[0])
    weights = copies(method.network.weights())
    logits = functional_call(method.network, weights, episode.support[chosen])
    paddle.nn.functional.cross_entropy(logits, episode.support_labels[chosen]).backward()
    found = method.adapted(weights, episode.support, episode.support_labels, False, generator(5))
    for name, weight in weights.items():
        g = weight.grad.numpy()
        np.testing.assert_allclose(found[name].numpy(), weight.numpy() - 0.01 * g / (np.abs(g) + 1e-8), rtol=1e-5)


def test_second_order_is_refused(convolutional: Callable[..., Any], task: Callable[..., Any]) -> None:
    method, episode = convolutional(name="reptile"), task(1, 1)
    with pytest.raises(ValueError, match="Reptile's steps are not differentiated"):
        method.adapted(method.network.weights(), episode.support, episode.support_labels, True, episode.chance)
