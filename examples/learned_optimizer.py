"""Learning to learn by gradient descent by gradient descent (Andrychowicz et al. 2016): random quadratics.

    python examples/learned_optimizer.py              output/learned_optimizer/{result.json,learned_optimizer.png}

Tasks are to minimise |A w - b|^2 over w in ten dimensions, with A and b drawn anew. A small LSTM learns to be the
optimizer; on new quadratics it is compared with gradient descent and Adam, whose learning rates are the best of a list
on quadratics of their own.
"""

import argparse
import sys
from collections.abc import Callable
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

from ppfsl import cli
from ppfsl.files import make_folder, replacing, write_json
from ppfsl.methods.layers import build_layer
from ppfsl.methods.learned_optimizer import LearnedOptimizer
from ppfsl.progress import progress_bar
from ppfsl.randomness import generator

DIMENSIONS, TASKS, STEPS, UNROLLED = 10, 128, 100, 20
RATES = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0]


@dataclass(frozen=True)
class Quadratics:
    """|A w - b|^2 for a batch of tasks.

    Attributes:
        a: [T, D, D], standard normal.
        b: [T, D, 1], standard normal.
    """

    a: paddle.Tensor
    b: paddle.Tensor

    @classmethod
    def drawn(cls, tasks: int, chance: np.random.Generator) -> "Quadratics":
        """At random."""
        shapes = ((tasks, DIMENSIONS, DIMENSIONS), (tasks, DIMENSIONS, 1))
        return cls(*(paddle.to_tensor(chance.standard_normal(shape).astype(np.float32)) for shape in shapes))

    def values(self, w: paddle.Tensor) -> paddle.Tensor:
        """[T, D, 1] -> [T]."""
        return (paddle.bmm(self.a, w) - self.b).square().sum([1, 2])

    def gradients(self, w: paddle.Tensor) -> paddle.Tensor:
        """Of each task's value: [T, D, 1] -> [T, D, 1]."""
        return 2 * paddle.bmm(self.a.transpose([0, 2, 1]), paddle.bmm(self.a, w) - self.b)


Update = Callable[[paddle.Tensor], paddle.Tensor]
"""What an optimizer adds to w, from the gradient; it keeps what it remembers."""


def gradient_descent(rate: float) -> Update:
    """-rate * gradient."""
    return lambda gradient: -rate * gradient


def adam(rate: float) -> Update:
    """Adam (Kingma and Ba 2015) with its usual settings."""
    first, second, step = paddle.zeros([1]), paddle.zeros([1]), 0

    def update(gradient: paddle.Tensor) -> paddle.Tensor:
        nonlocal first, second, step
        step += 1
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient.square()
        return -rate * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)

    return update


def learned(optimizer: LearnedOptimizer, tasks: int) -> Update:
    """The LSTM."""
    states = optimizer.start(tasks * DIMENSIONS)

    def update(gradient: paddle.Tensor) -> paddle.Tensor:
        nonlocal states
        change, states = optimizer(gradient, states)
        return change

    return update


def trained(iterations: int, seed: int) -> LearnedOptimizer:
    """Truncated backpropagation through time: 20 steps of 100 at a time, the sum of the values as the loss."""
    optimizer = build_layer({"name": "learned_optimizer", "arguments": {"hidden": 20}}, seed)
    assert isinstance(optimizer, LearnedOptimizer)
    rate = paddle.optimizer.lr.CosineAnnealingDecay(3e-3, iterations * STEPS // UNROLLED)
    clip = paddle.nn.ClipGradByGlobalNorm(1.0)
    outer = paddle.optimizer.Adam(rate, parameters=optimizer.parameters(), grad_clip=clip)
    with progress_bar(iterations, "learning", "run") as bar:
        for iteration in range(iterations):
            tasks = Quadratics.drawn(TASKS, generator(seed, "training", iteration))
            w, states = paddle.zeros([TASKS, DIMENSIONS, 1]), optimizer.start(TASKS * DIMENSIONS)
            for _ in range(STEPS // UNROLLED):
                total = paddle.zeros([])
                for _ in range(UNROLLED):
                    change, states = optimizer(tasks.gradients(w), states)
                    w = w + change
                    total = total + tasks.values(w).mean()
                (total / UNROLLED).backward()
                outer.step()
                outer.clear_grad()
                rate.step()
                w, states = w.detach(), [(hidden.detach(), cell.detach()) for hidden, cell in states]
            bar.update(1)
    return optimizer


@paddle.no_grad()
def run(update: Update, tasks: Quadratics) -> np.ndarray:
    """The values after 0, 1, .. steps: [steps + 1, T]."""
    w = paddle.zeros([len(tasks.b), DIMENSIONS, 1])
    values = [tasks.values(w)]
    for _ in range(STEPS):
        w = w + update(tasks.gradients(w))
        values.append(tasks.values(w))
    return paddle.stack(values).numpy()


def best_rate(build: Callable[[float], Update], tasks: Quadratics) -> float:
    """The rate with the lowest value at the end."""
    ends = {rate: float(run(build(rate), tasks)[-1].mean()) for rate in RATES}
    return min(ends, key=lambda rate: ends[rate] if np.isfinite(ends[rate]) else np.inf)


def main() -> None:
    """Train, compare on new quadratics, write numbers and picture."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=300, help="runs of 100 steps on 128 quadratics each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("output/learned_optimizer"))
    arguments = parser.parse_args()
    if arguments.iterations < 1:
        parser.error(f"--iterations {arguments.iterations} is less than 1")
    make_folder(arguments.output)
    optimizer = trained(arguments.iterations, arguments.seed)
    choice, tasks = (Quadratics.drawn(TASKS, generator(arguments.seed, part)) for part in ("choice", "test"))
    curves = {"learned": run(learned(optimizer, TASKS), tasks)}
    rates = {}
    for name, build in {"gradient descent": gradient_descent, "Adam": adam}.items():
        rates[name] = best_rate(build, choice)
        curves[name] = run(build(rates[name]), tasks)
    figure, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for (name, values), style in zip(curves.items(), ("-", "--", ":"), strict=True):
        axis.plot(values.mean(1), style, label=name + (f", rate {rates[name]:g}" if name in rates else ""))
    axis.set(xlabel="steps", ylabel="mean value", yscale="log", title="new quadratics in ten dimensions")
    axis.legend()
    with replacing(arguments.output / "learned_optimizer.png") as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    means = {name: values.mean(1).tolist() for name, values in curves.items()}
    settings = {"iterations": arguments.iterations, "seed": arguments.seed, "quadratics": TASKS, "rates": rates}
    write_json(arguments.output / "result.json", {**settings, "mean_value": means})
    for name, values in curves.items():
        half = 1.96 * values[-1].std() / np.sqrt(TASKS)
        print(f"{name}: {values[20].mean():.3f} after 20 steps, {values[-1].mean():.3f} +- {half:.3f} after {STEPS}")


if __name__ == "__main__":
    cli.run(main)
