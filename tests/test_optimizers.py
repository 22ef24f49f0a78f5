"""Optimizers against numpy, schedules against hand-computed values, state that outlives Paddle's names."""

import math
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from ppfsl.config import OptimizerConfig, ScheduleConfig
from ppfsl.optimizers import build_optimizer, learning_rate, load_state_by_position, state_by_position
from ppfsl.randomness import generator

NAMES = ("sgd", "momentum", "adam", "adamw")
LR = 0.1


def config(name: str, **changes: Any) -> OptimizerConfig:
    return OptimizerConfig(**{"name": name, "lr": LR, **changes})


class Net(nn.Layer):
    """A matrix, a vector, a matrix that gets no gradient, and a vector under another name."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 2)
        self.unused = nn.Linear(2, 2)
        self.last = nn.Linear(2, 1)
        for number, parameter in enumerate(self.parameters()):
            values = generator(0, "net", number).standard_normal(parameter.shape)
            parameter.set_value(values.astype(np.float32))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.last(paddle.tanh(self.first(x)))


def gradients(net: Net, step: int, scale: float = 1.0) -> None:
    x = generator(0, "batch", step).standard_normal((5, 3)).astype(np.float32)
    ((net(paddle.to_tensor(x)) ** 2).mean() * scale).backward()


def train(net: Net, optimizer: paddle.optimizer.Optimizer, steps: range) -> None:
    for step in steps:
        gradients(net, step)
        optimizer.step()
        optimizer.clear_grad()


def values(net: nn.Layer) -> list[np.ndarray]:
    return [parameter.numpy().copy() for parameter in net.parameters()]


# --- schedules


def rates(total: int, per_epoch: int, **schedule: Any) -> list[float]:
    return [learning_rate(ScheduleConfig(**schedule), 2.0, step, total, per_epoch) for step in range(total)]


def test_constant() -> None:
    assert rates(6, 2, name="constant") == [2.0] * 6


def test_cosine_falls_from_the_first_rate_towards_zero() -> None:
    assert rates(4, 2, name="cosine") == pytest.approx([2, 1 + math.sqrt(0.5), 1, 1 - math.sqrt(0.5)])
    schedule = ScheduleConfig(name="cosine")
    assert learning_rate(schedule, 2.0, 4, 4, 2) == pytest.approx(0)  # where the step after the last would be


def test_warm_up_rises_linearly_to_the_first_rate() -> None:
    assert rates(6, 2, name="constant", warmup_epochs=2) == pytest.approx([0.4, 0.8, 1.2, 1.6, 2, 2])
    assert rates(6, 2, name="constant", warmup_epochs=0.5) == pytest.approx([1, 2, 2, 2, 2, 2])


def test_cosine_after_a_warm_up() -> None:
    found = rates(6, 2, name="cosine", warmup_epochs=1)
    assert found == pytest.approx([2 / 3, 4 / 3, 2, 1 + math.sqrt(0.5), 1, 1 - math.sqrt(0.5)])


def test_warm_up_as_long_as_the_stage() -> None:
    assert rates(3, 3, name="cosine", warmup_epochs=1) == pytest.approx([0.5, 1, 1.5])
    assert rates(3, 3, name="cosine", warmup_epochs=5) == pytest.approx([2 / 16, 4 / 16, 6 / 16])


def test_steps_multiply_by_gamma_at_their_epochs() -> None:
    found = rates(8, 2, name="step", milestones=(1, 3), gamma=0.1)
    assert found == pytest.approx([2, 2, 0.2, 0.2, 0.2, 0.2, 0.02, 0.02])
    assert rates(4, 2, name="step", milestones=(1.5,), gamma=0.5) == pytest.approx([2, 2, 2, 1])


# --- steps against numpy


class Numpy:
    """One parameter's optimizer as the papers word it."""

    def __init__(self, name: str, value: np.ndarray, decay: float, momentum: float) -> None:
        self.name, self.value, self.decay, self.beta = name, value.astype(np.float64), decay, momentum
        self.velocity = self.square = np.zeros_like(self.value)
        self.steps = 0

    def step(self, gradient: np.ndarray) -> None:
        decay = self.decay if self.value.ndim > 1 else 0.0
        gradient = gradient.astype(np.float64)
        self.steps += 1
        if self.name == "adamw":
            self.value = self.value * (1 - LR * decay)
        else:
            gradient = gradient + decay * self.value
        if self.name == "sgd":
            self.value = self.value - LR * gradient
        elif self.name == "momentum":
            self.velocity = self.beta * self.velocity + gradient
            self.value = self.value - LR * (gradient + self.beta * self.velocity)
        else:
            self.velocity = 0.9 * self.velocity + 0.1 * gradient
            self.square = 0.999 * self.square + 0.001 * gradient**2
            mean = self.velocity / (1 - 0.9**self.steps)
            deviation = np.sqrt(self.square / (1 - 0.999**self.steps))
            self.value = self.value - LR * mean / (deviation + 1e-8)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_steps_match_numpy_and_vectors_are_spared_the_decay(name: str, decay: float) -> None:
    net = Net()
    momentum = {"momentum": 0.8} if name == "momentum" else {}
    optimizer = build_optimizer(config(name, weight_decay=decay, **momentum), net.parameters())
    used = [*net.first.parameters(), *net.last.parameters()]
    expected = [Numpy(name, parameter.numpy(), decay, 0.8) for parameter in used]
    for step in range(4):
        gradients(net, step)
        for parameter, theirs in zip(used, expected, strict=True):
            theirs.step(parameter.grad.numpy())
        optimizer.step()
        optimizer.clear_grad()
        for parameter, theirs in zip(used, expected, strict=True):
            np.testing.assert_allclose(parameter.numpy(), theirs.value, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_without_gradient_stay(name: str) -> None:
    net = Net()
    before = values(net.unused)
    train(net, build_optimizer(config(name, weight_decay=0.3), net.parameters()), range(2))
    for old, new in zip(before, values(net.unused), strict=True):
        np.testing.assert_array_equal(old, new)


def test_optimizer_leaves_no_decay_behind() -> None:
    ends = []
    for earlier in (None, "adam", "momentum"):
        net = Net()
        if earlier:
            build_optimizer(config(earlier, weight_decay=0.5), net.parameters())
        train(net, build_optimizer(config("adamw"), net.parameters()), range(3))
        ends.append(values(net))
    for end in ends[1:]:
        for one, other in zip(ends[0], end, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("limit", [0.5, 1e6])
def test_clip_norm_bounds_all_gradients_together(limit: float) -> None:
    net = Net()
    used = [*net.first.parameters(), *net.last.parameters()]
    before = [parameter.numpy().copy() for parameter in used]
    optimizer = build_optimizer(config("sgd"), net.parameters(), clip_norm=limit)
    gradients(net, 0, scale=100)
    steepness = [parameter.grad.numpy().copy() for parameter in used]
    norm = math.sqrt(sum((gradient.astype(np.float64) ** 2).sum() for gradient in steepness))
    assert norm > 1
    optimizer.step()
    for parameter, old, gradient in zip(used, before, steepness, strict=True):
        moved = old - LR * gradient * min(1, limit / norm)
        np.testing.assert_allclose(parameter.numpy(), moved, rtol=1e-4, atol=1e-5)


# --- state


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("earlier_optimizers", [0, 1, 2])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_state_goes_on_in_another_model(name: str, earlier_optimizers: int, decay: float) -> None:
    net = Net()
    for _ in range(earlier_optimizers):  # as earlier stages of a run: Paddle counts them in its names
        train(net, build_optimizer(config("adam"), net.parameters()), range(1))
    optimizer = build_optimizer(config(name, weight_decay=decay), net.parameters())
    train(net, optimizer, range(3))
    state = state_by_position(optimizer, net.parameters())

    other = Net()
    assert [p.name for p in other.parameters()] != [p.name for p in net.parameters()]
    for parameter, value in zip(other.parameters(), values(net), strict=True):
        parameter.set_value(value)
    resumed = build_optimizer(config(name, weight_decay=decay), other.parameters())
    load_state_by_position(resumed, other.parameters(), state)
    for one, two in zip(values(net), values(other), strict=True):
        np.testing.assert_array_equal(one, two)  # loading moves no parameter
    assert resumed.get_lr() == pytest.approx(LR)

    train(net, optimizer, range(3, 6))
    train(other, resumed, range(3, 6))
    for one, two in zip(values(net), values(other), strict=True):
        np.testing.assert_array_equal(one, two)
    later, found = state_by_position(optimizer, net.parameters()), state_by_position(resumed, other.parameters())
    assert later.keys() == found.keys() == state.keys()
    for key, value in later.items():
        np.testing.assert_array_equal(value, found[key])


def test_state_has_names_of_its_own_and_is_a_copy() -> None:
    net = Net()
    optimizer = build_optimizer(config("momentum"), net.parameters())
    assert state_by_position(optimizer, net.parameters()) == {}
    train(net, optimizer, range(1))
    state = state_by_position(optimizer, net.parameters())
    assert state.keys() == {"0.velocity", "1.velocity", "4.velocity", "5.velocity"}  # 2 and 3 have no gradient
    kept = {key: value.copy() for key, value in state.items()}
    train(net, optimizer, range(1, 3))
    for key, value in state.items():
        np.testing.assert_array_equal(value, kept[key])


def test_empty_state_loads() -> None:
    net = Net()
    optimizer = build_optimizer(config("sgd"), net.parameters())
    load_state_by_position(optimizer, net.parameters(), {})
    train(net, optimizer, range(1))


def test_loading_matters() -> None:
    """Without its state, Adam goes another way: what the tests above compare is sensitive to it."""
    net, other = Net(), Net()
    optimizer = build_optimizer(config("adam"), net.parameters())
    train(net, optimizer, range(3))
    for parameter, value in zip(other.parameters(), values(net), strict=True):
        parameter.set_value(value)
    train(net, optimizer, range(3, 4))
    train(other, build_optimizer(config("adam"), other.parameters()), range(3, 4))
    assert any(not np.array_equal(one, two) for one, two in zip(values(net), values(other), strict=True))
