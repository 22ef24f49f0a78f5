"""Embed a table of so many images, or evaluate class means on embeddings of so many images and classes."""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from benchmarks.programs.common import PrivateMemory, report
from ppfsl.runtime import prepare

SIDE, DIM, EPISODES = 16, 64, 1000


def main() -> None:
    """Print seconds and private memory, which mapped files do not count in."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=["embeddings", "evaluation"])
    parser.add_argument("images", type=int)
    parser.add_argument("classes", type=int)
    parser.add_argument("--folder", type=Path, required=True, help="for the table")
    arguments = parser.parse_args()
    prepare(int(os.environ["OMP_NUM_THREADS"]))
    facts = (
        embeddings(arguments.images, arguments.folder)
        if arguments.work == "embeddings"
        else evaluation(arguments.images, arguments.classes)
    )
    report(**facts)


def embeddings(count: int, folder: Path) -> dict[str, float]:
    """Of a memory-mapped table of random pixels, with Conv4."""
    from ppfsl.backbones.embedder import Architecture, build_embedder
    from ppfsl.inference.engine import embed

    table = _table(count, folder)
    embedder = build_embedder(Architecture("conv4", SIDE, projection=DIM), 0)
    embed(embedder, table, np.arange(64))
    with PrivateMemory() as memory:
        start = time.perf_counter()
        result = embed(embedder, table, np.arange(count))
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "private_gb": memory.peak, "embeddings_gb": result.nbytes / 1e9}


def evaluation(count: int, classes: int) -> dict[str, float]:
    """1000 episodes, 5-way 5-shot 5 queries, drawn, evaluated and made into the rows of result.json."""
    from ppfsl.data.episodes import EpisodeSampler
    from ppfsl.evaluation import evaluate
    from ppfsl.methods.class_mean import ClassMean

    chance = np.random.default_rng(0)
    labels = np.arange(count) % classes
    centres = chance.standard_normal((classes, DIM), dtype=np.float32)
    features = np.empty((count, DIM), dtype=np.float32)
    for first in range(0, count, 1000):  # in parts, so that no memory but the embeddings' stays with the process
        part = centres[labels[first : first + 1000]]
        part += chance.standard_normal(part.shape, dtype=np.float32)
        features[first : first + 1000] = part / np.linalg.norm(part, axis=1, keepdims=True)
    with PrivateMemory() as memory:
        start = time.perf_counter()
        episodes = list(EpisodeSampler(np.arange(count), labels, 5, 5, 5, seed=0).take(EPISODES))
        drawn = time.perf_counter()
        done = evaluate(ClassMean(), lambda rows: features[rows], episodes, np.unique(labels))
        evaluated = time.perf_counter()
        done.per_class({label: str(label) for label in range(classes)})
        size = len(json.dumps(done.confusion_of_drawn()))
        written = time.perf_counter()
    return {
        "seconds": written - start,
        "drawing": drawn - start,
        "evaluating": evaluated - drawn,
        "writing": written - evaluated,
        "confusion_mb": size / 1e6,
        "private_gb": memory.peak,
        "embeddings_gb": features.nbytes / 1e9,
    }


def _table(count: int, folder: Path) -> np.ndarray:
    """uint8 [count, SIDE, SIDE, 3], mapped; made once."""
    path = folder / f"table-{count}.npy"
    if not path.exists():
        temporary = path.with_suffix(".building.npy")
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(count, SIDE, SIDE, 3))
        chance = np.random.default_rng(0)
        for start in range(0, count, 1000):
            array[start : start + 1000] = chance.integers(0, 256, array[start : start + 1000].shape, dtype=np.uint8)
        array.flush()
        del array
        temporary.rename(path)
    return np.load(path, mmap_mode="r")


if __name__ == "__main__":
    main()
