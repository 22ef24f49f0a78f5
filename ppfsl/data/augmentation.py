"""Random changes of training images, whole batches at a time."""

import numpy as np

from ppfsl.config import AugmentationConfig
from ppfsl.config.objectives import TaskAugmentation

_AT_ONCE = 8  # images
_GREY = np.asarray([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


def center_crop(images: np.ndarray, size: int) -> np.ndarray:
    """The middle of square images: uint8 [N, S, S, C] -> [N, size, size, C], a view."""
    margin = (images.shape[1] - size) // 2
    return images[:, margin : margin + size, margin : margin + size]


def augment(images: np.ndarray, size: int, config: AugmentationConfig, rng: np.random.Generator) -> np.ndarray:
    """A random variant of each image.

    Args:
        images: uint8 [N, S, S, C].
        size: side of the result in pixels.
        config: which changes.
        rng: where the chance comes from; its draws do not depend on the pixels.

    Returns:
        float32 [N, C, size, size], pixels in 0..255.
    """
    if config.rotation:
        images = _rotated(images, rng.uniform(-config.rotation, config.rotation, len(images)))
    if config.crop == "random":
        images = _random_windows(images, size, rng)
    elif config.crop == "resized":
        images = _resized_windows(images, size, config.crop_area, rng)
    else:
        images = center_crop(images, size)
    if config.flip:
        flipped = rng.random(len(images)) < 0.5
    pixels = np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)
    if config.flip:
        pixels[flipped] = pixels[flipped, ..., ::-1]
    return _jitter(pixels, config.jitter, rng) if config.jitter else pixels


def turn_some(pixels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Turn half of the images, at random, by 0 to 3 quarters counter-clockwise.

    Args:
        pixels: [N, C, S, S].
        rng: where the chance comes from.

    Returns:
        The same kind of array, and the quarters of each image: int64 [N].
    """
    quarters = np.where(rng.random(len(pixels)) < 0.5, rng.integers(0, 4, len(pixels)), 0)
    pixels = pixels.copy()
    for turn in (1, 2, 3):
        pixels[quarters == turn] = np.rot90(pixels[quarters == turn], turn, axes=(2, 3))
    return pixels, quarters


def change_classes(
    images: np.ndarray, classes: np.ndarray, config: TaskAugmentation, rng: np.random.Generator
) -> np.ndarray:
    """One random change for all images of a class.

    Args:
        images: uint8 [N, S, S, C].
        classes: int64 [N], from 0, the classes of the batch's tasks numbered through.
        config: which changes.
        rng: where the chance comes from; its draws do not depend on the pixels.

    Returns:
        uint8 [N, S, S, C].
    """
    count = int(classes.max()) + 1
    if config.turn:
        turns = rng.integers(0, 4, count)[classes]
        images = images.copy()
        for quarters in (1, 2, 3):
            images[turns == quarters] = np.rot90(images[turns == quarters], quarters, axes=(1, 2))
    if config.flip:
        flipped = (rng.random(count) < 0.5)[classes]
        images = np.where(flipped[:, None, None, None], images[:, :, ::-1], images)
    if config.color:
        factors = rng.uniform(1 - config.color, 1 + config.color, (count, 1, 1, images.shape[-1])).astype(np.float32)
        images = (images * factors[classes]).round().clip(0, 255).astype(np.uint8)
    return images


def _random_windows(images: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Windows of size x size; images no larger than that are first padded by an eighth, mirrored."""
    if images.shape[1] == size:
        pad = size // 8
        images = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
    room = images.shape[1] - size
    top, left = rng.integers(0, room + 1, (2, len(images)))
    rows = top[:, None] + np.arange(size)
    columns = left[:, None] + np.arange(size)
    return images[np.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]


def _resized_windows(images: np.ndarray, size: int, area: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Windows of a random share of the area and an aspect ratio of 3/4 to 4/3, resized bilinearly.

    Bilinear resizing of a window is two interpolations, one of rows and one of columns; as many images at a time as the
    processor's cache holds.
    """
    count, side = images.shape[:2]
    share = rng.uniform(*area, count)
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), count))
    height = np.minimum(side * np.sqrt(share / aspect), side)
    width = np.minimum(side * np.sqrt(share * aspect), side)
    top = rng.random(count) * (side - height)
    left = rng.random(count) * (side - width)
    rows, columns = _neighbours(top, height, size, side), _neighbours(left, width, size, side)
    result = np.empty((count, size, size, images.shape[3]), dtype=np.float32)
    for start in range(0, count, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        # Rows first, then columns, which are put in the rows' place: neighbours are long stretches of memory then.
        pixels = _between(images[part], rows[0][part], rows[1][part]).transpose(0, 2, 1, 3)
        result[part] = _between(pixels, columns[0][part], columns[1][part]).transpose(0, 2, 1, 3)
    return result


def _neighbours(start: np.ndarray, length: np.ndarray, size: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Where `size` points of [start, start + length) lie: the pixel before, int64 [N, size], and how far after it."""
    centers = start[:, None] + (np.arange(size) + 0.5) * (length / size)[:, None] - 0.5
    centers = centers.clip(0, side - 1)
    before = np.minimum(np.floor(centers).astype(np.int64), side - 2)
    return before, (centers - before).astype(np.float32)


def _between(images: np.ndarray, before: np.ndarray, beyond: np.ndarray) -> np.ndarray:
    """Rows between those of images [N, S, W, C]: float32 [N, size, W, C]."""
    count, side, width, channels = images.shape
    rows, which = np.ascontiguousarray(images).reshape(count, side, -1), np.arange(count)[:, None]
    result = rows[which, before].astype(np.float32)
    rest = rows[which, before + 1].astype(np.float32, copy=False)
    rest -= result
    rest *= beyond[..., None]
    result += rest
    return result.reshape(count, -1, width, channels)


def _rotated(images: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Each image turned counter-clockwise about its centre, bilinearly, mirrored beyond its edges: float32."""
    side = images.shape[1]
    middle = (side - 1) / 2
    cos, sin = (function(np.radians(degrees))[:, None, None] for function in (np.cos, np.sin))
    y, x = np.meshgrid(np.arange(side) - middle, np.arange(side) - middle, indexing="ij")
    # Where each pixel of the result comes from: the opposite turn, with y pointing down.
    rows, columns = middle + cos * y + sin * x, middle - sin * y + cos * x
    top, left = np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64)
    down, right = ((place - np.floor(place)).astype(np.float32)[..., None] for place in (rows, columns))
    which = np.arange(len(images))[:, None, None]

    def at(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        return images[which, _mirrored(row, side), _mirrored(column, side)].astype(np.float32)

    upper = at(top, left) * (1 - right) + at(top, left + 1) * right
    lower = at(top + 1, left) * (1 - right) + at(top + 1, left + 1) * right
    return upper * (1 - down) + lower * down


def _mirrored(place: np.ndarray, side: int) -> np.ndarray:
    """Places outside 0..side - 1 reflected at the edge pixels."""
    return (side - 1) - np.abs((side - 1) - np.abs(place))


def _jitter(pixels: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Multiply brightness, then contrast, then saturation by factors of their own per image.

    float32 [N, C, S, S] -> the same. All three are one matrix and one constant per image: the contrast keeps the mean
    of the brightened image, the saturation each pixel's grey value, whose weights sum to 1.
    """
    count, channels, side = pixels.shape[:3]
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, (3, count, 1, 1)).astype(np.float32)
    flat = pixels.reshape(count, channels, -1)
    constant = (1 - contrast) * brightness * flat.mean(axis=(1, 2), keepdims=True)
    matrix = brightness * contrast * np.eye(channels, dtype=np.float32)
    if channels == 3:
        matrix = saturation * matrix + (1 - saturation) * brightness * contrast * _GREY
    changed = matrix @ flat
    changed += constant
    return np.clip(changed, 0, 255, out=changed).reshape(count, channels, side, side)
