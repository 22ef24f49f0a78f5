"""A small embedder, what is kept of it, and what may go wrong with its files."""

from pathlib import Path

import numpy as np

from ppfsl.backbones.embedder import Architecture, Embedder
from ppfsl.data.table import ImageTable
from ppfsl.errors import UserError
from ppfsl.inference.cache import EmbeddingCache
from ppfsl.inference.engine import embed

SMALL = Architecture("conv4", 16, projection=5, options=(("width", 4),))
ROWS = np.array([3, 0, 7])


def files(cache: EmbeddingCache) -> list[Path]:
    assert cache.folder is not None
    return sorted(cache.folder.iterdir())


def expected(embedder: Embedder, table: ImageTable, rows: np.ndarray = ROWS) -> np.ndarray:
    return embed(embedder, table.images, rows, "features")


def changed_weight(embedder: Embedder, table: ImageTable) -> tuple[Embedder, ImageTable, np.ndarray]:
    weight = next(iter(embedder.backbone.parameters()))
    weight.set_value(weight + 1e-3)
    return embedder, table, ROWS


def full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


def unwritable(*_: object) -> None:
    raise UserError("cannot write in here")
