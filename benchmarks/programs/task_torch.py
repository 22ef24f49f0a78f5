"""Time the same MAML tasks in PyTorch by torch.func.functional_call; prints JSON. Runs without ppfsl."""

import argparse
import math
import os

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from benchmarks.programs.common import report, step_seconds
from benchmarks.programs.networks_torch import Normalized, conv4, load
from benchmarks.settings import TASK, task_images


def main() -> None:
    """Adapt to a task and add its gradients to the parameters'."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("order", type=int, choices=[1, 2])
    parser.add_argument("steps", type=int)
    parser.add_argument("--tasks", type=int, required=True)
    parser.add_argument("--weights", required=True, help="what `task_paddle --save` wrote")
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    network = Normalized(nn.Sequential(conv4(1), nn.Linear(64, TASK.way)), 1)
    load(network.network, arguments.weights)
    network.train()
    support, queries = (torch.from_numpy(images) for images in task_images())
    labels = torch.arange(TASK.way)
    truth = torch.arange(TASK.way).repeat_interleave(TASK.queries // TASK.way)
    own = dict(network.named_parameters())

    def learn() -> float:
        weights = own
        for _ in range(arguments.steps):
            loss = F.cross_entropy(functional_call(network, weights, (support,)), labels)
            gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=arguments.order == 2)
            weights = {
                name: weight - TASK.inner_lr * gradient
                for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
            }
        loss = F.cross_entropy(functional_call(network, weights, (queries,)), truth)
        loss.backward()
        return loss.item()

    def step() -> None:
        learn()
        network.zero_grad()

    seconds = step_seconds(step, arguments.tasks)
    loss = learn()
    length = math.sqrt(sum(float(weight.grad.square().sum()) for weight in own.values() if weight.grad is not None))
    report(milliseconds=1000 * seconds, outputs=[loss, length])


if __name__ == "__main__":
    main()
