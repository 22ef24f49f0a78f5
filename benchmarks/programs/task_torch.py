"""Time the same MAML tasks in PyTorch by torch.func.functional_call; prints JSON. Runs without ppfsl."""

import argparse
import os

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from benchmarks.programs.common import report, step_seconds
from benchmarks.programs.networks_torch import conv4
from benchmarks.settings import TASK


def main() -> None:
    """Adapt to a task and add its gradients to the parameters'."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("order", type=int, choices=[1, 2])
    parser.add_argument("steps", type=int)
    parser.add_argument("--tasks", type=int, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
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

    def learn() -> None:
        weights = own
        for _ in range(arguments.steps):
            loss = F.cross_entropy(functional_call(network, weights, (support,)), labels)
            gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=arguments.order == 2)
            weights = {
                name: weight - TASK.inner_lr * gradient
                for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
            }
        F.cross_entropy(functional_call(network, weights, (queries,)), truth).backward()
        network.zero_grad()

    report(milliseconds=1000 * step_seconds(learn, arguments.tasks))


if __name__ == "__main__":
    main()
