"""Backbone outputs kept on disk: when they are used, and when not."""

import dataclasses
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from ppfsl.backbones.embedder import Architecture, Embedder, build_embedder
from ppfsl.data.table import ImageTable
from ppfsl.distributed import World
from ppfsl.errors import UserError
from ppfsl.inference import cache as module
from ppfsl.inference.cache import NO_CACHE, EmbeddingCache
from ppfsl.inference.engine import embed, predictor, to_pixels
from ppfsl.links import connect
from tests.test_links import Store

SMALL = Architecture("conv4", 16, projection=5, options=(("width", 4),))
ROWS = np.array([3, 0, 7])


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


def files(cache: EmbeddingCache) -> list[Path]:
    assert cache.folder is not None
    return sorted(cache.folder.iterdir())


def expected(embedder: Embedder, table: ImageTable, rows: np.ndarray = ROWS) -> np.ndarray:
    return embed(embedder, table.images, rows, "features")


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


def changed_weight(embedder: Embedder, table: ImageTable) -> tuple[Embedder, ImageTable, np.ndarray]:
    weight = next(iter(embedder.backbone.parameters()))
    weight.set_value(weight + 1e-3)
    return embedder, table, ROWS


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


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "the beginning": lambda whole: b"\x93NUMPY",
    "cut short": lambda whole: whole[:-4],
    "longer": lambda whole: whole + bytes(4),
    "another header": lambda whole: whole[:8] + b"\x01" + whole[9:],
    "no Python in the header": lambda whole: whole[:21] + b"," + whole[22:],
    "other order": lambda whole: whole.replace(b"False,", b"True, "),
    "other numbers": lambda whole: whole.replace(b"<f4", b"<i4"),
    "another shape": lambda whole: whole.replace(b"(3, ", b"(1, ")[: 128 + (len(whole) - 128) // 3],
    "an archive": lambda whole: b"PK\x03\x04" + whole[4:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_computed_again(
    damage: str, cache: EmbeddingCache, table: ImageTable, computed: list[int]
) -> None:
    embedder = build_embedder(SMALL, 0)
    wanted = np.array(cache.features(embedder, table, ROWS))
    (path,) = files(cache)
    damaged = DAMAGES[damage](path.read_bytes())
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    for _ in range(2):
        assert np.array_equal(cache.features(embedder, table, ROWS), wanted)
    assert computed == [3, 3]


def test_files_that_cannot_be_touched_are_read(
    cache: EmbeddingCache, table: ImageTable, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as those of another user, or of a file system that is mounted to be read."""

    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    embedder = build_embedder(SMALL, 0)
    first = cache.features(embedder, table, ROWS)
    monkeypatch.setattr(os, "utime", refused)
    again = cache.features(embedder, table, ROWS)
    assert np.array_equal(first, again) and isinstance(again, np.memmap)
    assert computed == [3]


def test_the_least_recently_used_goes_first(table: ImageTable, tmp_path: Path, computed: list[int]) -> None:
    embedder = build_embedder(SMALL, 0)
    rows = [np.array([number]) for number in range(3)]
    NO_CACHE.features(embedder, table, rows[0])
    size = 128 + 4 * embedder.backbone_dim  # numpy's header, then the numbers
    cache = EmbeddingCache(tmp_path, 2 * size)
    for number, one in enumerate(rows[:2]):
        cache.features(embedder, table, one)
        for file in tmp_path.iterdir():
            if file.stat().st_mtime > time.time() - 1000:
                os.utime(file, (0, 1e9 + number))
    cache.features(embedder, table, rows[0])  # used once more, so that the other is older
    cache.features(embedder, table, rows[2])
    assert len(files(cache)) == 2
    computed.clear()
    cache.features(embedder, table, rows[0])
    cache.features(embedder, table, rows[2])
    assert computed == []
    cache.features(embedder, table, rows[1])
    assert computed == [1]


def test_what_killed_runs_left_goes_after_a_day(cache: EmbeddingCache, table: ImageTable) -> None:
    assert cache.folder is not None
    cache.folder.mkdir()
    old, new, foreign = (cache.folder / name for name in (".a.npy.x.tmp", ".b.npy.x.tmp", "notes.txt"))
    for file in (old, new, foreign):
        file.touch()
    for file in (old, foreign):
        os.utime(file, (0, 0))
    cache.features(build_embedder(SMALL, 0), table, ROWS)
    assert [file.suffix for file in files(cache)] == [".tmp", ".npy", ".txt"] and new.exists()


def test_a_file_that_just_fits_is_kept(table: ImageTable, tmp_path: Path, computed: list[int]) -> None:
    embedder = build_embedder(SMALL, 0)
    size = 4 * len(ROWS) * embedder.backbone_dim
    for limit, times in ((size, 1), (size - 1, 2)):
        computed.clear()
        cache = EmbeddingCache(tmp_path / str(limit), limit)
        for _ in range(2):
            cache.features(embedder, table, ROWS)
        assert len(computed) == times


@pytest.mark.parametrize("limit", [0, 10])
def test_what_exceeds_the_limit_is_not_kept(limit: int, table: ImageTable, tmp_path: Path) -> None:
    embedder = build_embedder(SMALL, 0)
    found = EmbeddingCache(tmp_path / "embeddings", limit).features(embedder, table, ROWS)
    assert np.array_equal(found, expected(embedder, table))
    assert not (tmp_path / "embeddings").exists()


def test_no_rows_are_no_file(cache: EmbeddingCache, table: ImageTable) -> None:
    embedder = build_embedder(SMALL, 0)
    assert cache.features(embedder, table, ROWS[:0]).shape == (0, embedder.backbone_dim)
    assert cache.folder is not None and not cache.folder.exists()


def full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


def unwritable(*_: object) -> None:
    raise UserError("cannot write in here")


@pytest.mark.parametrize(
    ("name", "failure", "reason"),
    [("new_array", full_disk, "No space left on device"), ("replacing", unwritable, "cannot write in here")],
)
def test_a_folder_that_cannot_be_written_costs_a_warning(
    name: str,
    failure: Any,
    reason: str,
    cache: EmbeddingCache,
    table: ImageTable,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    embedder = build_embedder(SMALL, 0)
    monkeypatch.setattr(module, name, failure)
    assert np.array_equal(cache.features(embedder, table, ROWS), expected(embedder, table))
    assert capsys.readouterr().err == f"warning: embeddings are not kept in {cache.folder}: {reason}\n"
    assert cache.folder is not None
    assert not cache.folder.exists() or not files(cache)


def test_what_was_computed_is_not_lost_where_it_cannot_be_put_in_place(
    cache: EmbeddingCache, table: ImageTable, computed: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    embedder = build_embedder(SMALL, 0)
    cache.features(embedder, table, ROWS)
    (path,) = files(cache)
    path.unlink()
    path.mkdir()  # in its place
    found = cache.features(embedder, table, ROWS)
    assert np.array_equal(found, expected(embedder, table))
    assert computed == [3, 3] and files(cache) == [path]
    assert "warning: embeddings are not kept" in capsys.readouterr().err


Two = Callable[[Callable[[World], Any]], list[Any]]


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Two:
    """Gives what a function returns or raises in each of two processes, here threads, that embed as one."""

    def act(function: Callable[[World], Any]) -> list[Any]:
        store, found = Store(), {}

        def process(rank: int) -> None:
            own = connect(rank, 2, "127.0.0.1", store)
            try:
                found[rank] = function(World(rank, 2, rank, own))
            except BaseException as error:
                found[rank] = error
                own.farewell(error)
            finally:
                own.close()

        threads = [threading.Thread(target=process, args=(rank,), daemon=True) for rank in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        return [found.get(rank, "waits for ever") for rank in range(2)]

    def embedding(
        embedder: Embedder,
        images: np.ndarray,
        rows: np.ndarray,
        kind: str,
        batch: int,
        bar: Any,
        world: World,
        out: Any,
    ) -> np.ndarray:
        """Whose numbers show how often this has been called."""
        calls[world.rank] += 1
        result = np.empty((len(rows), embedder.backbone_dim), np.float32) if out is None else out
        result[:] = world.exchange({"calls": calls[world.rank]})[1]["calls"] + rows[:, None]
        return result

    calls = [0, 0]
    monkeypatch.setattr("ppfsl.links._runs", iter(lambda: 7, None))  # which threads would count together
    monkeypatch.setattr(module, "embed", embedding)
    return act


def test_processes_compute_once_and_then_read(cache: EmbeddingCache, table: ImageTable, two: Two) -> None:
    embedder = build_embedder(SMALL, 0)
    for _ in range(2):
        one, other = two(lambda world: cache.features(embedder, table, ROWS, world=world))
        assert np.array_equal(one, other) and one[:, 0].tolist() == [4, 1, 8]
        assert isinstance(one, np.memmap)
    assert len(files(cache)) == 1


@pytest.mark.parametrize("keeper", [0, 1])
def test_each_host_may_keep_as_much_as_it_likes(
    keeper: int, cache: EmbeddingCache, table: ImageTable, two: Two
) -> None:
    """data.embedding_cache is not among what all must have in common; process 0 decides."""
    embedder = build_embedder(SMALL, 0)
    for calls in (1, 1 if keeper == 0 else 2):
        found = two(
            lambda world: (cache if world.rank == keeper else NO_CACHE).features(embedder, table, ROWS, world=world)
        )
        assert [features[:, 0].tolist() for features in found] == [[3 + calls, calls, 7 + calls]] * 2
    assert cache.folder is not None and cache.folder.exists() == (keeper == 0)


@pytest.mark.parametrize(("name", "failure"), [("new_array", full_disk), ("replacing", unwritable), ("_read", None)])
def test_processes_stay_together_where_nothing_can_be_kept(
    name: str,
    failure: Any,
    cache: EmbeddingCache,
    table: ImageTable,
    two: Two,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    embedder = build_embedder(SMALL, 0)
    monkeypatch.setattr(module, name, failure or (lambda *_: None))
    found = two(
        lambda world: (cache.features(embedder, table, ROWS, world=world)[:, 0].tolist(), world.exchange("then"))
    )
    assert found == [([4, 1, 8], ["then", "then"])] * 2


def test_a_mistake_of_another_process_is_not_the_files(
    cache: EmbeddingCache, table: ImageTable, two: Two, capsys: pytest.CaptureFixture[str]
) -> None:
    embedder = build_embedder(SMALL, 0)

    def function(world: World) -> np.ndarray:
        if world.main:
            return cache.features(embedder, table, ROWS, world=world)
        world.exchange(None)  # where files are looked for
        raise UserError("mend this")

    one, _ = two(function)
    assert isinstance(one, UserError) and str(one) == "process 1: mend this"
    assert capsys.readouterr().err == "" and files(cache) == []


def test_an_interrupted_computation_leaves_nothing(
    cache: EmbeddingCache, table: ImageTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "embed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.features(build_embedder(SMALL, 0), table, ROWS)
    assert files(cache) == []


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


def test_the_embedder_is_left_as_it_was(cache: EmbeddingCache, table: ImageTable) -> None:
    embedder = build_embedder(SMALL, 0)
    embedder.train()
    before = {name: value.numpy().copy() for name, value in embedder.state_dict().items()}
    for _ in range(2):
        cache.projected(embedder, table, ROWS)
    assert embedder.training and embedder.backbone.training
    assert all(np.array_equal(before[name], value.numpy()) for name, value in embedder.state_dict().items())
    assert paddle.is_grad_enabled()
