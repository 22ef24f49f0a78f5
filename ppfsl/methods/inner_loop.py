"""Gradient steps on a task's support set, whose result may keep the graph of every step."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import paddle

from ppfsl.autodiff import grad
from ppfsl.methods.task_network import Weights, copies

Loss = Callable[[Weights], paddle.Tensor]


def sgd(
    loss: Loss, weights: Weights, steps: int, rates: float | Mapping[str, paddle.Tensor], create_graph: bool
) -> Weights:
    """weight - rate * gradient, so many times.

    Args:
        loss: of the support set with given weights.
        weights: where to start.
        steps: how many.
        rates: one step size for all, or one per number of each weight, under the weights' names.
        create_graph: whether the result can be differentiated by `weights` and `rates` (second order); else the result
            is leaves.
    """
    for _ in range(steps):
        weights = weights if create_graph else copies(weights)
        gradients = grad(loss(weights), weights, create_graph)
        with paddle.set_grad_enabled(create_graph):
            weights = {
                name: weight - (rates[name] if isinstance(rates, Mapping) else rates) * gradients[name]
                for name, weight in weights.items()
            }
    return weights if create_graph else copies(weights)


def adam(
    loss: Callable[[Weights, int], paddle.Tensor], weights: Weights, steps: int, lr: float, decay: float = 0.999
) -> Weights:
    """Adam with beta1 = 0, from fresh moments: Reptile's inner optimizer (Nichol et al. 2018). The result is leaves.

    Args:
        loss: of some of the support images with given weights, at a step counted from 0.
        weights: where to start.
        steps: how many.
        lr: step size.
        decay: beta2.
    """
    squares = {name: paddle.zeros_like(weight) for name, weight in weights.items()}
    for step in range(steps):
        weights = copies(weights)
        gradients = grad(loss(weights, step), weights)
        correction = 1 - decay ** (step + 1)
        with paddle.no_grad():
            for name, gradient in gradients.items():
                squares[name] = squares[name] * decay + gradient.square() * (1 - decay)
                weights[name] = weights[name] - lr * gradient / ((squares[name] / correction).sqrt() + 1e-8)
    return copies(weights)


def minibatches(images: int, size: int, steps: int, chance: np.random.Generator) -> np.ndarray:
    """Which of the support images each step takes: positions, int64 [steps, min(size, images)].

    The steps go through one shuffled order after another, so that none is taken twice more often than another.
    """
    size = min(size, images)
    rounds = math.ceil(steps * size / images)
    order = np.concatenate([chance.permutation(images) for _ in range(rounds)])
    return order[: steps * size].reshape(steps, size)
