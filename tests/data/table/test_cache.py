"""The image table is decoded once: when its cache is used, when it is rebuilt, and where it cannot be written."""

import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ppfsl.data import table as module
from ppfsl.data.folder import folder_source
from ppfsl.data.source import Load
from ppfsl.data.table import ImageTable, load_table
from ppfsl.errors import UserError
from tests.data.table.drawings import Drawings, assert_holds, load, only_folder

# --- when it decodes


def test_second_call_decodes_nothing_and_gives_the_same(cache: Path) -> None:
    drawings = Drawings()
    first = load(drawings, cache)
    assert sorted(drawings.decoded) == list(range(10)), "each image once"
    second = load(drawings, cache)
    assert len(drawings.decoded) == 10
    assert_holds(second, list(range(10)))
    for field in dataclasses.fields(ImageTable):
        np.testing.assert_equal(getattr(second, field.name), getattr(first, field.name))


def test_changed_source_replaces_its_cache(cache: Path) -> None:
    load(Drawings(10), cache)
    folder = only_folder(cache)
    changed = Drawings(12)
    assert_holds(load(changed, cache, state="second"), list(range(12)))
    assert only_folder(cache) == folder, "the stale cache is gone"
    assert len(changed.decoded) == 12


def test_table_already_open_survives_its_replacement(cache: Path) -> None:
    table = load(Drawings(10), cache)
    load(Drawings(12), cache, state="second")
    assert_holds(table, list(range(10)))


def test_sizes_channels_and_places_do_not_displace_each_other(cache: Path) -> None:
    drawings = Drawings()
    variants: list[dict] = [{}, {"size": 5}, {"channels": 1}, {"root": "there"}, {"on_corrupt": "skip"}]
    for variant in variants:
        load(drawings, cache, **variant)
    assert len(drawings.decoded) == 50
    assert len(list(cache.iterdir())) == 5
    for variant in variants:
        table = load(drawings, cache, **variant)
        assert table.images.shape[1:] == (variant.get("size", 4),) * 2 + (variant.get("channels", 3),)
    assert len(drawings.decoded) == 50


def test_file_that_changes_on_disk_is_decoded_again(tmp_path: Path, cache: Path) -> None:
    for name, colour in (("a/1.png", 10), ("b/1.png", 20)):
        (tmp_path / "root" / name).parent.mkdir(parents=True)
        Image.new("L", (4, 4), colour).save(tmp_path / "root" / name)
    before = load_table(folder_source(tmp_path / "root"), cache, 4, progress=False)
    Image.new("L", (4, 4), 99).save(tmp_path / "root" / "b" / "1.png")
    os.utime(tmp_path / "root" / "b" / "1.png", ns=(1, 1))
    after = load_table(folder_source(tmp_path / "root"), cache, 4, progress=False)
    assert after.images[:, 0, 0, 0].tolist() == [10, 99]
    assert after.hash != before.hash


def test_cache_of_an_older_format_is_rebuilt(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(Drawings(), cache)
    monkeypatch.setattr(module, "_FORMAT", module._FORMAT + 1)
    drawings = Drawings()
    load(drawings, cache)
    assert len(drawings.decoded) == 10
    only_folder(cache)


# --- damage


def damage_truncate(folder: Path) -> None:
    os.truncate(folder / "images.npy", (folder / "images.npy").stat().st_size - 1)


def damage_empty(folder: Path) -> None:
    (folder / "images.npy").write_bytes(b"")


def damage_remove_images(folder: Path) -> None:
    (folder / "images.npy").unlink()


def damage_remove_index(folder: Path) -> None:
    (folder / "index.json").unlink()


def damage_half_index(folder: Path) -> None:
    os.truncate(folder / "index.json", (folder / "index.json").stat().st_size // 2)


def damage_other_shape(folder: Path) -> None:
    np.save(folder / "images.npy", np.zeros((10, 5, 5, 3), dtype=np.uint8))


def damage_other_type(folder: Path) -> None:
    np.save(folder / "images.npy", np.zeros((10, 4, 4, 3), dtype=np.int16))


def damage_pickle(folder: Path) -> None:
    np.save(folder / "images.npy", np.asarray([{}], dtype=object), allow_pickle=True)


def damage_index_keys(folder: Path) -> None:
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**index, "class_names": None}))


def damage_to_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("a file where the cache should be")


@pytest.mark.parametrize(
    "damage",
    [
        damage_truncate, damage_empty, damage_remove_images, damage_remove_index, damage_half_index, damage_other_shape,
        damage_other_type, damage_pickle, damage_index_keys, damage_to_file,
    ],
)  # fmt: skip
def test_damaged_cache_is_rebuilt(cache: Path, damage: Callable[[Path], None]) -> None:
    whole = load(Drawings(), cache).hash
    damage(only_folder(cache))
    drawings = Drawings()
    table = load(drawings, cache)
    assert len(drawings.decoded) == 10
    assert_holds(table, list(range(10)))
    assert table.hash == whole
    assert only_folder(cache).is_dir()


# --- bad places


def test_unwritable_cache_is_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        UserError, match=r"cannot create the folder \S+/file/cache: Not a directory; choose another one"
    ):
        load(Drawings(), tmp_path / "file" / "cache")
    with pytest.raises(UserError, match=r"cannot write in /proc/self: .*; set data\.cache_dir to another folder"):
        load(Drawings(), Path("/proc/self"))


def test_full_disk_is_an_error_in_words_not_a_crash(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"cannot write the image cache in \S+: No space left on device; make room"):
        load(Drawings(), cache)
    assert list(cache.iterdir()) == []


def test_room_is_reserved_before_decoding(cache: Path) -> None:
    def images() -> Iterator[tuple[int, Load]]:
        (raw,) = cache.glob(".building-*/raw.npy")
        status = raw.stat()
        assert status.st_size > 300 * 64 * 64 * 3
        assert status.st_blocks * 512 >= status.st_size, "a sparse file would fail later, by a signal"
        return iter(Drawings(300).images())

    load_table(dataclasses.replace(Drawings(300).source(), images=images), cache, 64, progress=False)
