"""Embed images with a frozen network: ppfsl's engine, or Paddle's eager mode as it comes; prints images per second."""

import argparse
import os
from typing import Any

import numpy as np

from benchmarks.programs.common import rate_and_setup, report, rounded
from benchmarks.settings import EMBEDDED, NETWORKS


def main() -> None:
    """uint8 images in, embeddings of length one out, both in memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=EMBEDDED)
    parser.add_argument("way", choices=["engine", "eager"])
    parser.add_argument("--batches", type=int, required=True, help="beside the first")
    arguments = parser.parse_args()
    if arguments.way == "engine":
        from ppfsl.runtime import prepare

        prepare(int(os.environ["OMP_NUM_THREADS"]))
    import paddle

    from benchmarks.programs.networks_paddle import build
    from ppfsl.inference.engine import embed

    setting = NETWORKS[arguments.network]
    embedder = build(arguments.network)
    embedder.eval()
    shape = ((1 + arguments.batches) * setting.batch, setting.pixels, setting.pixels, setting.channels)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def engine(images: Any, count: int) -> np.ndarray:
        return embed(embedder, images, np.arange(count), batch_size=setting.batch)

    def eager(images: Any, count: int) -> np.ndarray:
        parts = []
        with paddle.no_grad():
            for start in range(0, count, setting.batch):
                pixels = images[start : min(start + setting.batch, count)].transpose(0, 3, 1, 2).astype(np.float32)
                parts.append(embedder(paddle.to_tensor(pixels)).numpy())
        return np.concatenate(parts)

    run = engine if arguments.way == "engine" else eager
    rate, setup, embedded = rate_and_setup(run, images, setting.batch)
    outputs = [rounded(row) for row in embedded[:2, :64].tolist()]
    report(images_per_second=rate, setup_seconds=setup, outputs=outputs)


if __name__ == "__main__":
    main()
