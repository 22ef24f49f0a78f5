"""The image table: decoded once, cached whole or not at all."""

import dataclasses
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ppfsl.data import table as module
from ppfsl.data.decode import to_square
from ppfsl.data.folder import folder_source
from ppfsl.data.source import Load, Source
from ppfsl.data.table import ImageTable, load_table
from ppfsl.errors import UserError

ROOT = Path(__file__).parents[2]


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


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


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


# --- what it holds


def test_table_holds_the_source_row_by_row(cache: Path) -> None:
    table = load(Drawings(100), cache)
    assert table.images.shape == (100, 4, 4, 3)
    assert table.images.dtype == np.uint8
    assert table.labels.dtype == np.int64
    assert_holds(table, list(range(100)))
    assert table.name == "drawings"
    assert table.class_names == {1: "one", 2: "zwei", 3: "三"}
    assert table.lists["even"].tolist() == list(range(0, 100, 2))
    assert table.lists["backwards"].tolist() == list(range(100))[::-1]
    assert table.lists["even"].dtype == np.int64
    assert table.skipped == ()


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_those_of_to_square(tmp_path: Path, cache: Path, channels: int) -> None:
    rng = np.random.default_rng(0)
    images = []
    for number, shape in enumerate([(9, 14, 3), (20, 8, 3), (7, 7, 3), (4, 30, 3)]):
        images.append(Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)))
        folder = tmp_path / "root" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        images[-1].save(folder / f"{number}.png")
    table = load_table(folder_source(tmp_path / "root"), cache, 7, channels, progress=False)
    assert table.files == ("a/0.png", "a/2.png", "b/1.png", "b/3.png")
    for row, number in enumerate((0, 2, 1, 3)):
        np.testing.assert_array_equal(table.images[row], to_square(images[number], 7, channels))


def test_images_are_mapped_and_read_only(cache: Path) -> None:
    for _ in range(2):
        table = load(Drawings(), cache)
        assert isinstance(table.images, np.memmap)
        assert not table.images.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            table.images[0] = 0


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


# --- the hash


def test_hash_is_that_of_labels_and_pixels(cache: Path) -> None:
    table = load(Drawings(300), cache)
    assert table.hash == hashlib.sha256(table.labels.tobytes() + np.asarray(table.images).tobytes()).hexdigest()


def test_hash_depends_on_pixels_and_labels_not_on_place_or_order_of_decoding(cache: Path) -> None:
    drawings = Drawings()
    base = load(drawings, cache).hash
    assert load(Drawings(), cache, root="there").hash == base

    source = drawings.source(root="labels")
    relabelled = dataclasses.replace(source, labels=source.labels[::-1].copy())
    assert load_table(relabelled, cache, 4, progress=False).hash != base

    def one_pixel(row: int) -> Image.Image:
        image = Drawings().load(row)
        if row == 7:
            image.putpixel((3, 3), (8, 7, 7))
        return image

    forward = dataclasses.replace(
        drawings.source(root="pixel"), images=lambda: ((row, lambda row=row: one_pixel(row)) for row in range(10))
    )
    assert load_table(forward, cache, 6, progress=False).hash != load(drawings, cache, size=6).hash
    same = dataclasses.replace(
        drawings.source(root="forward"), images=lambda: ((row, lambda row=row: drawings.load(row)) for row in range(10))
    )
    assert load_table(same, cache, 4, progress=False).hash == base


# --- corrupt images


def test_corrupt_image_is_named_and_leaves_no_cache(cache: Path) -> None:
    with pytest.raises(UserError) as caught:
        load(Drawings(corrupt=(4,)), cache)
    assert str(caught.value) == (
        "4.png is not a readable image (image file is truncated); replace it, or set data.on_corrupt to skip"
    )
    assert list(cache.iterdir()) == []


