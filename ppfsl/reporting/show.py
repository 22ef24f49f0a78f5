"""What a person sees when a run ends: the table on the terminal, the pictures in VisualDL, the HTML report."""

import io
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ppfsl.config import Config
from ppfsl.data.support_set import SupportSet, as_episode
from ppfsl.files import replacing
from ppfsl.progress import say
from ppfsl.randomness import generator
from ppfsl.reporting.drawing import to_png
from ppfsl.reporting.examples import TITLES, examples
from ppfsl.reporting.plots import contact_sheet
from ppfsl.reporting.report import write_report
from ppfsl.reporting.terminal import print_per_class
from ppfsl.reporting.visualdl import VisualDL
from ppfsl.subject import Data, Subject

_MOST_EMBEDDINGS = 1000  # in the projector, the histograms and the map
_MOST_CLASSES = 30  # in the histograms


def show_run(
    folder: Path, result: dict[str, Any], config: Config, data: Data, subject: Subject, support_set: SupportSet
) -> None:
    """Write the pictures and the report of a run, and print its tables.

    Args:
        folder: the run directory, with everything but the report in it.
        result: what is in result.json.
        config: the run's.
        data: where the images are.
        subject: the embedder, and what it makes of `data.rows`.
        support_set: the run's fixed one.
    """
    episode, embeddings = as_episode(support_set, data.table), subject.embeddings
    images = data.table.images[episode.support.ravel()]
    chosen = np.sort(generator(0, "shown embeddings").permutation(len(data.rows))[:_MOST_EMBEDDINGS])
    labels = data.table.labels[data.rows[chosen]]
    names = [data.table.class_names[label] for label in labels.tolist()]
    with VisualDL(folder, "pictures") as board:
        sheet = contact_sheet(images, [data.table.class_names[label] for _, label in support_set.support])
        board.image("support set", _pixels(to_png(sheet)))
        pictures = examples(config, data, subject, result, episode)
        for picture in pictures:
            png = to_png(picture.figure)
            board.image(picture.title.lower(), _pixels(png))
            with replacing(_picture_file(folder, picture.title)) as temporary:
                temporary.write_bytes(png)
        for title in set(TITLES).difference(picture.title for picture in pictures):  # of an earlier run in this folder
            _picture_file(folder, title).unlink(missing_ok=True)
        # VisualDL draws nothing for a histogram with a single step: a step a class also shows which class is diffuse.
        for step, (same, other) in enumerate(distances_by_class(embeddings[chosen], labels)):
            board.histogram("embedding distance, a step a class/to the same class", same, step)
            board.histogram("embedding distance, a step a class/to other classes", other, step)
        board.embeddings(f"{support_set.part} classes", embeddings[chosen], names)
    report = write_report(folder, images, embeddings[chosen], names, pictures)
    print_per_class(result)
    say(f"report: {report}\ncurves: {curves_command(folder)}")


def curves_command(folder: Path) -> str:
    """What shows a run's curves, to be typed into a shell."""
    return f"visualdl --logdir {shlex.quote(str(folder / 'vdl'))} --language en --disable-telemetry"


def _picture_file(folder: Path, title: str) -> Path:
    return folder / "pictures" / f"{title.lower().replace(' ', '_')}.png"


def _pixels(png: bytes) -> np.ndarray:
    """uint8 [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def distances_by_class(embeddings: np.ndarray, labels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Euclidean distances from the embeddings of each class, by ascending label.

    Args:
        embeddings: [N, D].
        labels: [N].

    Yields:
        Of one class: the distances of its pairs, and those to the embeddings of all other classes.
    """
    squares = (embeddings**2).sum(1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * embeddings @ embeddings.T, 0))
    for label in np.unique(labels)[:_MOST_CLASSES]:
        inside = labels == label
        of_class = distances[inside][:, inside]
        yield of_class[np.triu_indices(len(of_class), 1)], distances[inside][:, ~inside].ravel()
