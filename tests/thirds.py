"""Nine classes of six pictures, three for each part of a split."""

import numpy as np

from ppfsl.data.class_split import ClassSplit, Part
from ppfsl.data.table import ImageTable
from ppfsl.subject import Data


def data(part: tuple[int, ...] = (4, 5, 6)) -> Data:
    labels = np.repeat(np.arange(1, 10), 6)
    table = ImageTable(
        name="folder",
        images=np.zeros((54, 4, 4, 3), dtype=np.uint8),
        labels=labels,
        class_names={label: f"class {label}" for label in range(1, 10)},
        files=tuple(f"{label}/{number}.png" for number, label in enumerate(labels)),
        lists={},
        hash="0",
    )
    split = ClassSplit("thirds", Part((1, 2, 3)), Part((4, 5, 6)), Part((7, 8, 9)))
    return Data(table, split, np.flatnonzero(np.isin(labels, part)))
