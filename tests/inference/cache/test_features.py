"""Backbone outputs kept on disk: when they are used, and when not."""

import dataclasses
from typing import Any

import numpy as np
import paddle
import pytest

from ppfsl.backbones.embedder import Embedder, build_embedder
from ppfsl.data.table import ImageTable
from ppfsl.inference import cache as module
from ppfsl.inference.cache import EmbeddingCache
from ppfsl.inference.engine import embed
from tests.inference.cache.kept import ROWS, SMALL, changed_weight, expected, files


def test_what_was_computed_once_is_read(cache: EmbeddingCache, table: ImageTable, computed: list[int]) -> None:
    embedder = build_embedder(SMALL, 0)
    first, again = (cache.features(embedder, table, ROWS) for _ in range(2))
    assert computed == [3]
    assert first.dtype == again.dtype == np.float32
    assert np.array_equal(first, expected(embedder, table)) and np.array_equal(first, again)
    assert isinstance(again, np.memmap) and not again.flags.writeable
    assert [file.suffix for file in files(cache)] == [".npy"]


def test_projections_are_the_embedders(cache: EmbeddingCache, table: ImageTable, computed: list[int]) -> None:
    embedder = build_embedder(SMALL, 0)
    found = cache.projected(embedder, table, ROWS)
    np.testing.assert_allclose(found, embed(embedder, table.images, ROWS, "projected"), rtol=1e-4, atol=1e-5)
    assert embedder.projection is not None
    embedder.projection.weight.set_value(embedder.projection.weight * 2)  # which the backbone's outputs do not see
    np.testing.assert_allclose(cache.projected(embedder, table, ROWS), 2 * found, rtol=1e-5, atol=1e-6)
    assert computed == [3]
    bare = build_embedder(dataclasses.replace(SMALL, projection=None), 0)
    assert np.array_equal(cache.projected(bare, table, ROWS), cache.features(bare, table, ROWS))


def test_all_of_many_images_are_projected(cache: EmbeddingCache, table: ImageTable) -> None:
    embedder = build_embedder(SMALL, 0)
    rows = np.arange(2100) % len(table)
    found = cache.projected(embedder, table, rows)
    one = cache.projected(embedder, table, np.arange(len(table)))
    np.testing.assert_allclose(found, one[rows], rtol=1e-4, atol=1e-5)


def test_backbones_that_differ_in_the_projection_alone_share(
    cache: EmbeddingCache, table: ImageTable, computed: list[int]
) -> None:
    first, other = (build_embedder(dataclasses.replace(SMALL, projection=dim), 0) for dim in (5, 7))
    assert np.array_equal(cache.features(first, table, ROWS), cache.features(other, table, ROWS))
    assert computed == [3]


def changed_statistics(embedder: Embedder, table: ImageTable) -> tuple[Embedder, ImageTable, np.ndarray]:
    buffer = next(value for name, value in embedder.backbone.state_dict().items() if name.endswith("_mean"))
    buffer.set_value(buffer + 1e-3)
    return embedder, table, ROWS


def changed_normalization(embedder: Embedder, table: ImageTable) -> tuple[Embedder, ImageTable, np.ndarray]:
    return build_embedder(dataclasses.replace(SMALL, normalization="unit"), 0), table, ROWS


def with_mirror_images(embedder: Embedder, table: ImageTable) -> tuple[Embedder, ImageTable, np.ndarray]:
    return build_embedder(dataclasses.replace(SMALL, mirror=True), 0), table, ROWS


def changed_images(embedder: Embedder, table: ImageTable) -> tuple[Embedder, ImageTable, np.ndarray]:
    return embedder, dataclasses.replace(table, images=255 - table.images, hash="1" * 64), ROWS


def changed_rows(embedder: Embedder, table: ImageTable) -> tuple[Embedder, ImageTable, np.ndarray]:
    return embedder, table, ROWS[::-1]


@pytest.mark.parametrize(
    "change",
    [changed_weight, changed_statistics, changed_normalization, with_mirror_images, changed_images, changed_rows],
)
def test_nothing_stale_is_read(change: Any, cache: EmbeddingCache, table: ImageTable, computed: list[int]) -> None:
    before = np.array(cache.features(build_embedder(SMALL, 0), table, ROWS))
    embedder, table, rows = change(build_embedder(SMALL, 0), table)
    after = cache.features(embedder, table, rows)
    assert computed == [3, 3]
    assert np.array_equal(after, expected(embedder, table, rows))
    assert not np.array_equal(after, before)


def test_crops_of_one_table_are_told_apart(cache: EmbeddingCache, table: ImageTable, computed: list[int]) -> None:
    """Though their features have one shape, and the weights are the same."""
    images = np.random.default_rng(1).integers(0, 256, (9, 20, 20, 3), dtype=np.uint8)
    table = dataclasses.replace(table, images=images)
    first, other = (build_embedder(dataclasses.replace(SMALL, image_size=size), 0) for size in (16, 20))
    assert first.backbone_dim == other.backbone_dim
    before = np.array(cache.features(first, table, ROWS))
    after = cache.features(other, table, ROWS)
    assert computed == [3, 3]
    assert np.array_equal(after, expected(other, table, ROWS))
    assert not np.array_equal(after, before)


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        (module, "_FORMAT", 2),
        (module, "_BATCH", 2),
        (paddle, "__version__", "3.9"),
        (paddle, "get_device", lambda: "gpu:0"),
    ],
)
def test_nothing_is_read_that_was_computed_otherwise(
    where: Any,
    name: str,
    value: Any,
    cache: EmbeddingCache,
    table: ImageTable,
    computed: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    embedder = build_embedder(SMALL, 0)
    cache.features(embedder, table, ROWS)
    monkeypatch.setattr(where, name, value)
    cache.features(embedder, table, ROWS)
    assert computed == [3, 3] and len(files(cache)) == 2


def test_no_rows_are_no_file(cache: EmbeddingCache, table: ImageTable) -> None:
    embedder = build_embedder(SMALL, 0)
    assert cache.features(embedder, table, ROWS[:0]).shape == (0, embedder.backbone_dim)
    assert cache.folder is not None and not cache.folder.exists()


def test_the_embedder_is_left_as_it_was(cache: EmbeddingCache, table: ImageTable) -> None:
    embedder = build_embedder(SMALL, 0)
    embedder.train()
    before = {name: value.numpy().copy() for name, value in embedder.state_dict().items()}
    for _ in range(2):
        cache.projected(embedder, table, ROWS)
    assert embedder.training and embedder.backbone.training
    assert all(np.array_equal(before[name], value.numpy()) for name, value in embedder.state_dict().items())
    assert paddle.is_grad_enabled()
