"""The sinusoid example: its step by hand, and that MAML learns what the baseline cannot."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest

from ppfsl.randomness import generator

SCRIPT = Path(__file__).parents[2] / "examples" / "sinusoid.py"


@pytest.fixture(scope="module")
def sinusoid():
    spec = importlib.util.spec_from_file_location("sinusoid", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["sinusoid"] = module  # where its dataclass looks for its own annotations
    spec.loader.exec_module(module)
    yield module
    del sys.modules["sinusoid"]


def test_waves_are_sines_of_their_amplitude_and_phase(sinusoid):
    waves = sinusoid.Waves.drawn(500, generator(0))
    assert waves.amplitude.shape == waves.phase.shape == (500, 1, 1)
    assert 0.1 <= waves.amplitude.min() < 0.3 < 4.8 < waves.amplitude.max() <= 5
    assert 0 <= waves.phase.min() < 0.1 < 3 < waves.phase.max() <= np.pi
    x, y = waves.points(10, generator(1))
    assert x.shape == y.shape == [500, 10, 1]
    assert -5 <= x.min().item() < -4.9 < 4.9 < x.max().item() <= 5
    amplitude, phase = waves.amplitude[7, 0, 0], waves.phase[7, 0, 0]
    np.testing.assert_allclose(y[7, :, 0].numpy(), amplitude * np.sin(x[7, :, 0].numpy() - phase), rtol=1e-6)


def test_a_step_moves_each_task_by_its_own_gradient(sinusoid):
    weights = sinusoid.fresh_weights(0)
    x, y = sinusoid.Waves.drawn(3, generator(0)).points(10, generator(1))
    both = sinusoid.adapted(weights, x, y, 1, create_graph=False)
    for task in range(3):
        own = {name: weight.detach().clone() for name, weight in weights.items()}
        for weight in own.values():
            weight.stop_gradient = False
        loss = (sinusoid.predict(own, x[task : task + 1]) - y[task : task + 1]).square().mean()
        gradients = paddle.grad([loss], list(own.values()))
        for (name, weight), gradient in zip(own.items(), gradients, strict=True):
            expected = (weight - 0.01 * gradient)[0]
            np.testing.assert_allclose(both[name][task].numpy(), expected.numpy(), rtol=1e-5, atol=1e-7)


def test_the_meta_gradient_matches_finite_differences(sinusoid):
    weights = {name: weight.astype("float64").detach() for name, weight in sinusoid.fresh_weights(0).items()}
    waves = sinusoid.Waves.drawn(4, generator(2))
    (x, y), (asked, truth) = ([part.astype("float64") for part in waves.points(10, generator(k))] for k in (3, 4))

    def outer(weights):
        own = sinusoid.adapted(weights, x, y, 2, create_graph=True)
        return sinusoid.errors(own, asked, truth).mean()

    for weight in weights.values():
        weight.stop_gradient = False
    gradients = dict(zip(weights, paddle.grad([outer(weights)], list(weights.values())), strict=True))
    for name, weight in weights.items():
        direction = generator(5, name).normal(size=weight.shape)
        direction /= np.linalg.norm(direction)
        sides = []
        for sign in (1, -1):
            moved = paddle.to_tensor(weight.numpy() + sign * 1e-6 * direction, stop_gradient=False)
            sides.append(outer({**weights, name: moved}).item())
        expected = (sides[0] - sides[1]) / 2e-6
        np.testing.assert_allclose((gradients[name].numpy() * direction).sum(), expected, rtol=1e-5, atol=1e-8)


def test_one_step_helps_maml_more_than_the_baseline(tmp_path):
    command = [sys.executable, str(SCRIPT), "--iterations", "2000", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "MAML" in done.stdout and "pretrained baseline" in done.stdout
    errors = json.loads((tmp_path / "result.json").read_text())["mean_squared_error"]
    maml, baseline = (np.asarray(errors[name])[:, 0] for name in ("MAML", "pretrained baseline"))
    assert maml[1] < 0.65 * baseline[1]
    assert maml[1] < 0.7 * maml[0]
    assert (tmp_path / "sinusoid.png").read_bytes().startswith(b"\x89PNG")
