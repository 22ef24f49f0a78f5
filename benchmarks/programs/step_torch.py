"""Time the same training steps in PyTorch, from the same weights: one process; prints JSON. Runs without ppfsl."""

import argparse
import os

import numpy as np
import torch

from benchmarks.programs.common import report, step_seconds
from benchmarks.programs.networks_torch import build
from benchmarks.settings import LEARNING_RATE, NETWORKS, TRAINED


def main() -> None:
    """Forward, backward and an Adam step on random images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=TRAINED)
    parser.add_argument("weights")
    parser.add_argument("--steps", type=int, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    setting = NETWORKS[arguments.network]
    network = build(arguments.network, arguments.weights).train()
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    shape = (setting.batch, setting.channels, setting.pixels, setting.pixels)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape).astype(np.float32))
    losses = []

    def step() -> None:
        loss = network(images).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())

    seconds = step_seconds(step, arguments.steps)
    report(images_per_second=setting.batch / seconds, outputs=losses[:2])


if __name__ == "__main__":
    main()
