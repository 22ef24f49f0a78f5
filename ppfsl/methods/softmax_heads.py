"""The fine-tuned head of `finetune.py` in numpy, its gradients written out, for CPUs.

A step on a head of a few thousand numbers costs Paddle more in calls than in arithmetic. Here a handful of episodes at
a time stay in the processor's cache for all their steps. `tests/methods/test_softmax_heads.py` holds both against each
other.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ppfsl.config import FinetuneConfig, OptimizerConfig

_BLOCK = 1 << 16  # numbers of the weights that are fitted at a time

Update = Callable[[np.ndarray], None]
"""Takes a gradient, which it may overwrite, and changes the parameter in place."""


class Inputs(NamedTuple):
    """What heads are fitted to, as the similarity wants it: of length one for the cosine.

    Attributes:
        support: float32 [E, S, D].
        one_hot: float32 [S, K].
        unlabelled: float32 [E, Q, D], the queries, or None.
    """

    support: np.ndarray
    one_hot: np.ndarray
    unlabelled: np.ndarray | None


def fit_heads(config: FinetuneConfig, inputs: Inputs, weight: np.ndarray, bias: np.ndarray) -> None:
    """Fit one head per episode, in place.

    Args:
        config: similarity, scale, entropy, optimizer, steps.
        inputs: of all episodes.
        weight: float32 [E, K, D].
        bias: float32 [E, K].
    """
    episodes = max(1, _BLOCK // (weight.shape[1] * weight.shape[2]))
    for start in range(0, len(weight), episodes):
        part = slice(start, start + episodes)
        unlabelled = None if inputs.unlabelled is None else inputs.unlabelled[part]
        _fit(config, Inputs(inputs.support[part], inputs.one_hot, unlabelled), weight[part], bias[part])


def _fit(config: FinetuneConfig, inputs: Inputs, weight: np.ndarray, bias: np.ndarray) -> None:
    updates = _update(config.optimizer, weight, True), _update(config.optimizer, bias, False)
    cosine = config.similarity == "cosine"
    for _ in range(config.steps):
        direction, length = weight, None
        if cosine:
            length = np.sqrt(np.einsum("ekd,ekd->ek", weight, weight))[..., None]
            np.maximum(length, 1e-12, out=length)
            direction = weight / length
        slope, slope_of_bias = _slopes(config, inputs, direction, bias)
        if length is not None:  # the part of the slope along the direction changes the length alone
            slope -= np.einsum("ekd,ekd->ek", slope, direction)[..., None] * direction
            slope /= length
        for update, gradient in zip(updates, (slope, slope_of_bias), strict=True):
            update(gradient)


def _slopes(
    config: FinetuneConfig, inputs: Inputs, direction: np.ndarray, bias: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The derivatives of the loss by the directions [E, K, D] and by the bias [E, K]."""
    p, log_p = _softmax(config.scale * (inputs.support @ direction.transpose(0, 2, 1)) + bias[:, None])
    slope = (p - inputs.one_hot) / len(inputs.one_hot)
    if config.entropy == "support":
        slope += config.entropy_weight * _slope_of_entropy(p, log_p)
    by_direction = slope.transpose(0, 2, 1) @ inputs.support
    by_bias = slope.sum(1)
    if config.entropy == "query":
        if inputs.unlabelled is None:
            raise ValueError("entropy over the queries needs the unlabelled queries")
        logits = config.scale * (inputs.unlabelled @ direction.transpose(0, 2, 1)) + bias[:, None]
        slope = config.entropy_weight * _slope_of_entropy(*_softmax(logits))
        by_direction += slope.transpose(0, 2, 1) @ inputs.unlabelled
        by_bias += slope.sum(1)
    by_direction *= config.scale
    return by_direction, by_bias


def _softmax(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and their logarithms; the logits are overwritten."""
    logits -= logits.max(-1, keepdims=True)
    p = np.exp(logits)
    total = p.sum(-1, keepdims=True)
    p /= total
    logits -= np.log(total)
    return p, logits


def _slope_of_entropy(p: np.ndarray, log_p: np.ndarray) -> np.ndarray:
    """The derivative of the mean entropy of the rows by their logits: -p (log p + H) / rows."""
    entropy = -(p * log_p).sum(-1, keepdims=True)
    return -p * (log_p + entropy) / p.shape[1]


def _update(config: OptimizerConfig, parameter: np.ndarray, decays: bool) -> Update:
    """One optimizer step after another on one parameter, by the rules of `ppfsl.optimizers`."""
    decay, lr = config.weight_decay if decays else 0.0, config.lr
    first, second = np.zeros_like(parameter), np.zeros_like(parameter)
    room, count = np.empty_like(parameter), [0]

    def decayed(gradient: np.ndarray) -> None:
        if decay:
            gradient += decay * parameter

    def adam(gradient: np.ndarray) -> None:
        if config.name == "adam":
            decayed(gradient)
        elif decay:
            np.multiply(parameter, 1 - lr * decay, out=parameter)
        count[0] += 1
        np.multiply(first, 0.9, out=first)
        np.multiply(gradient, 0.1, out=room)
        np.add(first, room, out=first)
        np.multiply(second, 0.999, out=second)
        np.multiply(gradient, gradient, out=room)
        np.multiply(room, 1 - 0.999, out=room)
        np.add(second, room, out=second)
        np.sqrt(second, out=room)
        correction = np.float32((1 - 0.999 ** count[0]) ** 0.5)
        np.add(room, 1e-8 * correction, out=room)
        np.divide(first, room, out=room)
        np.multiply(room, lr * correction / (1 - 0.9 ** count[0]), out=room)
        np.subtract(parameter, room, out=parameter)

    def momentum(gradient: np.ndarray) -> None:
        decayed(gradient)
        np.multiply(first, config.momentum, out=first)
        np.add(first, gradient, out=first)
        gradient += config.momentum * first  # Nesterov's correction
        np.subtract(parameter, lr * gradient, out=parameter)

    def sgd(gradient: np.ndarray) -> None:
        decayed(gradient)
        np.subtract(parameter, lr * gradient, out=parameter)

    return {"adam": adam, "adamw": adam, "momentum": momentum, "sgd": sgd}[config.name]
