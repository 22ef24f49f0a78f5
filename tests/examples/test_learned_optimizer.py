"""The quadratics example: gradients, the optimizers it compares with, and a short run."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest

from ppfsl.randomness import generator

SCRIPT = Path(__file__).parents[2] / "examples" / "learned_optimizer.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("learned_optimizer_example", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["learned_optimizer_example"] = module  # where its dataclass looks for its own annotations
    spec.loader.exec_module(module)
    yield module
    del sys.modules["learned_optimizer_example"]


def test_quadratics_are_drawn_anew_for_every_task(example):
    tasks = example.Quadratics.drawn(400, generator(0))
    assert tasks.a.shape == [400, 10, 10]
    assert tasks.b.shape == [400, 10, 1]
    assert tasks.a.mean().item() == pytest.approx(0, abs=0.03)
    assert tasks.a.std().item() == pytest.approx(1, abs=0.03)
    assert not np.array_equal(tasks.a[0].numpy(), tasks.a[1].numpy())


def test_values_and_gradients_of_each_task(example):
    rng = generator(1)
    a, b, w = rng.normal(size=(3, 4, 4)), rng.normal(size=(3, 4, 1)), rng.normal(size=(3, 4, 1))
    tasks = example.Quadratics(paddle.to_tensor(a), paddle.to_tensor(b))
    values = tasks.values(paddle.to_tensor(w)).numpy()
    np.testing.assert_allclose(values, [np.linalg.norm(a[t] @ w[t] - b[t]) ** 2 for t in range(3)], rtol=1e-12)
    gradients = tasks.gradients(paddle.to_tensor(w)).numpy()
    for place in range(4):
        ends = []
        for step in (1e-5, -1e-5):
            moved = w.copy()
            moved[:, place] += step
            ends.append(tasks.values(paddle.to_tensor(moved)).numpy())
        np.testing.assert_allclose(gradients[:, place, 0], (ends[0] - ends[1]) / 2e-5, rtol=1e-7)


def test_adam_is_paddles(example):
    update, weight = example.adam(0.03), paddle.to_tensor(generator(2).normal(size=(5, 1)))
    own = paddle.to_tensor(weight.numpy(), stop_gradient=False)
    reference = paddle.optimizer.Adam(0.03, parameters=[own])
    scale = paddle.to_tensor([[1.0], [10.0], [0.1], [3.0], [1e-3]], dtype="float64")
    for _ in range(20):
        (scale * own.square()).sum().backward()
        reference.step()
        reference.clear_grad()
        weight = weight + update(2 * scale * weight)
        np.testing.assert_allclose(weight.numpy(), own.numpy(), rtol=1e-6, atol=1e-8)


def test_optimizers_keep_memories_of_their_own(example):
    gradient = paddle.ones([2, 1])
    first, second = example.adam(0.1), example.adam(0.1)
    before = first(gradient).numpy()
    first(5 * gradient)
    np.testing.assert_array_equal(second(gradient).numpy(), before)


def test_gradient_descent_reaches_the_minimum_of_a_simple_quadratic(example):
    eye = paddle.eye(10).unsqueeze(0)
    tasks = example.Quadratics(eye, paddle.arange(10.0).reshape([1, 10, 1]))
    values = example.run(example.gradient_descent(0.25), tasks)
    assert values.shape == (example.STEPS + 1, 1)
    expected = 285 * 0.25 ** np.arange(example.STEPS + 1)  # every step halves the distance
    np.testing.assert_allclose(values[:15, 0], expected[:15], rtol=1e-4)


def test_the_best_rate_is_that_of_the_lowest_end_and_none_that_diverges(example):
    tasks = example.Quadratics(3 * paddle.eye(10).unsqueeze(0), paddle.ones([1, 10, 1]))  # stable below 1 / 9
    ends = {rate: example.run(example.gradient_descent(rate), tasks)[-1].mean() for rate in example.RATES}
    assert not np.isfinite(ends[0.5])
    stable = {rate: end for rate, end in ends.items() if rate < 1 / 9}
    assert example.best_rate(example.gradient_descent, tasks) == min(stable, key=stable.get)


def test_training_is_a_pure_function_of_the_seed_and_lowers_the_values(example, monkeypatch):
    monkeypatch.setattr(example, "TASKS", 16)
    optimizers = [example.trained(4, seed) for seed in (0, 0, 1)]
    weights = [{name: value.numpy() for name, value in one.state_dict().items()} for one in optimizers]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(np.array_equal(weights[0][name], weights[2][name]) for name in weights[0])
    tasks = example.Quadratics.drawn(16, generator(0, "test"))
    fresh = example.build_layer({"name": "learned_optimizer", "arguments": {"hidden": 20}}, 0)
    before, after = (example.run(example.learned(one, 16), tasks)[-1].mean() for one in (fresh, optimizers[0]))
    assert after < 0.9 * before


def test_a_short_run_writes_numbers_and_picture(tmp_path):
    command = [sys.executable, str(SCRIPT), "--iterations", "2", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for name in ("learned: ", "gradient descent: ", "Adam: "):
        assert name in done.stdout
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["iterations"], result["seed"]) == (2, 0)
    assert result["rates"].keys() == {"gradient descent", "Adam"}
    curves = result["mean_value"]
    assert {name: len(values) for name, values in curves.items()} == {
        name: 101 for name in ("learned", "gradient descent", "Adam")
    }
    assert len({values[0] for values in curves.values()}) == 1  # all start from zero
    assert all(curves[name][-1] < 0.5 * curves[name][0] for name in ("gradient descent", "Adam"))
    assert (tmp_path / "learned_optimizer.png").read_bytes().startswith(b"\x89PNG")
