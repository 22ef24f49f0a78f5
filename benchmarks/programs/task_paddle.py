"""Time MAML tasks in ppfsl: one process, one setting; prints JSON with seconds and peak memory."""

import argparse
from contextlib import ExitStack

import numpy as np

from benchmarks.programs.common import report, step_seconds
from benchmarks.settings import TASK
from ppfsl import runtime


def main() -> None:
    """Adapt to a task and add its gradients to the parameters'."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("order", type=int, choices=[1, 2])
    parser.add_argument("steps", type=int)
    parser.add_argument("--tasks", type=int, required=True)
    parser.add_argument("--plain", action="store_true", help="Paddle's own operators where they suffice")
    parser.add_argument("--twice", action="store_true", help="twice differentiable operators for order 1 as well")
    parser.add_argument("--native", action="store_true", help="among these, Paddle's own batch norm")
    arguments = parser.parse_args()
    runtime.prepare(1)
    import paddle

    from ppfsl.autodiff import native, twice_differentiable_operators
    from ppfsl.backbones.embedder import Architecture, build_embedder
    from ppfsl.config import MamlConfig
    from ppfsl.methods.build import build_task_learner
    from ppfsl.methods.gradient_based import Task
    from ppfsl.onednn import fast_operators
    from ppfsl.randomness import generator

    if arguments.native:
        del native.exchange.replacements["batch_norm"]
    embedder = build_embedder(Architecture("conv4", 28, 1), 0)
    config = MamlConfig(name="maml", inner_lr=TASK.inner_lr, inner_steps=arguments.steps, order=arguments.order)
    method = build_task_learner(config, embedder, 0)
    method.network.train()
    chance = np.random.default_rng(0)
    support, queries = (
        paddle.to_tensor(chance.integers(0, 256, (count, 1, 28, 28)).astype(np.float32))
        for count in (TASK.way, TASK.queries)
    )
    labels = paddle.arange(TASK.way)
    truth = paddle.to_tensor(np.repeat(np.arange(TASK.way), TASK.queries // TASK.way))
    task = Task(support, labels, queries, truth, generator(0, "task"))
    losses = []

    def learn() -> None:
        with ExitStack() as contexts:
            if not arguments.plain:
                contexts.enter_context(fast_operators())
            if arguments.twice:
                contexts.enter_context(twice_differentiable_operators())
            losses.append(method.learn(task, 1.0, 0)[0])
        for weight in method.network.parameters():
            weight.clear_gradient()

    report(milliseconds=1000 * step_seconds(learn, arguments.tasks), outputs=losses[0])


if __name__ == "__main__":
    main()
