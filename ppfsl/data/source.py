"""What a data set is before any pixel is decoded: names, labels and a way to read each image."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

Load = Callable[[], Image.Image]


@dataclass(frozen=True)
class Source:
    """The images of a data set, undecoded.

    Attributes:
        name: the data set's name, such as "flowers102"; letters, digits, "_" and "-" only.
        files: one name per image, unique, with "/" between folders; what reports and support sets show.
        labels: int64 [N], the data set's own labels (Flowers102: 1..102).
        class_names: label -> name, for every label.
        identity: JSON-able; changes whenever the files behind the source do.
        images: called to read them all; yields (index, load) once for every index, in any order. `load` decodes that
            one image, may run in another thread, and raises OSError or ValueError when the image is corrupt.
        lists: the data set's official lists by name, each int64 image indices ("train", "test", ...).
    """

    name: str
    files: tuple[str, ...]
    labels: np.ndarray
    class_names: dict[int, str]
    identity: Any
    images: Callable[[], Iterator[tuple[int, Load]]]
    lists: dict[str, np.ndarray] = field(default_factory=dict)
