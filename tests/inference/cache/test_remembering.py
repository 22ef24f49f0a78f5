"""Batches of pixels whose embeddings are remembered."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppfsl.backbones.embedder import Embedder, build_embedder
from ppfsl.data.table import ImageTable
from ppfsl.inference import cache as module
from ppfsl.inference.cache import NO_CACHE, EmbeddingCache
from ppfsl.inference.engine import predictor, to_pixels
from tests.inference.cache.kept import SMALL, changed_weight, files, full_disk


def runs(embedder: Embedder, calls: list[int]) -> Callable[[], Any]:
    """Makes an embedder a function of pixels, and notes each time that and what it is asked about (0: made)."""

    def make() -> Any:
        calls.append(0)
        run = predictor(embedder)

        def counting(pixels: np.ndarray) -> np.ndarray:
            calls.append(len(pixels))
            return run(pixels)

        return counting

    return make


def test_batches_of_pixels_are_remembered_across_processes(cache: EmbeddingCache, table: ImageTable) -> None:
    embedder, calls = build_embedder(SMALL, 0), list[int]()
    batches = [to_pixels(table.images[start : start + 3]) for start in (0, 3, 6)]
    expected = [predictor(embedder)(batch) for batch in batches]
    first = cache.remembering(embedder, runs(embedder, calls))
    for batch, wanted in zip(batches, expected, strict=True):
        assert np.array_equal(first(batch), wanted)
    assert calls == [0, 3, 3, 3] and len(files(cache)) == 3
    again = cache.remembering(build_embedder(SMALL, 0), runs(embedder, calls))
    for batch, wanted in zip(batches, expected, strict=True):
        found = again(batch)
        assert np.array_equal(found, wanted)
        found[:] = 0  # is a copy: the file stays
        assert np.array_equal(again(batch), wanted)
    assert calls == [0, 3, 3, 3]


@pytest.mark.parametrize("change", ["weight", "projection", "architecture", "pixels", "order", "shape"])
def test_no_other_batch_or_embedder_is_taken_for_one(change: str, cache: EmbeddingCache, table: ImageTable) -> None:
    embedder, calls = build_embedder(SMALL, 0), list[int]()
    pixels = to_pixels(table.images[:4])
    before = cache.remembering(embedder, runs(embedder, calls))(pixels)
    other = build_embedder(dataclasses.replace(SMALL, normalization="unit") if change == "architecture" else SMALL, 0)
    if change == "weight":
        other, *_ = changed_weight(other, table)
    elif change == "projection":
        assert other.projection is not None
        other.projection.bias.set_value(other.projection.bias + 1)
    pixels = {"pixels": 255 - pixels, "order": pixels[::-1], "shape": pixels[:2]}.get(change, pixels)
    found = cache.remembering(other, runs(other, calls))(pixels)
    assert np.array_equal(found, predictor(other)(np.ascontiguousarray(pixels)))
    assert calls == [0, 4, 0, len(pixels)]
    assert found.shape != before.shape or not np.array_equal(found, before)


def test_a_folder_that_cannot_be_written_is_tried_once(
    cache: EmbeddingCache, table: ImageTable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    embedder, calls = build_embedder(SMALL, 0), list[int]()
    monkeypatch.setattr(module, "new_array", full_disk)
    run = cache.remembering(embedder, runs(embedder, calls))
    for start in (0, 2, 0):
        pixels = to_pixels(table.images[start : start + 2])
        assert np.array_equal(run(pixels), predictor(embedder)(pixels))
    assert capsys.readouterr().err.count("warning: embeddings are not kept") == 1
    assert calls == [0, 2, 2, 2] and not files(cache)


def test_nothing_is_remembered_without_a_folder_or_above_the_limit(table: ImageTable, tmp_path: Path) -> None:
    embedder, calls = build_embedder(SMALL, 0), list[int]()
    for cache in (NO_CACHE, EmbeddingCache(tmp_path, 4 * 2 * 5 - 1)):
        run = cache.remembering(embedder, runs(embedder, calls))
        pixels = to_pixels(table.images[:2])
        assert np.array_equal(run(pixels), run(pixels))
    assert calls == [0, 2, 2] * 2 and not list(tmp_path.iterdir())
