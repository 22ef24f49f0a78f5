"""Embed images with a frozen network: ppfsl's engine, or Paddle's eager mode as it comes; prints images per second."""

import argparse
import os

import numpy as np

from benchmarks.programs.common import rate_and_setup, report, rounded
from benchmarks.settings import EMBEDDED, NETWORKS


def main() -> None:
    """uint8 images in, embeddings of length one out, both in memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=EMBEDDED)
    parser.add_argument("way", choices=["engine", "eager"])
    parser.add_argument("--batches", type=int, required=True)
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

    def engine(count: int) -> np.ndarray:
        return embed(embedder, images, np.arange(count), batch_size=setting.batch)

    def eager(count: int) -> np.ndarray:
        parts = []
        with paddle.no_grad():
            for start in range(0, count, setting.batch):
                pixels = images[start : start + setting.batch].transpose(0, 3, 1, 2).astype(np.float32)
                parts.append(embedder(paddle.to_tensor(pixels)).numpy())
        return np.concatenate(parts)

    run = engine if arguments.way == "engine" else eager
    rate, setup = rate_and_setup(run, setting.batch, arguments.batches)
    outputs = [rounded(row) for row in run(2)[:, :64].tolist()]
    report(images_per_second=rate, setup_seconds=setup, outputs=outputs)


if __name__ == "__main__":
    main()