def test_corrupt_images_are_skipped_and_listed_and_lists_follow(cache: Path) -> None:
    drawings = Drawings(corrupt=(0, 4, 7))
    for _ in range(2):
        table = load(drawings, cache, on_corrupt="skip")
        rows = [1, 2, 3, 5, 6, 8, 9]
        assert_holds(table, rows)
        assert table.skipped == ("0.png", "4.png", "7.png")
        assert [rows[row] for row in table.lists["even"]] == [2, 6, 8]
        assert [rows[row] for row in table.lists["backwards"]] == rows[::-1]
        assert table.hash == hashlib.sha256(table.labels.tobytes() + np.asarray(table.images).tobytes()).hexdigest()
    assert len(drawings.decoded) == 10
    assert sorted(path.name for path in only_folder(cache).iterdir()) == ["images.npy", "index.json"]


def test_skipping_does_not_excuse_a_later_strict_run(cache: Path) -> None:
    load(Drawings(corrupt=(4,)), cache, on_corrupt="skip")
    with pytest.raises(UserError, match=r"4\.png is not a readable image"):
        load(Drawings(corrupt=(4,)), cache)


def test_real_corrupt_files(tmp_path: Path, cache: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "root" / name).mkdir(parents=True)
        Image.new("RGB", (50, 50)).save(tmp_path / "root" / name / "good.jpg")
    whole = (tmp_path / "root" / "a" / "good.jpg").read_bytes()
    (tmp_path / "root" / "b" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "root" / "b" / "empty.png").write_bytes(b"")
    table = load_table(folder_source(tmp_path / "root"), cache, 8, on_corrupt="skip", progress=False)
    assert table.files == ("a/good.jpg", "b/good.jpg")
    assert table.skipped == ("b/cut.jpg", "b/empty.png")
    with pytest.raises(UserError, match=r"b/(cut\.jpg|empty\.png) is not a readable image \(.+\); replace it"):
        load_table(folder_source(tmp_path / "root"), cache, 8, progress=False)


def test_nothing_to_show_is_a_mistake(cache: Path) -> None:
    with pytest.raises(UserError, match=r"every image of drawings is corrupt, 0\.png for one"):
        load(Drawings(corrupt=tuple(range(10))), cache, on_corrupt="skip")
    with pytest.raises(UserError, match="drawings holds no images"):
        load(Drawings(count=0), cache)
    assert list(cache.iterdir()) == []


def test_bugs_in_a_source_are_not_taken_for_corrupt_images(cache: Path) -> None:
    def broken() -> Iterator[tuple[int, Load]]:
        yield 0, lambda: 1 / 0  # type: ignore[arg-type, return-value]

    source = dataclasses.replace(Drawings().source(), images=broken)
    with pytest.raises(ZeroDivisionError):
        load_table(source, cache, 4, on_corrupt="skip", progress=False)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(("rows", "sentence"), [((0, 2), "1.png 0 times"), ((0, 1, 2, 1), "1.png 2 times")])
def test_source_that_forgets_or_repeats_an_image_is_found_out(
    cache: Path, rows: tuple[int, ...], sentence: str
) -> None:
    drawings = Drawings(3)
    source = dataclasses.replace(
        drawings.source(), images=lambda: ((row, lambda row=row: drawings.load(row)) for row in rows)
    )
    with pytest.raises(ValueError, match=f"a bug in the source drawings: its .* gave {sentence}, not once"):
        load_table(source, cache, 4, progress=False)
    assert list(cache.iterdir()) == []


# --- memory and progress


def test_reader_is_never_far_ahead_of_the_decoders(cache: Path) -> None:
    opened, most = 0, 0
    lock = threading.Lock()

    def decode(row: int) -> Image.Image:
        nonlocal opened
        time.sleep(0.001)
        with lock:
            opened -= 1
        return Image.new("RGB", (4, 4), (row % 256,) * 3)

    def images() -> Iterator[tuple[int, Load]]:
        nonlocal opened, most
        for row in range(500):
            with lock:
                opened += 1
                most = max(most, opened)
            yield row, lambda row=row: decode(row)

    source = dataclasses.replace(Drawings(500).source(), images=images)
    load_table(source, cache, 4, progress=False)
    assert 1 < most <= 65


