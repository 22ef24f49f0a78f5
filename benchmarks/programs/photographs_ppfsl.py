"""An epoch of augmented training batches from Flowers102 by ppfsl's image table, without a network."""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.programs.common import report
from benchmarks.settings import PHOTOGRAPHS
from ppfsl.runtime import prepare

if TYPE_CHECKING:
    from ppfsl.config import DataConfig


def main() -> None:
    """The official list of 6149 images, as tensors, made in the background as in training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--batches", type=int, default=None)
    parser.add_argument("--decode", action="store_true", help="afterwards, all photographs into a new cache")
    arguments = parser.parse_args()
    prepare(int(os.environ["OMP_NUM_THREADS"]))
    import paddle

    from ppfsl.config import AugmentationConfig, DataConfig
    from ppfsl.data.augmentation import augment
    from ppfsl.data.datasets import open_table
    from ppfsl.randomness import generator
    from ppfsl.training.prefetch import Prefetched

    size = PHOTOGRAPHS
    data = DataConfig(
        name="flowers102",
        split="article",
        root=str(arguments.data),
        image_size=size.size,
        cached_size=size.cached_size,
        cache_dir=str(arguments.work / "cache"),
    )
    changes = AugmentationConfig(crop="resized", crop_area=size.area, flip=True, jitter=size.jitter)
    table = open_table(data)
    rows = table.lists["test"]
    order = generator(0, "order").permutation(rows)
    starts = range(0, len(order) - size.batch + 1, size.batch)[: arguments.batches]

    def batches() -> Iterator[np.ndarray]:
        for start in starts:
            images = table.images[order[start : start + size.batch]]
            yield augment(images, size.size, changes, generator(0, "batch", start))

    began = time.perf_counter()
    with Prefetched(batches()) as made:
        shapes = [paddle.to_tensor(batch).shape for batch in made]
    seconds = time.perf_counter() - began
    again = islice(batches(), 12)  # what they hold is looked at outside of the timing
    figures = np.mean([(float(batch.mean()) / 255, float(batch.std()) / 255) for batch in again], 0).tolist()
    epoch = seconds / len(starts) * (len(rows) / size.batch)
    outputs = {"shape": shapes[0], "images": len(rows), "mean_and_deviation": figures}
    decoding = _decoding_seconds(data) if arguments.decode else None
    timed = f"{len(starts) * size.batch} of {len(rows)}"
    rate = len(starts) * size.batch / seconds
    report(seconds_per_epoch=epoch, images_per_second=rate, timed=timed, decoding=decoding, outputs=outputs)


def _decoding_seconds(data: "DataConfig") -> float:
    from ppfsl.data.datasets import open_table

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        open_table(data.model_copy(update={"cache_dir": folder}))
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
