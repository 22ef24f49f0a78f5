"""Embed the same images with the same network in PyTorch's eager mode. Runs without ppfsl."""

import argparse
import os
from typing import Any

import numpy as np
import torch

from benchmarks.programs.common import rate_and_setup, report, rounded
from benchmarks.programs.networks_torch import build
from benchmarks.settings import EMBEDDED, NETWORKS


def main() -> None:
    """uint8 images in, embeddings of length one out, both in memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=EMBEDDED)
    parser.add_argument("weights")
    parser.add_argument("--batches", type=int, required=True, help="beside the first")
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    setting = NETWORKS[arguments.network]
    network = build(arguments.network, arguments.weights).eval()
    shape = ((1 + arguments.batches) * setting.batch, setting.pixels, setting.pixels, setting.channels)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    @torch.inference_mode()
    def run(images: Any, count: int) -> np.ndarray:
        parts = []
        for start in range(0, count, setting.batch):
            pixels = images[start : min(start + setting.batch, count)].transpose(0, 3, 1, 2).astype(np.float32)
            parts.append(torch.nn.functional.normalize(network(torch.from_numpy(pixels)), dim=-1).numpy())
        return np.concatenate(parts)

    rate, setup, embedded = rate_and_setup(run, images, setting.batch)
    outputs = [rounded(row) for row in embedded[:2, :64].tolist()]
    report(images_per_second=rate, setup_seconds=setup, outputs=outputs)


if __name__ == "__main__":
    main()