def test_bar_is_asked_for_on_request_and_counts_every_image(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bars = []
    make = module.progress_bar

    def spy(total: int, text: str | None, unit: str) -> object:
        bars.append((total, text, make(total, text, unit)))
        return bars[-1][2]

    monkeypatch.setattr(module, "progress_bar", spy)
    load(Drawings(), cache)
    load_table(Drawings(corrupt=(3,)).source("second"), cache, 4, on_corrupt="skip")
    load_table(Drawings(corrupt=(3,)).source("second"), cache, 4, on_corrupt="skip")
    assert [bar[:2] for bar in bars] == [(10, None), (10, "decoding drawings")], "none for a cached table"
    assert bars[1][2].n == 10


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


# --- several processes, and killed ones

_SLOW = """
import signal, sys, time
from pathlib import Path
import numpy as np
from PIL import Image
from ppfsl.data.source import Source
from ppfsl.data.table import load_table
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
cache, pace, state = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
def decode(row):
    time.sleep(pace)
    print(row, flush=True)
    return Image.new("RGB", (4, 4), (row, row, row))
def images():
    for row in range(60):
        yield row, lambda row=row: decode(row)
source = Source("drawings", tuple(f"{k}.png" for k in range(60)), np.arange(60) % 3 + 1, {1: "a", 2: "b", 3: "c"},
                {"root": "here", "state": state}, images)
print("ready", flush=True)
sys.stdin.readline()
table = load_table(source, cache, 4, progress=False)
assert table.images[:, 3, 3, 2].tolist() == list(range(60))
print("hash", table.hash, flush=True)
"""


def start(cache: Path, pace: float, state: str = "first") -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOW, str(cache), str(pace), state],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_killed_build_leaves_nothing_in_place(cache: Path) -> None:
    process = start(cache, pace=0.05)
    go(process)
    assert process.stdout is not None
    for _ in range(5):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    (rest,) = cache.iterdir()
    assert rest.name.startswith(".building-")

    with start(cache, pace=0) as second:
        out, _ = second.communicate("\n", timeout=60)
        assert second.returncode == 0
    assert len(out.splitlines()) == 61, "all images were decoded anew"
    assert rest.exists(), "it could be another run's, still at work"

    old = time.time() - 25 * 3600
    os.utime(rest, (old, old))
    with start(cache, pace=0, state="second") as third:
        third.communicate("\n", timeout=60)
        assert third.returncode == 0
    assert not rest.exists(), "after a day it is nobody's"


def test_interrupted_build_cleans_up(cache: Path) -> None:
    process = start(cache, pace=0.05)
    go(process)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("stale", [False, True])
def test_processes_that_build_at_once_all_succeed(cache: Path, stale: bool) -> None:
    if stale:
        with start(cache, pace=0, state="older") as process:
            process.communicate("\n", timeout=60)
    processes = [start(cache, pace=0.002) for _ in range(3)]
    for process in processes:
        go(process)
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len({output.splitlines()[-1] for output in outputs}) == 1, "all have the same hash"
    assert not only_folder(cache).name.startswith("."), "one cache, and no remains"


def test_build_that_another_run_overtook_keeps_the_other_cache(cache: Path) -> None:
    drawings = Drawings()
    inodes = []

    def images() -> Iterator[tuple[int, Load]]:
        load(Drawings(), cache)  # the other run, from beginning to end
        inodes.append(next(cache.glob("drawings-*/images.npy")).stat().st_ino)
        return drawings.images()

    table = load_table(dataclasses.replace(drawings.source(), images=images), cache, 4, progress=False)
    assert_holds(table, list(range(10)))
    assert [(only_folder(cache) / "images.npy").stat().st_ino] == inodes


def test_run_that_gets_in_between_the_last_look_and_the_rename_is_no_harm(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename
    overtaken = []

    def late(self: Path, target: Path) -> Path:
        if self.name.startswith(".building-") and not overtaken:
            overtaken.append(self)
            load(Drawings(), cache)  # the other run puts its cache in place, so this rename fails
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    assert_holds(load(Drawings(), cache), list(range(10)))
    assert len(overtaken) == 1
    assert not only_folder(cache).name.startswith(".")


def test_cache_of_an_older_format_is_rebuilt(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(Drawings(), cache)
    monkeypatch.setattr(module, "_FORMAT", module._FORMAT + 1)
    drawings = Drawings()
    load(drawings, cache)
    assert len(drawings.decoded) == 10
    only_folder(cache)
