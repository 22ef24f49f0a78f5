"""What result.json says of the pictures that were asked about."""

import dataclasses

import numpy as np

from ppfsl.data.class_split import ClassSplit, Part
from ppfsl.results import pictures_digest
from ppfsl.subject import Data
from tests.thirds import data


def test_pictures_are_known_by_name_and_label_whatever_their_size_and_split() -> None:
    one = data()
    larger = dataclasses.replace(one.table, images=np.ones((54, 8, 8, 3), dtype=np.uint8), hash="1")
    renamed = ClassSplit("other", Part(()), Part((1, 2, 3)), Part((4, 5, 6)))
    assert pictures_digest(one) == pictures_digest(Data(larger, renamed, one.rows))
    assert pictures_digest(one) != pictures_digest(data((4, 5)))
    files = tuple(name.replace("4/", "d/") for name in one.table.files)
    others = dataclasses.replace(one.table, files=files), dataclasses.replace(one.table, labels=one.table.labels + 1)
    assert len({pictures_digest(Data(table, one.split, one.rows)) for table in (one.table, *others)}) == 3
