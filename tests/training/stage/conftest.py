"""Toy images to train a stage on."""

import numpy as np
import pytest

from ppfsl.data.table import ImageTable
from ppfsl.randomness import generator
from tests.training.stage.toy import CLASSES, EACH, SIDE


@pytest.fixture(scope="module")
def table() -> ImageTable:
    """Noise about a colour per class; labels 10, 20, ..., the rows shuffled."""
    rng = generator(0, "table")
    labels = rng.permutation(np.repeat(10 * np.arange(1, CLASSES + 1), EACH))
    colours = rng.integers(60, 200, (CLASSES + 1, 1, 1, 3))[labels // 10]
    images = colours + rng.integers(-50, 50, (len(labels), SIDE, SIDE, 3))
    return ImageTable(
        name="toy",
        images=images.astype(np.uint8),
        labels=labels,
        class_names={int(label): str(label) for label in labels},
        files=tuple(map(str, range(len(labels)))),
        lists={},
        hash="0" * 64,
    )


@pytest.fixture(scope="module")
def rows(table: ImageTable) -> np.ndarray:
    """The images of all classes but label 20."""
    return np.flatnonzero(table.labels != 20)
