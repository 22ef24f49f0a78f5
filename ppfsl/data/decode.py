"""One image file to a square uint8 array."""

import io
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

MAX_PIXELS = 89_000_000
"""More pixels than this in one file, or in its resized copy, are taken for an attack or a mistake, and refused."""

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
"""Pillow's formats that are read. Others are refused whatever the file's name: some run an external program."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(file: bytes | Path) -> Image.Image:
    """Decode an image file (of an animation the first picture), upright by its orientation tag.

    Raises:
        OSError, ValueError: when it is no image of a known format, is truncated, has more than `MAX_PIXELS` pixels, or
            its grey is in 32-bit or signed integers, whose white nobody knows.
    """
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS}")
            if image.mode == "I" and image.format == "TIFF":  # of PNG and PPM, this is 16 bits
                raise ValueError("32-bit or signed grey; convert it to 8 or unsigned 16 bits")
            image.load()
            return image.transpose(turn) if (turn := _turn(image)) is not None else image.copy()
    except UnidentifiedImageError:
        raise ValueError(f"it is none of {', '.join(FORMATS)}{_other_kind(file)}") from None
    except (OSError, ValueError):
        raise
    except Exception as error:  # damaged files reach corners of the decoders that raise whatever they like
        raise ValueError(str(error) or type(error).__name__) from None


def _other_kind(file: bytes | Path) -> str:
    """What else a file is, where people often have such ones; "" for all others."""
    if isinstance(file, Path):
        with file.open("rb") as stream:
            head = stream.read(12)
    else:
        head = file[:12]
    if not head:
        return ", but empty"
    return ", but HEIC or AVIF; convert it to JPEG" if head[4:8] == b"ftyp" else ""


def to_square(image: Image.Image, size: int, channels: int) -> np.ndarray:
    """Resize so that the shorter side is `size` (bilinear), then crop the centre.

    Args:
        image: any mode; transparency is laid on white.
        size: pixels.
        channels: 3 for RGB, 1 for grey.

    Returns:
        uint8 [size, size, channels].

    Raises:
        ValueError: when its grey is in floating-point numbers, whose white nobody knows, or the image is so elongated
            that its resized copy has more than `MAX_PIXELS` pixels.
    """
    if image.mode == "F":  # Pillow would cut all of 0..1 down to black
        raise ValueError("floating-point grey; convert it to 8 or 16 bits")
    image = _as_mode(image, "RGB" if channels == 3 else "L")
    if image.size != (size, size):
        width, height = (side * size // min(image.size) for side in image.size)  # rounded down as torchvision does
        if width * height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels is too elongated")
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = round((width - size) / 2), round((height - size) / 2)
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image, dtype=np.uint8).reshape(size, size, channels)


def read_square(file: Path | bytes, size: int, channels: int) -> np.ndarray:
    """A picture as a data set's table would hold it: uint8 [size, size, channels].

    Raises:
        ValueError: saying what is wrong with it.
    """
    try:
        return to_square(open_image(file), size, channels)
    except (OSError, ValueError) as error:
        raise ValueError(getattr(error, "strerror", None) or str(error)) from None


def _turn(image: Image.Image) -> Image.Transpose | None:
    """How to set an image upright; None for upright ones and for damaged EXIF data, which spoils no pixel."""
    try:
        return _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # the parser raises whatever the bytes lead to
        return None


def _as_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow clips 16-bit grey instead of scaling it.
        image = Image.fromarray((np.asarray(image, dtype=np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == mode else image.convert(mode)


def thumbnails_of(squares: np.ndarray, size: int) -> np.ndarray:
    """Small copies of square images: uint8 [N, S, S, C] -> [N, size, size, C]."""
    channels = squares.shape[-1]
    images = (Image.fromarray(square.squeeze(-1) if channels == 1 else square) for square in squares)
    return np.stack([to_square(image, size, channels) for image in images])


def jpeg_of(image: np.ndarray) -> bytes:
    """A uint8 image [S, S, C], C 3 (RGB) or 1 (grey), as a JPEG file to be looked at."""
    stream = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(stream, "JPEG", quality=85)
    return stream.getvalue()
