"""Sinusoid regression, the first experiment of the MAML paper (Finn, Abbeel and Levine 2017, section 5.1).

    python examples/sinusoid.py                       three minutes; output/sinusoid/{result.json,sinusoid.png}
    python examples/sinusoid.py --iterations 2000 --output /tmp/sinusoid

A task is a sine wave of random amplitude (0.1 to 5) and phase (0 to pi), seen at ten points in -5 .. 5. MAML learns the
first weights of a small network from which one gradient step on ten points fits a new wave; the baseline learns to fit
all waves at once, hence their mean, and then takes the same step.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ppfsl.runtime import prepare

prepare(1)

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import paddle
import paddle.nn.functional as F

from ppfsl import cli
from ppfsl.autodiff import grad
from ppfsl.files import make_folder, replacing, write_json
from ppfsl.progress import progress_bar
from ppfsl.randomness import generator

HIDDEN, POINTS, TASKS = 40, 10, 25
INNER_RATE = 0.01
Weights = dict[str, paddle.Tensor]


@dataclass(frozen=True)
class Waves:
    """y = amplitude * sin(x - phase), one wave a task.

    Attributes:
        amplitude: float32 [T, 1, 1], 0.1 to 5.
        phase: float32 [T, 1, 1], 0 to pi.
    """

    amplitude: np.ndarray
    phase: np.ndarray

    @classmethod
    def drawn(cls, tasks: int, chance: np.random.Generator) -> "Waves":
        """Uniformly."""
        amplitude, phase = chance.uniform([0.1, 0.0], [5.0, np.pi], (tasks, 2)).astype(np.float32).T
        return cls(amplitude.reshape(-1, 1, 1), phase.reshape(-1, 1, 1))

    def points(self, count: int, chance: np.random.Generator) -> tuple[paddle.Tensor, paddle.Tensor]:
        """x uniform in -5 .. 5 and y: [T, count, 1] each."""
        x = chance.uniform(-5, 5, (len(self.phase), count, 1)).astype(np.float32)
        return paddle.to_tensor(x), paddle.to_tensor(self.at(x))

    def at(self, x: np.ndarray) -> np.ndarray:
        """[T, N, 1] -> [T, N, 1]."""
        return self.amplitude * np.sin(x - self.phase)


def fresh_weights(seed: int) -> Weights:
    """Of a network 1 - 40 - 40 - 1, with a first axis for tasks: normal, of variance 1 / (3 inputs), and biases 0."""
    weights: Weights = {}
    for layer, (inputs, outputs) in enumerate([(1, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 1)]):
        values = generator(seed, "sinusoid", layer).normal(0, np.sqrt(1 / (3 * inputs)), (1, inputs, outputs))
        weights[f"weight{layer}"] = paddle.to_tensor(values.astype(np.float32), stop_gradient=False)
        weights[f"bias{layer}"] = paddle.to_tensor(np.zeros((1, 1, outputs), np.float32), stop_gradient=False)
    return weights


def predict(weights: Weights, x: paddle.Tensor) -> paddle.Tensor:
    """[T, N, 1] -> [T, N, 1], every task by its own weights."""
    for layer in range(3):
        x = paddle.matmul(x, weights[f"weight{layer}"]) + weights[f"bias{layer}"]
        x = F.relu(x) if layer < 2 else x
    return x


def errors(weights: Weights, x: paddle.Tensor, y: paddle.Tensor) -> paddle.Tensor:
    """The mean squared error of every task: [T]."""
    return (predict(weights, x) - y).square().mean([1, 2])


def adapted(weights: Weights, x: paddle.Tensor, y: paddle.Tensor, steps: int, create_graph: bool) -> Weights:
    """The weights of every task after gradient steps on its points."""
    tasks = x.shape[0]
    own = {name: weight.expand([tasks, *weight.shape[1:]]) for name, weight in weights.items()}
    for _ in range(steps):
        gradients = grad(errors(own, x, y).sum(), own, create_graph)  # of the sum: each task by its own weights
        own = {name: weight - INNER_RATE * gradients[name] for name, weight in own.items()}
    return own


def trained(maml: bool, iterations: int, seed: int) -> Weights:
    """By MAML (one inner step, second order), or on the waves' points themselves; Adam, 25 waves a step."""
    weights = fresh_weights(seed)
    rate = paddle.optimizer.lr.CosineAnnealingDecay(1e-3, iterations)
    optimizer = paddle.optimizer.Adam(rate, parameters=list(weights.values()))
    with progress_bar(iterations, "MAML" if maml else "baseline", "step") as bar:
        for step in range(iterations):
            chance = generator(seed, "training", step)
            waves = Waves.drawn(TASKS, chance)
            own = adapted(weights, *waves.points(POINTS, chance), 1, create_graph=True) if maml else weights
            errors(own, *waves.points(POINTS, chance)).mean().backward()
            optimizer.step()
            optimizer.clear_grad()
            rate.step()
            bar.update(1)
    return weights


