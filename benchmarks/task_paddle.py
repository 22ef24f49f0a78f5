"""Time MAML tasks in ppfsl: one process, one setting; prints JSON with seconds and peak memory."""

import argparse
import json
import time
from contextlib import nullcontext

from benchmarks.settings import TASK, TASKS


def main() -> None:
    """Adapt to a task and add its gradients to the parameters'."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("order", type=int, choices=[1, 2])
    parser.add_argument("steps", type=int)
    parser.add_argument("--plain", action="store_true", help="Paddle's own operators where they suffice")
    arguments = parser.parse_args()
    from ppfsl import runtime

    runtime.prepare(1)
    import numpy as np
    import paddle

    from ppfsl.backbones.embedder import Architecture, build_embedder
    from ppfsl.config import MamlConfig
    from ppfsl.methods.build import build_task_learner
    from ppfsl.methods.gradient_based import Task
    from ppfsl.onednn import fast_operators
    from ppfsl.randomness import generator

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
    seconds = []
    for _ in range(TASKS):
        start = time.perf_counter()
        with nullcontext() if arguments.plain else fast_operators():
            method.learn(task, 1.0, 0)
        seconds.append(time.perf_counter() - start)
        for weight in method.network.parameters():
            weight.clear_gradient()
    print(json.dumps({"seconds": min(seconds), "peak_gb": runtime.peak_memory()}))


if __name__ == "__main__":
    main()
