"""Lay out Flowers102 for both readers: ppfsl's decoded table, and the extracted archive that Paddle's class wants."""

import argparse
import os
import shutil
from pathlib import Path

from benchmarks.programs.common import report
from benchmarks.settings import PHOTOGRAPHS
from ppfsl.runtime import prepare


def main() -> None:
    """What there is already is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--sizes", type=int, nargs="*", default=[PHOTOGRAPHS.cached_size], help="sides of the tables")
    arguments = parser.parse_args()
    prepare(os.cpu_count() or 1)
    official, folder = arguments.data / "flowers102", arguments.work / "flowers102"
    folder.mkdir(parents=True, exist_ok=True)
    for source in official.iterdir():
        if source.name != "jpg" and not (folder / source.name).exists():
            shutil.copy(source, folder / source.name)  # a copy: Paddle's class extracts beside the archive
    from paddle.vision.datasets import Flowers

    from ppfsl.config import DataConfig
    from ppfsl.data.datasets import open_table

    Flowers(*flowers_files(arguments.work))
    for size in arguments.sizes:
        open_table(
            DataConfig(
                name="flowers102",
                split="article",
                root=str(arguments.data),
                image_size=size,
                cache_dir=str(arguments.work / "cache"),
            )
        )
    report()


def flowers_files(work: Path) -> tuple[str, str, str]:
    """The first three arguments of `paddle.vision.datasets.Flowers`."""
    folder = work / "flowers102"
    return str(folder / "102flowers.tgz"), str(folder / "imagelabels.mat"), str(folder / "setid.mat")


if __name__ == "__main__":
    main()
