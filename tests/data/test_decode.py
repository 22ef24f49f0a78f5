"""Decoding and squaring images: every kind of file, every kind of damage."""

import contextlib
import io
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ppfsl.data import decode
from ppfsl.data.decode import FORMATS, MAX_PIXELS, open_image, to_square

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def noise(width: int, height: int, channels: int = 3) -> Image.Image:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def quadrants() -> Image.Image:
    """40 x 20 pixels: red and green above, blue and white below."""
    image = Image.new("RGB", (40, 20), RED)
    image.paste(GREEN, (20, 0, 40, 10))
    image.paste(BLUE, (0, 10, 20, 20))
    image.paste(WHITE, (20, 10, 40, 20))
    return image


# --- to_square


def test_square_of_the_right_size_is_copied_pixel_by_pixel() -> None:
    image = noise(10, 10)
    np.testing.assert_array_equal(to_square(image, 10, 3), np.asarray(image))


@pytest.mark.parametrize(("width", "height"), [(30, 10), (10, 30), (11, 10), (10, 11), (13, 10), (10, 17)])
def test_centre_crop_where_no_resizing_is_needed(width: int, height: int) -> None:
    image = noise(width, height)
    left, top = round((width - 10) / 2), round((height - 10) / 2)
    plain = np.asarray(image)[top : top + 10, left : left + 10]
    np.testing.assert_array_equal(to_square(image, 10, 3), plain)


def bilinear_shrink(values: np.ndarray, count: int) -> np.ndarray:
    """Antialiased linear interpolation of a line of numbers [n] to `count` numbers, from the definition."""
    scale = len(values) / count
    reach = max(scale, 1.0)
    centres = np.arange(len(values)) + 0.5
    out = []
    for k in range(count):
        weight = np.clip(1 - np.abs(centres - (k + 0.5) * scale) / reach, 0, None)
        out.append((weight * values).sum() / weight.sum())
    return np.asarray(out)


def test_floating_point_grey_is_refused_not_blackened() -> None:
    image = Image.fromarray(np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16))
    with pytest.raises(ValueError, match="floating-point grey"):
        to_square(open_image(encoded(image, "TIFF")), 16, 3)


@pytest.mark.parametrize(("width", "height", "size"), [(60, 40, 16), (40, 60, 16), (50, 33, 20), (12, 30, 24)])
def test_shorter_side_becomes_the_size_and_the_rest_is_cropped_centrally(width: int, height: int, size: int) -> None:
    image = noise(width, height, 1)
    long = max(width, height) * size // min(width, height)
    new_width, new_height = (long, size) if width > height else (size, long)
    rows = np.apply_along_axis(bilinear_shrink, 1, np.asarray(image, dtype=float), new_width)
    both = np.apply_along_axis(bilinear_shrink, 0, rows, new_height)
    left, top = round((new_width - size) / 2), round((new_height - size) / 2)
    plain = both[top : top + size, left : left + size]
    assert np.abs(to_square(image, size, 1)[:, :, 0] - plain).max() <= 1.01  # Pillow rounds after either pass


@settings(deadline=None)
@given(
    short=st.integers(1, 300), extra=st.integers(0, 300), size=st.integers(1, 224), upright=st.booleans(),
    channels=st.sampled_from((1, 3)),
)  # fmt: skip
def test_result_is_always_square(short: int, extra: int, size: int, upright: bool, channels: int) -> None:
    sides = (short, short + extra)
    out = to_square(Image.new("RGB", sides if upright else sides[::-1], WHITE), size, channels)
    assert out.shape == (size, size, channels)
    assert out.dtype == np.uint8
    assert out.min() == 255, "a crop that reaches outside the image is black there"


def test_longer_side_is_rounded_down_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    # 110 * (28 / 55) is 55.99... in floating point, though the side is 56.
    sizes = []
    resize = Image.Image.resize

    def spy(self: Image.Image, size: tuple[int, int], *rest: object) -> Image.Image:
        sizes.append(size)
        return resize(self, size, *rest)

    monkeypatch.setattr(Image.Image, "resize", spy)
    to_square(noise(110, 55), 28, 3)
    to_square(noise(55, 111), 28, 3)
    assert sizes == [(56, 28), (28, 56)]


