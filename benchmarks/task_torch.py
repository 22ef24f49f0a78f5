"""Time the same MAML tasks in PyTorch by torch.func.functional_call; prints JSON. Runs without ppfsl."""

import argparse
import json
import os
import resource
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from benchmarks.settings import TASK, TASKS
from benchmarks.step_torch import conv4


def main() -> None:
    """Adapt to a task and add its gradients to the parameters'."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("order", type=int, choices=[1, 2])
    parser.add_argument("steps", type=int)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = nn.Sequential(conv4(1), nn.Linear(64, TASK.way))
    network.train()
    chance = np.random.default_rng(0)
    support, queries = (
        torch.from_numpy(chance.normal(size=(count, 1, 28, 28)).astype(np.float32))
        for count in (TASK.way, TASK.queries)
    )
    labels = torch.arange(TASK.way)
    truth = torch.arange(TASK.way).repeat_interleave(TASK.queries // TASK.way)
    own = dict(network.named_parameters())
    seconds = []
    for _ in range(TASKS):
        start = time.perf_counter()
        weights = own
        for _ in range(arguments.steps):
            loss = F.cross_entropy(functional_call(network, weights, (support,)), labels)
            gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=arguments.order == 2)
            weights = {
                name: weight - TASK.inner_lr * gradient
                for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
            }
        F.cross_entropy(functional_call(network, weights, (queries,)), truth).backward()
        seconds.append(time.perf_counter() - start)
        network.zero_grad()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(json.dumps({"seconds": min(seconds), "peak_gb": peak}))


if __name__ == "__main__":
    main()
