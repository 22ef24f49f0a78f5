"""Squaring images: crops, sizes, and every kind of colour."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ppfsl.data.decode import open_image, to_square
from tests.data.decode.drawn import BLUE, GREEN, RED, WHITE, encoded, noise, quadrants


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


@pytest.mark.parametrize("kind", [np.int32, np.uint32])
def test_32_bit_grey_is_refused_not_blackened(kind: type) -> None:
    values = (np.arange(256) * (2**31 // 256)).astype(kind).reshape(16, 16)
    image = Image.fromarray(values.astype(np.int32))
    content = encoded(image, "TIFF", tiffinfo={339: 2 if kind is np.int32 else 1})  # SampleFormat: signed, unsigned
    with pytest.raises(ValueError) as caught:
        to_square(open_image(content), 16, 3)
    assert str(caught.value) == "32-bit or signed grey; convert it to 8 or unsigned 16 bits"


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
