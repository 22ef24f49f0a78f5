"""What the tests of methods that adapt by gradient share: small networks, tasks for them, and a reference in numpy."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn
from pydantic import TypeAdapter

from ppfsl.backbones.embedder import Architecture, build_embedder
from ppfsl.config import Objective
from ppfsl.methods.base import Support
from ppfsl.methods.build import build_task_learner
from ppfsl.methods.gradient_based import GradientBased, Task
from ppfsl.randomness import generator

WAY = 3


class SoftmaxRegression:
    """The cross-entropy of a linear classifier in numpy: weights [D + 1, way], the last row being the bias."""

    def __init__(self, x: np.ndarray, labels: np.ndarray, way: int) -> None:
        self.x, self.target = np.column_stack([x, np.ones(len(x))]), np.eye(way)[labels]

    def probabilities(self, weights: np.ndarray) -> np.ndarray:
        odds = np.exp(self.x @ weights)
        return odds / odds.sum(1, keepdims=True)

    def loss(self, weights: np.ndarray) -> float:
        return float(-np.log((self.probabilities(weights) * self.target).sum(1)).mean())

    def accuracy(self, weights: np.ndarray) -> float:
        return float((self.probabilities(weights).argmax(1) == self.target.argmax(1)).mean())

    def gradient(self, weights: np.ndarray) -> np.ndarray:
        return self.x.T @ (self.probabilities(weights) - self.target) / len(self.x)

    def curvature(self, weights: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """The Hessian matrix times a direction."""
        p, moved = self.probabilities(weights), self.x @ direction
        return self.x.T @ (p * (moved - (p * moved).sum(1, keepdims=True))) / len(self.x)

    def subset(self, places: np.ndarray) -> "SoftmaxRegression":
        """Of some of the rows."""
        part = object.__new__(SoftmaxRegression)
        part.x, part.target = self.x[places], self.target[places]
        return part

    def descent(self, weights: np.ndarray, rates: Any, steps: int) -> list[np.ndarray]:
        """The weights before, between and after steps of gradient descent."""
        path = [weights]
        for _ in range(steps):
            path.append(path[-1] - rates * self.gradient(path[-1]))
        return path

    def meta_gradient(self, path: list[np.ndarray], rates: Any, outer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The derivatives by the first weights and by the step sizes, from that by the last weights."""
        by_rates = np.zeros_like(outer)
        for weights in reversed(path[:-1]):
            by_rates -= self.gradient(weights) * outer
            outer = outer - self.curvature(weights, rates * outer)
        return outer, by_rates


