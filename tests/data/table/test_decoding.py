"""What an image table holds once its source is decoded: rows, pixels and hash; and corrupt images."""

import dataclasses
import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ppfsl.data import table as module
from ppfsl.data.decode import to_square
from ppfsl.data.folder import folder_source
from ppfsl.data.source import Load
from ppfsl.data.table import load_table
from ppfsl.errors import UserError
from tests.data.table.drawings import Drawings, assert_holds, load, only_folder

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
