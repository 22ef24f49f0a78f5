"""The same batches by `paddle.vision.datasets.Flowers`, its transforms and `paddle.io.DataLoader`."""

import argparse
import time
from pathlib import Path

import numpy as np
from paddle.io import DataLoader
from paddle.vision import transforms as T
from paddle.vision.datasets import Flowers

from benchmarks.programs.common import report
from benchmarks.programs.flowers_prepare import flowers_files
from benchmarks.settings import PHOTOGRAPHS


def main() -> None:
    """A sample of an epoch, after batches that fill the loader's queues."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--batches", type=int, required=True)
    arguments = parser.parse_args()
    size = PHOTOGRAPHS
    changes = T.Compose(
        [
            T.RandomResizedCrop(size.size, scale=size.area),
            T.RandomHorizontalFlip(),
            T.ColorJitter(size.jitter, size.jitter, size.jitter),
            T.ToTensor(),
        ]
    )
    # Of this class, "train" is the official test list, the largest.
    dataset = Flowers(*flowers_files(arguments.work), mode="train", transform=changes)
    loader = DataLoader(dataset, batch_size=size.batch, shuffle=True, drop_last=True, num_workers=arguments.workers)
    filling = 3 * max(arguments.workers, 1) if arguments.batches > 3 else 0
    batches = iter(loader)
    for _ in range(filling):
        next(batches)
    shown = []
    start = time.perf_counter()
    for _ in range(arguments.batches):
        shown.append(next(batches)[0])
    seconds = time.perf_counter() - start
    figures = np.mean([(float(images.mean()), float(images.std())) for images in shown], 0).tolist()
    outputs = {"shape": shown[0].shape, "images": len(dataset), "mean_and_deviation": figures}
    rate = arguments.batches * size.batch / seconds
    timed = f"{arguments.batches * size.batch} of {len(dataset)}"
    report(seconds_per_epoch=len(dataset) / rate, images_per_second=rate, timed=timed, outputs=outputs)


if __name__ == "__main__":
    main()
