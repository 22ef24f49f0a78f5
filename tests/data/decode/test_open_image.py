"""Decoding images: every kind of file, every kind of damage."""

import contextlib
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ppfsl.data import decode
from ppfsl.data.decode import FORMATS, MAX_PIXELS, open_image, to_square
from tests.bombs import bomb
from tests.data.decode.drawn import BLUE, GREEN, RED, encoded, noise, quadrants


def test_path_and_bytes_give_the_same(tmp_path: Path) -> None:
    image = noise(9, 7)
    path = tmp_path / "image.png"
    path.write_bytes(encoded(image))
    for opened in (open_image(path), open_image(path.read_bytes())):
        np.testing.assert_array_equal(np.asarray(opened), np.asarray(image))


def test_file_is_closed_after_reading(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(encoded(noise(9, 7)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        image = open_image(path)
    path.unlink()
    assert image.getpixel((0, 0)) == noise(9, 7).getpixel((0, 0))


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "GIF"])
def test_every_format_is_read(kind: str) -> None:
    image = Image.new("RGB", (8, 8), (200, 30, 90))
    out = to_square(open_image(encoded(image, kind)), 8, 3)
    assert np.abs(out.astype(int) - (200, 30, 90)).max() <= 4


def test_animation_gives_its_first_picture() -> None:
    pictures = [Image.new("RGB", (6, 6), colour) for colour in (RED, GREEN, BLUE)]
    for kind, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("PNG", {})):
        data = encoded(pictures[0], kind, save_all=True, append_images=pictures[1:], **options)
        assert to_square(open_image(data), 6, 3)[3, 3].tolist() == [255, 0, 0], kind


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_tag_sets_the_image_upright(orientation: int) -> None:
    stored_as = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),  # the viewer turns it clockwise
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }
    upright = np.asarray(quadrants())
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("PNG", "TIFF"):
        data = encoded(Image.fromarray(np.ascontiguousarray(stored_as[orientation](upright))), kind, exif=exif)
        np.testing.assert_array_equal(np.asarray(open_image(data)), upright)
    data = encoded(Image.fromarray(np.ascontiguousarray(stored_as[orientation](upright))), "JPEG", exif=exif)
    assert open_image(data).size == (40, 20)


@pytest.mark.parametrize("value", [0, 9, 60000])
def test_senseless_orientation_is_no_orientation(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    np.testing.assert_array_equal(np.asarray(open_image(encoded(quadrants(), exif=exif))), np.asarray(quadrants()))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_damaged_exif_data_spoils_no_pixel(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 1, "a description"
    whole = exif.tobytes()
    plain = np.asarray(open_image(encoded(quadrants(), kind)))
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole[: rng.integers(7, len(whole))] if rng.random() < 0.3 else whole)
        for _ in range(3):
            damaged[rng.integers(6, len(damaged))] = rng.integers(256)
        image = open_image(encoded(quadrants(), kind, exif=bytes(damaged)))
        assert sorted(image.size) == [20, 40]
        assert np.asarray(image).sum() == plain.sum()


def truncated() -> list[bytes]:
    return [encoded(noise(64, 64), kind)[:2000] for kind in ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")]


@pytest.mark.parametrize("data", truncated(), ids=lambda data: repr(data[:4]))
def test_truncated_file_is_refused(data: bytes) -> None:
    with pytest.raises((OSError, ValueError)):
        open_image(data)


@pytest.mark.parametrize("data", [b"", b"x", b"<html>not found</html>", bytes(5000)])
def test_no_image_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(ValueError, match="none of JPEG, PNG"):
        open_image(data)


def test_postscript_is_refused_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(Image.new("RGB", (4, 4)), "EPS"))
    with pytest.raises(ValueError, match="none of JPEG, PNG"):
        open_image(path)


def test_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        open_image(tmp_path / "nowhere.png")


@pytest.mark.parametrize("side", [9450, 12000, 60000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_pixel_bomb_is_refused_before_decoding(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(*_: object) -> None:
        raise AssertionError("decoding has begun")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    with pytest.raises(ValueError, match="pixels"):
        open_image(bomb(side, side))


def test_limit_counts_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (Image.MAX_IMAGE_PIXELS or 0) > MAX_PIXELS, "so that Pillow warns of nothing that is then read"
    monkeypatch.setattr(decode, "MAX_PIXELS", 100)
    assert open_image(encoded(noise(10, 10))).size == (10, 10)
    with pytest.raises(ValueError, match="101 x 1 pixels, more than 100"):
        open_image(encoded(noise(101, 1)))


def test_any_damage_ends_in_an_image_or_one_of_two_errors() -> None:
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    originals = [encoded(noise(30, 20), kind) for kind in FORMATS] + [encoded(noise(30, 20), "JPEG", exif=exif)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for data in originals:
            for _ in range(150):
                damaged = bytearray(data)
                for _ in range(rng.choice((1, 2, 10))):
                    damaged[rng.integers(min(len(damaged), rng.choice((40, 200, len(damaged)))))] = rng.integers(256)
                with contextlib.suppress(OSError, ValueError):
                    assert to_square(open_image(bytes(damaged)), 8, 3).shape == (8, 8, 3)


def test_decoding_in_threads_leaves_the_warning_filters_alone() -> None:
    data = encoded(noise(100, 100), "JPEG")
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [open_image(data) for _ in range(100)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


@pytest.mark.parametrize(
    ("content", "end"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0", "PPM, but HEIC or AVIF; convert it to JPEG"),
        (b"", "PPM, but empty"),
        (b"%PDF-1.7 and more", "PPM"),
    ],
)
def test_what_people_often_have_in_place_of_a_picture_is_named(content: bytes, end: str, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(content)
    for file in (content, tmp_path / "photo.jpg"):
        with pytest.raises(ValueError, match=f"{end}$"):
            open_image(file)
