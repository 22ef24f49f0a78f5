"""Optimizers, learning-rate schedules as pure functions of the step, and optimizer state by position."""

import math
import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import paddle
from paddle.optimizer import SGD, Adam, AdamW, Momentum, Optimizer
from paddle.regularizer import WeightDecayRegularizer

from ppfsl.config import OptimizerConfig, ScheduleConfig

_COUNTER = re.compile(r"_\d+$")  # of the optimizers that the process has made for the same parameter


def build_optimizer(
    config: OptimizerConfig,
    parameters: Sequence[paddle.Tensor],
    clip_norm: float | None = None,
    decaying: Sequence[paddle.Tensor] | None = None,
) -> Optimizer:
    """The optimizer of a configuration; vectors (biases, batch norm) are spared the weight decay.

    Args:
        config: which one.
        parameters: what it changes.
        clip_norm: greatest norm of all gradients together, or None.
        decaying: the weight decay concerns these alone; None: all parameters.
    """
    # Not Paddle's parameter groups: each is clipped by a norm of its own, and leaves its decay on the parameters.
    arguments = {
        "learning_rate": config.lr,
        "parameters": list(parameters),
        "grad_clip": paddle.nn.ClipGradByGlobalNorm(clip_norm) if clip_norm else None,
    }
    decayed = {parameter.name for parameter in (parameters if decaying is None else decaying) if parameter.ndim > 1}
    if config.name == "adamw":
        return AdamW(weight_decay=config.weight_decay, apply_decay_param_fun=decayed.__contains__, **arguments)
    arguments["weight_decay"] = _SparingDecay(config.weight_decay, decayed) if config.weight_decay else None
    if config.name == "adam":
        return Adam(**arguments)
    if config.name == "momentum":
        return Momentum(momentum=config.momentum, use_nesterov=True, **arguments)
    return SGD(**arguments)


class _SparingDecay(WeightDecayRegularizer):
    """What an L2 term adds to the gradient: strength x weight, and nothing for parameters of other names."""

    def __init__(self, strength: float, decayed: Collection[str]) -> None:
        super().__init__()
        self._strength, self._decayed = strength, decayed

    def __call__(self, param: paddle.Tensor, grad: paddle.Tensor, block: object) -> paddle.Tensor:
        return param * self._strength if param.name in self._decayed else paddle.zeros_like(param)


def learning_rate(schedule: ScheduleConfig, first: float, step: int, total_steps: int, steps_per_epoch: int) -> float:
    """The learning rate of a step, counted from 0 within its stage.

    Args:
        schedule: its shape.
        first: the optimizer's `lr`, reached when the warm-up ends.
        step: 0..total_steps - 1.
        total_steps: of the stage; cosine reaches zero there (Loshchilov and Hutter 2017).
        steps_per_epoch: what turns epochs into steps.
    """
    warmup = schedule.warmup_epochs * steps_per_epoch
    if step < warmup:
        return first * (step + 1) / (warmup + 1)
    if schedule.name == "cosine":
        return first * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total_steps - warmup, 1)))
    if schedule.name == "step":
        passed = sum(step >= milestone * steps_per_epoch for milestone in schedule.milestones)
        return first * schedule.gamma**passed
    return first


def state_by_position(optimizer: Optimizer, parameters: Sequence[paddle.Tensor]) -> dict[str, np.ndarray]:
    """The optimizer's tensors under names such as "3.moment1": the parameter's position, not Paddle's name for it.

    Paddle's names hold counters of the process, so they mean nothing to another process.
    """
    return {name: tensor.numpy() for name, tensor in _tensors_by_position(optimizer, parameters).items()}


def load_state_by_position(
    optimizer: Optimizer, parameters: Sequence[paddle.Tensor], state: Mapping[str, np.ndarray]
) -> None:
    """Undo `state_by_position`.

    Args:
        optimizer: a new one, which has made no step.
        parameters: in the order in which they were saved.
        state: of an optimizer of the same kind.
    """
    if not state:
        return
    # Paddle makes the tensors at the first step: make one that changes nothing.
    rate = optimizer.get_lr()
    optimizer.set_lr(0.0)
    for position in {int(name.partition(".")[0]) for name in state}:
        (parameters[position] * 0).sum().backward()
    optimizer.step()
    optimizer.clear_grad()
    optimizer.set_lr(rate)
    tensors = _tensors_by_position(optimizer, parameters)
    for name, value in state.items():
        tensors[_COUNTER.sub("", name)].set_value(value)


def _tensors_by_position(optimizer: Optimizer, parameters: Sequence[paddle.Tensor]) -> dict[str, paddle.Tensor]:
    named = {}
    for key, value in optimizer.state_dict().items():
        for position, parameter in enumerate(parameters):
            if key.startswith(f"{parameter.name}_"):
                named[f"{position}.{_COUNTER.sub('', key[len(parameter.name) + 1 :])}"] = value
    return named
