"""Pictures of every kind are read, and what cannot be is refused in words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ppfsl.classifier.pictures import find_support, read_square, read_support
from tests.bombs import bomb

Encode = Callable[..., bytes]


def halves() -> Image.Image:
    """24 x 24 pixels: red on the left, blue on the right."""
    image = Image.new("RGB", (24, 24), (255, 0, 0))
    image.paste((0, 0, 255), (12, 0, 24, 24))
    return image


def is_halves(square: np.ndarray) -> bool:
    """Whether it is red on the left and blue on the right, but for compression."""
    wanted = np.zeros((16, 16, 3))
    wanted[:, :8, 0] = wanted[:, 8:, 2] = 255
    return (
        square.shape == (16, 16, 3) and float(np.abs(square[:, [0, 1, 14, 15]] - wanted[:, [0, 1, 14, 15]]).max()) < 9
    )


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {"quality": 95}), ("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True}), ("GIF", {}), ("TIFF", {})],
)
def test_every_kind_of_file(encoded: Encode, tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    content = encoded(halves(), kind, **options)
    (tmp_path / "no extension").write_bytes(content)
    for file in (content, tmp_path / "no extension"):
        assert is_halves(read_square(file, 16, 3))


@pytest.mark.parametrize(
    ("tag", "turn"), [(3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90), (8, Image.Transpose.ROTATE_270)]
)
def test_orientation_tags_are_obeyed(encoded: Encode, tag: int, turn: Image.Transpose) -> None:
    exif = Image.Exif()
    exif[0x0112] = tag
    content = encoded(halves().transpose(turn), "JPEG", quality=95, exif=exif)
    assert is_halves(read_square(content, 16, 3))
    assert not is_halves(read_square(encoded(halves().transpose(turn), "JPEG", quality=95), 16, 3))


def test_transparency_is_white(encoded: Encode) -> None:
    image = halves().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 24, 12))
    square = read_square(encoded(image), 24, 3)
    assert (square[:11] == 255).all()
    assert square[20, 2].tolist() == [255, 0, 0]


def test_animations_give_their_first_picture(encoded: Encode) -> None:
    others = [Image.new("RGB", (24, 24), (0, 255, 0))] * 3
    for kind in ("GIF", "WEBP"):
        content = encoded(halves(), kind, save_all=True, append_images=others, lossless=True)
        assert is_halves(read_square(content, 16, 3)), kind


def test_greyscale_cmyk_and_16_bits(encoded: Encode) -> None:
    grey = Image.fromarray(np.repeat(np.arange(0, 250, 10, dtype=np.uint8)[:, None], 25, 1))
    plain = read_square(encoded(grey), 25, 3)
    assert (plain == np.asarray(grey)[..., None]).all()
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    for kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(read_square(encoded(deep, kind), 25, 3), plain)
        np.testing.assert_array_equal(read_square(encoded(deep, kind), 25, 1), plain[..., :1])
    assert is_halves(read_square(encoded(halves().convert("CMYK"), "TIFF"), 16, 3))
    assert is_halves(read_square(encoded(halves().convert("CMYK"), "JPEG", quality=95), 16, 3))
    assert is_halves(read_square(encoded(halves().convert("P")), 16, 3))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_cannot_be_read_is_refused_in_words(encoded: Encode, tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    cases = {
        "10000 x 10000 pixels, more than": bomb(10_000, 10_000),
        "exceeds limit": bomb(60_000, 60_000),
        "truncated": encoded(noise, "JPEG")[:2000],
        "none of JPEG, PNG": b"",
        "too elongated": encoded(Image.new("L", (500_000, 1))),
    }
    for words, content in cases.items():
        with pytest.raises(ValueError, match=words):
            read_square(content, 224, 3)
    with pytest.raises(ValueError, match="Is a directory"):
        read_square(tmp_path, 224, 3)


def test_the_same_picture_in_two_classes_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place, colour in (("rose/1", "red"), ("rose/2", "red"), ("tulip/1", "blue"), ("tulip/2", "green")):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 30), colour).save(tmp_path / f"{place}.png")
    read_support(find_support(tmp_path), 16, 3)
    assert capsys.readouterr().err == "", "twice in one class is only useless"
    Image.new("RGB", (20, 30), "red").save(tmp_path / "tulip" / "3.bmp")
    read_support(find_support(tmp_path), 16, 3)
    assert capsys.readouterr().err == (
        f"warning: {tmp_path}/rose/1.png and {tmp_path}/tulip/3.bmp are the same picture, in the classes rose and "
        "tulip; leave one of them out\n"
    )
