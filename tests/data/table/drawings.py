"""A source of images in memory, and its image tables."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ppfsl.data.source import Load, Source
from ppfsl.data.table import ImageTable, load_table


class Drawings:
    """A source in memory that counts what is decoded; image k is k in every pixel, and comes in reverse order."""

    def __init__(self, count: int = 10, corrupt: tuple[int, ...] = (), side: int = 6) -> None:
        self.count, self.corrupt, self.side = count, corrupt, side
        self.decoded: list[int] = []

    def load(self, row: int) -> Image.Image:
        self.decoded.append(row)
        if row in self.corrupt:
            raise OSError("image file is truncated")
        return Image.new("RGB", (self.side, self.side), (row, row, row))

    def images(self) -> Iterator[tuple[int, Load]]:
        for row in reversed(range(self.count)):
            yield row, lambda row=row: self.load(row)

    def source(self, state: str = "first", root: str = "here") -> Source:
        return Source(
            name="drawings",
            files=tuple(f"{row}.png" for row in range(self.count)),
            labels=np.arange(self.count, dtype=np.int64) % 3 + 1,
            class_names={1: "one", 2: "zwei", 3: "三"},
            identity={"root": root, "state": state},
            images=self.images,
            lists={"even": np.arange(0, self.count, 2), "backwards": np.arange(self.count)[::-1].copy()},
        )


def load(drawings: Drawings, cache: Path, size: int = 4, **options: object) -> ImageTable:
    keys = {key: options.pop(key) for key in ("state", "root") if key in options}
    return load_table(drawings.source(**keys), cache, size, progress=False, **options)  # type: ignore[arg-type]


def only_folder(cache: Path) -> Path:
    (folder,) = cache.iterdir()
    return folder


def assert_holds(table: ImageTable, rows: list[int]) -> None:
    """The table holds those rows of a Drawings, in that order."""
    np.testing.assert_array_equal(table.images[:, 0, 0, 0], rows)
    np.testing.assert_array_equal(table.images, np.broadcast_to(table.images[:, :1, :1, :1], table.images.shape))
    assert table.files == tuple(f"{row}.png" for row in rows)
    assert table.labels.tolist() == [row % 3 + 1 for row in rows]
    assert len(table) == len(rows)
