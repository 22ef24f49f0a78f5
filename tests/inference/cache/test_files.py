"""The files of kept embeddings: damaged, foreign, too many, impossible to write."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppfsl.backbones.embedder import build_embedder
from ppfsl.data.table import ImageTable
from ppfsl.inference import cache as module
from ppfsl.inference.cache import NO_CACHE, EmbeddingCache
from tests.inference.cache.kept import ROWS, SMALL, expected, files, full_disk, unwritable

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


def test_an_interrupted_computation_leaves_nothing(
    cache: EmbeddingCache, table: ImageTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "embed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.features(build_embedder(SMALL, 0), table, ROWS)
    assert files(cache) == []