def test_grey_becomes_rgb_with_equal_channels() -> None:
    image = noise(8, 8, 1)
    out = to_square(image, 8, 3)
    for channel in range(3):
        np.testing.assert_array_equal(out[:, :, channel], np.asarray(image))


def test_colour_becomes_one_channel_of_luma() -> None:
    out = to_square(quadrants().crop((10, 0, 30, 20)), 20, 1)
    assert out.shape == (20, 20, 1)
    assert out[0, 0, 0] == round(0.299 * 255)
    assert out[0, 19, 0] == round(0.587 * 255)
    assert out[19, 0, 0] == round(0.114 * 255)
    assert out[19, 19, 0] == 255


def test_one_bit_drawing_is_black_and_white() -> None:
    image = Image.new("1", (4, 4), 1)
    image.putpixel((1, 2), 0)
    out = to_square(open_image(encoded(image)), 4, 1)[:, :, 0]
    assert out[2, 1] == 0
    assert (out == 255).sum() == 15


@pytest.mark.parametrize("channels", [1, 3])
def test_transparency_is_laid_on_white(channels: int) -> None:
    image = Image.new("RGBA", (3, 1))
    image.putdata([(0, 0, 0, 0), (0, 0, 0, 255), (0, 0, 0, 128)])
    out = to_square(open_image(encoded(image.resize((3, 3), Image.Resampling.NEAREST))), 3, channels)[0]
    assert (out[0] == 255).all(), "transparent"
    assert (out[1] == 0).all(), "opaque"
    assert (np.abs(out[2].astype(int) - 127) <= 1).all(), "half"


def test_grey_with_alpha_is_laid_on_white() -> None:
    image = Image.new("LA", (2, 2), (0, 0))
    image.putpixel((1, 1), (7, 255))
    out = to_square(open_image(encoded(image)), 2, 3)
    assert out[0, 0].tolist() == [255, 255, 255]
    assert out[1, 1].tolist() == [7, 7, 7]


def test_transparent_palette_entry_is_white() -> None:
    image = Image.new("P", (2, 2), 0)
    image.putpalette([*RED, *GREEN])
    image.putpixel((1, 1), 1)
    for kind in ("PNG", "GIF"):
        out = to_square(open_image(encoded(image, kind, transparency=0)), 2, 3)
        assert out[0, 0].tolist() == [255, 255, 255]
        assert out[1, 1].tolist() == [0, 255, 0]
    opaque = to_square(open_image(encoded(image)), 2, 3)
    assert opaque[0, 0].tolist() == [255, 0, 0]


def test_transparent_colour_of_an_rgb_file_is_white() -> None:
    image = Image.new("RGB", (2, 2), RED)
    image.putpixel((1, 1), BLUE)
    out = to_square(open_image(encoded(image, transparency=RED)), 2, 3)
    assert out[0, 0].tolist() == [255, 255, 255]
    assert out[1, 1].tolist() == [0, 0, 255]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    values = np.array([[0, 257], [256 * 128, 65535]], dtype=np.uint16)
    image = open_image(encoded(Image.fromarray(values), kind))
    assert to_square(image, 2, 1)[:, :, 0].tolist() == [[0, 1], [128, 255]]
    assert to_square(image, 2, 3)[1, 0].tolist() == [128, 128, 128]


def test_cmyk_becomes_rgb() -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    out = to_square(open_image(encoded(image, "JPEG", quality=95)), 16, 3)
    assert np.abs(out.astype(int) - RED).max() <= 3


def test_elongated_image_is_refused_before_it_is_enlarged() -> None:
    with pytest.raises(ValueError, match=r"2000000 x 1 pixels is too elongated"):
        to_square(Image.new("L", (2_000_000, 1)), 84, 1)


# --- open_image


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


def bomb(width: int, height: int) -> bytes:
    """A tiny PNG that claims to be huge."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(10000))),
        (b"IEND", b""),
    ]
    body = b"".join(struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


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