class Pixels(nn.Layer):
    """Stands for an embedder that learns nothing: the images themselves."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def projected(self, images: paddle.Tensor) -> paddle.Tensor:
        return images.flatten(1)


def _in_training(method: GradientBased) -> GradientBased:
    """In float64, ready to learn as in a stage of training."""
    for layer in (method.network, method.layer):
        layer.to(dtype="float64")
        layer.train()
        for parameter in layer.parameters():
            parameter.stop_gradient = False
    return method


def _learner(embedder: Any, keys: dict[str, Any]) -> GradientBased:
    config = TypeAdapter(Objective).validate_python({"way": WAY, **keys})
    return build_task_learner(config, embedder, 0)


@pytest.fixture(scope="session")
def convolutional() -> Callable[..., Any]:
    """Gives the method of an objective on a Conv4 of four channels for grey images of 16 pixels; all weights random."""

    def build(**keys: Any) -> Any:
        embedder = build_embedder(Architecture("conv4", 16, 1, None, "unit", (("width", 4),)), 0)
        method = _in_training(_learner(embedder, keys))
        for name, weight in method.network.weights().items():  # nothing at zero or one, where terms vanish
            drawn = generator(0, "weights", name).normal(0, 0.4, weight.shape)
            weight.set_value(drawn + (weight.ndim == 1))
        return method

    return build


@pytest.fixture(scope="session")
def linear() -> Callable[..., Any]:
    """Gives the method of an objective on a linear classifier of images of four pixels, and its weights [5, way]."""

    def build(**keys: Any) -> tuple[Any, np.ndarray]:
        method = _in_training(_learner(Pixels(4), keys))
        start = generator(0, "start").normal(size=(5, WAY))
        method.network.linear.weight.set_value(start[:4])
        method.network.linear.bias.set_value(start[4])
        return method, start

    return build


@pytest.fixture(scope="session")
def task() -> Callable[..., Task]:
    """Gives a task of that layout, in float64; other images for another key."""

    def draw(shot: int, query: int, side: int = 16, key: int = 0) -> Task:
        rng = generator(0, "task", key)
        # Each class about a shade of its own, so that there is something to learn.
        labels = [np.repeat(np.arange(WAY), count) for count in (shot, query)]
        top = 255.0 if side == 16 else 2.0
        images = [rng.uniform(0, top, (len(y), 1, side, side)) * (1 + y.reshape(-1, 1, 1, 1)) / WAY for y in labels]
        tensors = [paddle.to_tensor(array) for pair in zip(images, labels, strict=True) for array in pair]
        return Task(*tensors, chance=generator(0, "chance", key))

    return draw


@pytest.fixture(scope="session")
def gradients() -> Callable[[Any], dict[str, np.ndarray]]:
    """Gives the gradients that the method's network and layer hold, by name, and clears them."""

    def taken(method: Any) -> dict[str, np.ndarray]:
        named = dict(method.network.named_parameters())
        named |= {f"rates.{place}": rate for place, rate in enumerate(method.layer.rates)}
        found = {name: tensor.grad.numpy().copy() for name, tensor in named.items() if tensor.grad is not None}
        for tensor in named.values():
            tensor.clear_gradient(set_to_zero=False)
        return found

    return taken


@pytest.fixture(scope="session")
def slope() -> Callable[..., float]:
    """Gives the derivative of a method's loss on a task's queries along a direction, by central differences.

    The loss is that of first-order gradients, so that no second derivative of ours is in it.
    """

    def measure(method: Any, task: Task, tensor: paddle.Tensor, direction: np.ndarray, step: float = 1e-7) -> float:
        plain, before, losses = replace(method, order=1), tensor.numpy().copy(), []
        for sign in (1, -1):
            tensor.set_value(before + sign * step * direction)
            losses.append(plain.learn(task, 1.0, 0)[0])
        tensor.set_value(before)
        for parameter in (*method.network.parameters(), *method.layer.parameters()):
            parameter.clear_gradient(set_to_zero=False)
        return (losses[0] - losses[1]) / (2 * step)

    return measure


@pytest.fixture(scope="session")
def softmax_regression() -> type[SoftmaxRegression]:
    return SoftmaxRegression


@pytest.fixture(scope="session")
def by_hand() -> Callable[[Task], tuple[SoftmaxRegression, SoftmaxRegression]]:
    """Gives the reference for the support set and for the queries of a task of images of four pixels."""

    def of(images: paddle.Tensor, labels: paddle.Tensor) -> SoftmaxRegression:
        return SoftmaxRegression(images.numpy().reshape(-1, 4), labels.numpy(), WAY)

    return lambda task: (of(task.support, task.support_labels), of(task.queries, task.query_labels))


@pytest.fixture(scope="session")
def support_of() -> Callable[..., Support]:
    """Gives the support sets of some tasks of one layout, numbered in their order."""

    def together(*tasks: Task) -> Support:
        images = paddle.stack([task.support for task in tasks])
        return Support(images, tasks[0].support_labels, WAY, np.arange(len(tasks)))

    return together


@pytest.fixture(scope="session")
def in_two() -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Gives [D + 1, way] as the weight and the bias of the linear network."""
    return lambda both: {"linear.weight": both[:-1], "linear.bias": both[-1]}
