"""Meta-gradients through inner loops, against closed forms and against differences of the outer loss."""

import os
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn

from ppfsl.autodiff import cross_entropy, functional_call, grad, trainable_parameters, twice_differentiable
from ppfsl.backbones.conv4 import Conv4

RNG = np.random.default_rng(6)


def _leaf(value):
    return paddle.to_tensor(np.asarray(value, dtype=np.float64), stop_gradient=False)


def _adapted(loss, weights, rate, steps, second_order=True):
    """The inner loop: gradient descent from the weights given."""
    for _ in range(steps):
        gradients = grad(loss(weights), weights, create_graph=second_order)
        weights = {name: weight - rate * gradients[name] for name, weight in weights.items()}
    return weights


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_linear_regression(steps):
    """Every step multiplies the error by I - rate X'X / n, hence the meta-gradient by its power."""
    x, y, x_query, y_query = (RNG.normal(size=shape) for shape in ((7, 3), (7, 1), (5, 3), (5, 1)))
    start, rate = RNG.normal(size=(3, 1)), 0.3
    model = nn.Linear(3, 1, bias_attr=False)

    def loss(weights, inputs, targets):
        residual = functional_call(model, weights, paddle.to_tensor(inputs)) - paddle.to_tensor(targets)
        return (residual**2).mean() / 2

    weights = {"weight": _leaf(start)}
    adapted = _adapted(lambda w: loss(w, x, y), weights, rate, steps)
    found = grad(loss(adapted, x_query, y_query), weights)["weight"].numpy()

    shrink = np.eye(3) - rate * x.T @ x / 7
    end = start
    for _ in range(steps):
        end = end - rate * x.T @ (x @ end - y) / 7
    np.testing.assert_allclose(adapted["weight"].numpy(), end, rtol=1e-12)
    expected = np.linalg.matrix_power(shrink, steps).T @ (x_query.T @ (x_query @ end - y_query) / 5)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    first_order = _adapted(lambda w: loss(w, x, y), weights, rate, steps, second_order=False)
    approximate = grad(loss(first_order, x_query, y_query), weights)["weight"].numpy()
    np.testing.assert_allclose(approximate, x_query.T @ (x_query @ end - y_query) / 5, rtol=1e-10)


def test_quadratic_functions():
    a, b = (matrix @ matrix.T for matrix in RNG.normal(size=(2, 4, 4)))
    start, rate, steps = RNG.normal(size=4), 0.05, 3
    tensors = [paddle.to_tensor(matrix) for matrix in (a, b)]
    weights = {"w": _leaf(start)}
    adapted = _adapted(lambda w: (w["w"] @ tensors[0] @ w["w"]) / 2, weights, rate, steps)
    found = grad((adapted["w"] @ tensors[1] @ adapted["w"]) / 2, weights)["w"].numpy()
    shrink = np.linalg.matrix_power(np.eye(4) - rate * a, steps)
    np.testing.assert_allclose(found, shrink @ b @ shrink @ start, rtol=1e-10)


def test_cubes_and_the_learning_rate_of_meta_sgd():
    """One step on w^3 / 3, judged by w^3 / 3: w' = w - rate w^2."""
    w, rate = RNG.uniform(0.5, 1, 4), RNG.uniform(0.1, 0.3, 4)
    leaves = {"w": _leaf(w), "rate": _leaf(rate)}
    gradient = grad((leaves["w"] ** 3).sum() / 3, {"w": leaves["w"]}, create_graph=True)["w"]
    found = grad(((leaves["w"] - leaves["rate"] * gradient) ** 3).sum() / 3, leaves)
    end = w - rate * w**2
    np.testing.assert_allclose(found["w"].numpy(), end**2 * (1 - 2 * rate * w), rtol=1e-12)
    np.testing.assert_allclose(found["rate"].numpy(), -(end**2) * w**2, rtol=1e-12)


def test_logistic_regression_in_numpy():
    x, labels = RNG.normal(size=(6, 4)), np.asarray([0, 1, 2, 0, 1, 2])
    x_query, query_labels = RNG.normal(size=(5, 4)), np.asarray([2, 1, 0, 0, 1])
    start, rate = RNG.normal(size=(4, 3)), 0.5
    model = nn.Linear(4, 3, bias_attr=False)
    weights = {"weight": _leaf(start)}
    adapted = _adapted(
        lambda w: cross_entropy(functional_call(model, w, paddle.to_tensor(x)), paddle.to_tensor(labels)),
        weights,
        rate,
        1,
    )
    loss = cross_entropy(functional_call(model, adapted, paddle.to_tensor(x_query)), paddle.to_tensor(query_labels))
    found = grad(loss, weights)["weight"].numpy()

    def gradient(w, x, labels):
        p = np.exp(x @ w)
        p /= p.sum(1, keepdims=True)
        return p, x.T @ (p - np.eye(3)[labels]) / len(x)

    p, inner = gradient(start, x, labels)
    outer = gradient(start - rate * inner, x_query, query_labels)[1]
    # H v = X' (diag p - p p') X v / n, by sample.
    moved = x @ outer
    hessian_product = x.T @ (p * moved - p * (p * moved).sum(1, keepdims=True)) / len(x)
    np.testing.assert_allclose(found, outer - rate * hessian_product, rtol=1e-10)


