"""What a person sees when a run ends: the table on the terminal, the pictures in VisualDL, the HTML report."""

from pathlib import Path
from typing import Any

import numpy as np

from ppfsl.data.support_set import SupportSet, as_episode
from ppfsl.progress import say
from ppfsl.randomness import generator
from ppfsl.reporting.report import write_report
from ppfsl.reporting.terminal import print_per_class
from ppfsl.reporting.visualdl import VisualDL
from ppfsl.results import Data

_MOST_EMBEDDINGS = 1000  # in the projector, the histograms and the map


def show_run(folder: Path, result: dict[str, Any], data: Data, embeddings: np.ndarray, support_set: SupportSet) -> None:
    """Write the pictures and the report of a run, and print its tables.

    Args:
        folder: the run directory, with everything but the report in it.
        result: what is in result.json.
        data: where the images are.
        embeddings: float32 [M, D], of `data.rows`.
        support_set: the run's fixed one.
    """
    images = data.table.images[as_episode(support_set, data.table).support.ravel()]
    chosen = np.sort(generator(0, "shown embeddings").permutation(len(data.rows))[:_MOST_EMBEDDINGS])
    labels = data.table.labels[data.rows[chosen]]
    names = [data.table.class_names[label] for label in labels.tolist()]
    same, other = pairwise_distances(embeddings[chosen], labels)
    with VisualDL(folder, "pictures") as board:
        for place, (_, label) in enumerate(support_set.support):
            board.image(f"support set/{data.table.class_names[label]}", images[place], place % support_set.shot)
        board.histogram("embedding distance/same class", same)
        board.histogram("embedding distance/other class", other)
        board.embeddings(f"{support_set.part} classes", embeddings[chosen], names)
    report = write_report(folder, images, embeddings[chosen], names)
    print_per_class(result)
    say(f"report: {report}\ncurves: visualdl --logdir {folder / 'vdl'} --language en")


def pairwise_distances(embeddings: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean distances between embeddings of one class, and of two: [N, D], [N] -> [pairs], [pairs]."""
    squares = (embeddings**2).sum(1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * embeddings @ embeddings.T, 0))
    first, second = np.triu_indices(len(labels), 1)
    same = labels[first] == labels[second]
    pairs = distances[first, second]
    return pairs[same], pairs[~same]