def errors_by_step(weights: Weights, seed: int, tasks: int = 600, most: int = 10) -> list[tuple[float, float]]:
    """Mean squared error on new waves after 0, 1, .. gradient steps on ten points, and half its 95 % interval."""
    chance = generator(seed, "test")
    waves = Waves.drawn(tasks, chance)
    x, y = waves.points(POINTS, chance)
    everywhere = paddle.to_tensor(np.tile(np.linspace(-5, 5, 100, dtype=np.float32).reshape(1, -1, 1), (tasks, 1, 1)))
    truth = paddle.to_tensor(waves.at(everywhere.numpy()))
    found = []
    for steps in range(most + 1):
        each = errors(adapted(weights, x, y, steps, create_graph=False), everywhere, truth).numpy()
        found.append((float(each.mean()), float(1.96 * each.std() / np.sqrt(tasks))))
    return found


def draw(path: Path, learned: dict[str, Weights], by_step: dict[str, list[tuple[float, float]]], seed: int) -> None:
    """One new wave before and after one and ten steps, by both, and the errors by step."""
    chance = generator(seed, "picture")
    wave = Waves(np.full((1, 1, 1), 4.0, np.float32), np.full((1, 1, 1), 1.0, np.float32))
    x, y = wave.points(POINTS, chance)
    line = np.linspace(-5, 5, 200, dtype=np.float32).reshape(1, -1, 1)
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for axis, (name, weights) in zip(axes, learned.items(), strict=False):
        axis.plot(line.ravel(), wave.at(line).ravel(), color="black", label="wave")
        for steps, style in ((0, ":"), (1, "--"), (10, "-")):
            after = predict(adapted(weights, x, y, steps, create_graph=False), paddle.to_tensor(line))
            axis.plot(
                line.ravel(),
                after.numpy().ravel(),
                style,
                color="tab:blue",
                label=f"steps: {steps}",
            )
        axis.plot(x.numpy().ravel(), y.numpy().ravel(), "^", color="tab:orange", label="ten points")
        axis.set(title=name, xlabel="x", ylim=(-6.5, 6.5))
    axes[0].legend(fontsize=8)
    for (name, scores), style in zip(by_step.items(), ("o-", "s--"), strict=True):
        means, halves = np.transpose(scores)
        axes[2].errorbar(range(len(means)), means, halves, fmt=style, markersize=4, label=name)
    axes[2].set(title="mean squared error on new waves", xlabel="gradient steps", ylim=(0, None))
    axes[2].legend(fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    plt.close(figure)


def main() -> None:
    """Train both, test both, write the numbers and the picture."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=25000, help="training steps of each; 70000 in the paper")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("output/sinusoid"))
    arguments = parser.parse_args()
    if arguments.iterations < 1:
        parser.error(f"--iterations {arguments.iterations} is less than 1")
    make_folder(arguments.output)
    names = {"MAML": True, "pretrained baseline": False}
    learned = {name: trained(maml, arguments.iterations, arguments.seed) for name, maml in names.items()}
    by_step = {name: errors_by_step(weights, arguments.seed) for name, weights in learned.items()}
    draw(arguments.output / "sinusoid.png", learned, by_step, arguments.seed)
    settings = {"iterations": arguments.iterations, "seed": arguments.seed, "waves": 600}
    write_json(arguments.output / "result.json", {**settings, "mean_squared_error": by_step})
    for name, scores in by_step.items():
        print(name, *(f"{steps}: {mean:.3f} +- {half:.3f}" for steps, (mean, half) in enumerate(scores[:4])), sep="  ")


if __name__ == "__main__":
    cli.run(main)