class _Task:
    """Conv4 of width 4 at 16 pixels with a head for three classes; all numbers fixed."""

    steps, rate = 3, 0.4

    def __init__(self):
        rng = np.random.default_rng(12)
        self.network = nn.Sequential(Conv4(width=4), nn.Linear(4, 3)).to(dtype="float64")
        self.twice = twice_differentiable(self.network)
        shapes = {name: p.shape for name, p in trainable_parameters(self.network).items()}
        self.start = {name: rng.normal(0, 0.4, shape) + (len(shape) == 1) for name, shape in shapes.items()}
        self.support, self.query = (paddle.to_tensor(rng.normal(size=(n, 3, 16, 16))) for n in (6, 9))
        self.support_labels = paddle.to_tensor([0, 1, 2] * 2)
        self.query_labels = paddle.to_tensor([0, 1, 2] * 3)
        self.directions = {name: rng.normal(size=value.shape) for name, value in self.start.items()}

    def outer_loss(self, start, second_order, frozen=()):
        twice = self.twice if second_order else self.network

        def loss(weights):
            return cross_entropy(functional_call(twice, {**start, **weights}, self.support), self.support_labels)

        moving = {name: value for name, value in start.items() if not name.startswith(tuple(frozen))}
        adapted = _adapted(loss, moving, self.rate, self.steps, second_order)
        return cross_entropy(functional_call(twice, {**start, **adapted}, self.query), self.query_labels)

    def meta_gradient(self, second_order, frozen=()):
        start = {name: _leaf(value) for name, value in self.start.items()}
        found = grad(self.outer_loss(start, second_order, frozen), start, allow_unused=True)
        return {name: value.numpy() for name, value in found.items()}

    def slope(self, name, frozen=(), step=1e-7):
        """By finite differences of the outer loss, with Paddle's own operators, along the parameter's direction."""
        losses = []
        for sign in (1, -1):
            start = {n: _leaf(v + sign * step * self.directions[n] * (n == name)) for n, v in self.start.items()}
            losses.append(self.outer_loss(start, False, frozen).item())
        return (losses[0] - losses[1]) / (2 * step)


@pytest.mark.parametrize("frozen", [(), ("0.",), ("1.",), ("0.blocks.0", "0.blocks.1"), ("0.blocks.3", "1.")])
def test_meta_gradient_of_a_convolutional_network(frozen):
    """MAML, ANIL (only the head adapts), BOIL (only the body), only the later layers, only the earlier ones."""
    task = _Task()
    found = task.meta_gradient(True, frozen)
    for name, gradient in found.items():
        expected = task.slope(name, frozen)
        assert abs((gradient * task.directions[name]).sum() - expected) <= 1e-5 * abs(expected), name


def test_the_last_loss_may_come_from_the_plain_network():
    """It is differentiated once, which Paddle's own operators do faster."""
    task = _Task()
    expected = task.meta_gradient(True)
    start = {name: _leaf(value) for name, value in task.start.items()}

    def loss(weights):
        return cross_entropy(functional_call(task.twice, weights, task.support), task.support_labels)

    adapted = _adapted(loss, start, task.rate, task.steps)
    found = grad(cross_entropy(functional_call(task.network, adapted, task.query), task.query_labels), start)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].numpy(), value, rtol=1e-6, atol=1e-9)


def test_second_order_differs_from_first_in_every_layer():
    task = _Task()
    second, first = task.meta_gradient(True), task.meta_gradient(False)
    for name, gradient in second.items():
        difference = np.abs(gradient - first[name]).max() / np.abs(gradient).max()
        assert difference > 0.05, f"{name}: {difference}"


def test_meta_gradients_accumulate_over_tasks_by_backward():
    task = _Task()
    expected = task.meta_gradient(True)
    start = {name: _leaf(value) for name, value in task.start.items()}
    for _ in range(2):
        task.outer_loss(start, True).backward()
    for name, value in start.items():
        np.testing.assert_allclose(value.grad.numpy(), 2 * expected[name], rtol=1e-9, atol=1e-12)


def _resident_megabytes():
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from Linux's /proc")
def test_graphs_are_given_back():
    """A look at a tensor's `grad_fn` makes Paddle 3.3 keep its graph for ever."""
    network = twice_differentiable(nn.Sequential(nn.Conv2D(1, 16, 3, padding=1), nn.BatchNorm2D(16), nn.ReLU()))
    weights, images = trainable_parameters(network), paddle.ones([16, 1, 32, 32])

    def step():
        adapted = _adapted(lambda w: (functional_call(network, w, images) ** 2).mean(), weights, 0.1, 1)
        grad((functional_call(network, adapted, images) ** 2).mean(), weights)

    for _ in range(5):
        step()
    before = _resident_megabytes()
    for _ in range(40):
        step()
    assert _resident_megabytes() - before < 40  # one graph holds more than 5 MB
