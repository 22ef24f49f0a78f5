"""A table of noise, a cache, and a count of what is computed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppfsl.backbones.embedder import Embedder
from ppfsl.data.table import ImageTable
from ppfsl.inference import cache as module
from ppfsl.inference.cache import EmbeddingCache
from ppfsl.inference.engine import embed


@pytest.fixture
def table() -> ImageTable:
    images = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    names = {0: "a", 1: "b"}
    return ImageTable("noise", images, np.arange(9) % 2, names, tuple("abcdefghi"), {}, "0" * 64)


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "embeddings", 1 << 20)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call of the engine embedded."""
    calls: list[int] = []

    def counting(embedder: Embedder, images: np.ndarray, rows: np.ndarray, *further: Any) -> np.ndarray:
        calls.append(len(rows))
        return embed(embedder, images, rows, *further)

    monkeypatch.setattr(module, "embed", counting)
    return calls
