"""Time MAML tasks in ppfsl: one process, one setting; prints JSON with seconds and peak memory."""

import argparse
import math
import os
from contextlib import ExitStack

import numpy as np

from benchmarks.programs.common import report, step_seconds
from benchmarks.settings import TASK, task_images
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
    parser.add_argument("--save", metavar="FILE", help="the weights that every task starts from, for PyTorch")
    arguments = parser.parse_args()
    runtime.prepare(int(os.environ["OMP_NUM_THREADS"]))
    import paddle

    from ppfsl import exchange
    from ppfsl.autodiff import native, twice_differentiable_operators
    from ppfsl.backbones.embedder import Architecture, build_embedder
    from ppfsl.config import MamlConfig
    from ppfsl.methods.build import build_task_learner
    from ppfsl.methods.gradient_based import Task
    from ppfsl.onednn import fast_operators
    from ppfsl.randomness import generator

    if arguments.native:
        # Put back rather than taken out, which would leave its place to oneDNN's.
        native.exchange.replacements["batch_norm"] = exchange.native["batch_norm"]
    embedder = build_embedder(Architecture("conv4", 28, 1), 0)
    config = MamlConfig(name="maml", inner_lr=TASK.inner_lr, inner_steps=arguments.steps, order=arguments.order)
    method = build_task_learner(config, embedder, 0)
    method.network.train()
    if arguments.save:
        head = [method.layer.linear.weight.T, method.layer.linear.bias]
        np.savez(arguments.save, *[tensor.numpy() for tensor in [*embedder.backbone.state_dict().values(), *head]])
    support, queries = (paddle.to_tensor(images) for images in task_images())
    labels = paddle.arange(TASK.way)
    truth = paddle.to_tensor(np.repeat(np.arange(TASK.way), TASK.queries // TASK.way))
    task = Task(support, labels, queries, truth, generator(0, "task"))
    parameters = method.network.parameters()

    def learn() -> float:
        with ExitStack() as contexts:
            if not arguments.plain:
                contexts.enter_context(fast_operators())
            if arguments.twice:
                contexts.enter_context(twice_differentiable_operators())
            return method.learn(task, 1.0, 0)[0]

    def step() -> None:
        learn()
        for weight in parameters:
            weight.clear_gradient()

    seconds = step_seconds(step, arguments.tasks)
    loss = learn()
    length = math.sqrt(sum(float(weight.grad.square().sum()) for weight in parameters if weight.grad is not None))
    report(milliseconds=1000 * seconds, outputs=[loss, length])


if __name__ == "__main__":
    main()
