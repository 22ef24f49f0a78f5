"""Meta-SGD: step sizes that start alike, learn by exact gradients, and survive checkpoints."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from ppfsl.backbones.embedder import Architecture
from ppfsl.backbones.weights import weights_of
from ppfsl.methods.layers import describe
from ppfsl.methods.task_network import copies
from ppfsl.randomness import generator
from ppfsl.training.checkpoint import Checkpoint, load_checkpoint, method_layer, save_checkpoint

MODES = ("transductive", "support_statistics", "running")


def draw_rates(method: Any) -> dict[str, np.ndarray]:
    """Other step sizes for all numbers, some of them negative; by the weights' names, in the weights' shapes."""
    drawn = {name: generator(0, name).uniform(-0.2, 0.6, rate.shape) for name, rate in method.rates().items()}
    for name, rate in zip(method.layer.arguments["rates"], method.layer.rates, strict=True):
        rate.set_value(drawn[name].ravel().astype(rate.numpy().dtype))
    return drawn


def test_step_sizes_start_at_inner_lr_in_the_shapes_of_the_weights(convolutional: Callable[..., Any]) -> None:
    method = convolutional(name="meta_sgd", inner_lr=0.03)
    rates, weights = method.rates(), method.network.weights()
    assert rates.keys() == weights.keys()
    for name, rate in rates.items():
        assert rate.shape == weights[name].shape
        np.testing.assert_allclose(rate.numpy(), 0.03, rtol=1e-6)
    assert len(list(method.layer.parameters())) == 2 + len(weights)


def test_equal_step_sizes_make_it_maml(
    convolutional: Callable[..., Any], task: Callable[..., Any], gradients: Any
) -> None:
    method, episode = convolutional(name="meta_sgd", inner_steps=2, inner_lr=0.25), task(1, 3)
    maml = convolutional(name="maml", inner_steps=2, inner_lr=0.25)
    assert method.learn(episode, 1.0, 0) == pytest.approx(maml.learn(episode, 1.0, 0), rel=1e-9)
    found, expected = gradients(method), gradients(maml)
    assert set(found) - set(expected) == {f"rates.{place}" for place in range(len(expected))}
    for name, gradient in expected.items():
        np.testing.assert_allclose(found[name], gradient, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("shot", [1, 4])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_linear_classifier_by_hand(
    linear: Callable[..., Any], task: Callable[..., Any], by_hand: Any, gradients: Any, in_two: Any,
    steps: int, shot: int,
) -> None:  # fmt: skip
    method, start = linear(name="meta_sgd", inner_steps=steps)
    drawn = draw_rates(method)
    rates = np.vstack([drawn["linear.weight"], drawn["linear.bias"]])
    episode = task(shot, 4, side=2)
    support, queries = by_hand(episode)
    path = support.descent(start, rates, steps)
    adapted = method.adapted(
        copies(method.network.weights()), episode.support, episode.support_labels, False, episode.chance
    )
    for name, value in in_two(path[-1]).items():
        np.testing.assert_allclose(adapted[name].numpy(), value, rtol=1e-10)
    assert method.learn(episode, 0.5, 0)[0] == pytest.approx(queries.loss(path[-1]), rel=1e-10)
    by_weights, by_rates = support.meta_gradient(path, rates, 0.5 * queries.gradient(path[-1]))
    found = gradients(method)
    places = {name: place for place, name in enumerate(method.layer.arguments["rates"])}
    for name, value in in_two(by_weights).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9)
    for name, value in in_two(by_rates).items():
        np.testing.assert_allclose(found[f"rates.{places[name]}"], value.ravel(), rtol=1e-9)


@pytest.mark.parametrize("batch_norm", MODES)
def test_gradients_of_weights_and_step_sizes_equal_differences_of_the_loss(
    convolutional: Callable[..., Any], task: Callable[..., Any], gradients: Any, slope: Any, batch_norm: str
) -> None:
    method, episode = convolutional(name="meta_sgd", inner_steps=3, batch_norm=batch_norm), task(2, 3)
    draw_rates(method)
    method.learn(episode, 1.0, 0)
    found = gradients(method)
    tensors = method.network.weights() | {f"rates.{place}": rate for place, rate in enumerate(method.layer.rates)}
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        direction = generator(0, "direction", name).normal(size=tensor.shape)
        expected = slope(method, episode, tensor, direction)
        # A quotient of two losses near 1 over 2e-7 is exact to some 1e-9.
        assert abs((found[name] * direction).sum() - expected) <= 1e-5 * abs(expected) + 5e-9, name


def test_adapting_differentiates_by_no_step_size(
    convolutional: Callable[..., Any], task: Callable[..., Any], support_of: Any
) -> None:
    method, episode = convolutional(name="meta_sgd", inner_steps=2), task(1, 2)
    answers = method.adapt(support_of(episode))(episode.queries.unsqueeze(0))
    assert answers.stop_gradient
    assert all(rate.grad is None for rate in method.layer.rates)


def test_step_sizes_survive_a_checkpoint(convolutional: Callable[..., Any], tmp_path: Path) -> None:
    method = convolutional(name="meta_sgd")
    for layer in (method.network, method.layer):
        layer.to(dtype="float32")
    drawn = draw_rates(method)
    architecture = Architecture("conv4", 16, 1, None, "unit", (("width", 4),))
    checkpoint = Checkpoint(architecture, {}, describe(method.layer), weights_of(method.layer))
    save_checkpoint(checkpoint, tmp_path / "c.safetensors")
    layer = method_layer(load_checkpoint(tmp_path / "c.safetensors"), "c.safetensors")
    assert layer is not None
    found = replace(method, layer=layer).rates()
    assert found.keys() == drawn.keys()
    for name, rate in found.items():
        assert isinstance(rate, paddle.Tensor)
        np.testing.assert_array_equal(rate.numpy(), drawn[name].astype(np.float32))
