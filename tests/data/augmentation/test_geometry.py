"""Crops, mirror images, resized windows and rotations: what they are."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ppfsl.config import AugmentationConfig
from ppfsl.data.augmentation import _resized_windows, augment, center_crop
from ppfsl.randomness import generator
from tests.data.augmentation.images import noise, pixels, run, smooth

# --- crops and flips


@pytest.mark.parametrize(("side", "size"), [(16, 16), (20, 16), (21, 16), (17, 16)])
def test_center_crop_is_the_middle(side: int, size: int) -> None:
    images = noise(2, side)
    first = (side - size) // 2
    expected = images[:, first : first + size, first : first + size]
    assert np.array_equal(center_crop(images, size), expected)
    assert np.array_equal(run(images, size), pixels(expected))


def test_half_of_the_images_are_mirrored_left_to_right() -> None:
    image = noise(1, 16)
    results = run(np.repeat(image, 400, axis=0), 16, flip=True)
    straight, mirrored = pixels(image)[0], pixels(image)[0][:, :, ::-1]
    flipped = [np.array_equal(result, mirrored) for result in results]
    assert all(flip or np.array_equal(result, straight) for flip, result in zip(flipped, results, strict=True))
    assert 150 < sum(flipped) < 250  # 5 standard deviations


def windows_of(image: np.ndarray, size: int) -> dict[bytes, tuple[int, int]]:
    """All windows of an image, channels first -> (top, left)."""
    room = image.shape[0] - size + 1
    return {
        image[top : top + size, left : left + size].transpose(2, 0, 1).astype(np.float32).tobytes(): (top, left)
        for top in range(room)
        for left in range(room)
    }


def test_random_windows_are_windows_of_the_larger_image() -> None:
    image = noise(1, 20)
    windows = windows_of(image[0], 16)
    places = [windows[result.tobytes()] for result in run(np.repeat(image, 500, axis=0), 16, crop="random")]
    assert set(places) == set(itertools.product(range(5), range(5)))


def test_random_windows_of_an_image_without_room_are_windows_of_the_padded_one() -> None:
    image = noise(1, 16)
    padded = np.pad(image[0], ((2, 2), (2, 2), (0, 0)), mode="reflect")
    assert padded[0, 2].tolist() == image[0, 2, 0].tolist()  # mirrored: the border itself is not repeated
    windows = windows_of(padded, 16)
    places = [windows[result.tobytes()] for result in run(np.repeat(image, 500, axis=0), 16, crop="random")]
    assert set(places) == set(itertools.product(range(5), range(5)))


# --- resized windows


class Fixed:
    """Stands for a generator whose share of the area, aspect and place are given, not drawn."""

    def __init__(self, share: float, aspect: float, top: float, left: float) -> None:
        self._uniform, self._random = iter([share, math.log(aspect)]), iter([top, left])

    def uniform(self, low: float, high: float, count: int) -> np.ndarray:
        value = next(self._uniform)
        assert low - 1e-9 <= value <= high + 1e-9
        return np.full(count, value)

    def random(self, count: int) -> np.ndarray:
        return np.full(count, next(self._random))


def window(image: np.ndarray, size: int, share: float, aspect: float, top: float, left: float) -> np.ndarray:
    rng: Any = Fixed(share, aspect, top, left)
    return _resized_windows(image, size, (0.1, 1.0), rng)[0]


def test_the_whole_image_at_its_own_size_is_itself() -> None:
    image = noise(1, 16)
    np.testing.assert_allclose(window(image, 16, 1, 1, 0, 0), image[0], atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("share", "aspect"), [(0.36, 1.0), (0.25, 4 / 3), (0.5, 3 / 4), (1.0, 1.2)])
def test_window_is_sampled_bilinearly(channels: int, share: float, aspect: float) -> None:
    side, size = 24, 16
    image = noise(1, side, channels)
    height, width = (min(side, side * math.sqrt(share / aspect)), min(side, side * math.sqrt(share * aspect)))
    top, left = 0.3 * (side - height), 0.8 * (side - width)
    found = window(image, size, share, aspect, 0.3, 0.8)
    assert found.shape == (size, size, channels)

    def neighbours(position: float) -> list[tuple[int, float]]:
        position = min(max(position, 0), side - 1)
        low = math.floor(position)
        return [(low, low + 1 - position), (min(low + 1, side - 1), position - low)]

    for i, j in itertools.product(range(size), range(size)):
        ys = neighbours(top + (i + 0.5) * height / size - 0.5)
        xs = neighbours(left + (j + 0.5) * width / size - 0.5)
        expected = sum(a * b * image[0, y, x].astype(float) for y, a in ys for x, b in xs)
        np.testing.assert_allclose(found[i, j], expected, atol=0.01)


def test_window_that_is_enlarged_equals_pillows() -> None:
    side, size = 24, 16
    image = noise(1, side)
    height, width = side * math.sqrt(0.2 / 1.1), side * math.sqrt(0.2 * 1.1)
    assert max(height, width) < size  # Pillow averages where it makes smaller
    top, left = 0.5 * (side - height), 0.25 * (side - width)
    expected = Image.fromarray(image[0]).resize(
        (size, size), Image.Resampling.BILINEAR, box=(left, top, left + width, top + height)
    )
    # Pillow rounds to 8 bits and repeats the window's border where this samples beyond it.
    inner = slice(1, -1)
    difference = window(image, size, 0.2, 1.1, 0.5, 0.25) - np.asarray(expected, dtype=np.float32)
    assert np.abs(difference[inner, inner]).max() < 2


def test_area_and_aspect_stay_within_their_bounds() -> None:
    # Pixels that tell their own place show how much of the image a window spans.
    side, size, area = 64, 32, (0.3, 0.6)
    y, x = np.mgrid[:side, :side]
    image = np.stack([y, x, 0 * x], axis=-1).astype(np.uint8)
    results = run(np.repeat(image[None], 300, axis=0), size, crop="resized", crop_area=area)
    stretch = size / (size - 1)
    height = (results[:, 0, -1, 0] - results[:, 0, 0, 0]) * stretch
    width = (results[:, 1, 0, -1] - results[:, 1, 0, 0]) * stretch
    share, aspect = height * width / side**2, width / height
    assert area[0] - 0.02 < share.min() < 0.33
    assert 0.57 < share.max() < area[1] + 0.02
    assert 3 / 4 - 0.03 < aspect.min() < 0.8
    assert 1.25 < aspect.max() < 4 / 3 + 0.03
    assert abs(np.log(aspect).mean()) < 0.05  # neither tall nor wide on average
    for edge in (results[:, 0, 0, 0], results[:, 1, 0, 0]):
        assert edge.min() < 3
    assert results[:, 0].max() > side - 4
    assert results[:, 1].max() > side - 4


def test_smooth_picture_survives_the_whole_area() -> None:
    image = smooth(32)
    result = run(image, 32, crop="resized", crop_area=(1.0, 1.0))
    assert np.abs(result - pixels(image)).mean() < 20  # only the aspect may change
    assert np.corrcoef(result.ravel(), pixels(image).ravel())[0, 1] > 0.9


# --- rotations


def test_rotation_equals_scipys_and_fills_corners_by_mirroring() -> None:
    from scipy import ndimage

    images = generator(0, "rotation").integers(0, 256, (4, 15, 15, 3), dtype=np.uint8)
    turned = augment(images, 15, AugmentationConfig(rotation=40.0), generator(1, "angles"))
    angles = generator(1, "angles").uniform(-40, 40, 4)
    for image, angle, result in zip(images, angles, turned, strict=True):
        expected = ndimage.rotate(image.astype(np.float64), angle, reshape=False, order=1, mode="mirror")
        np.testing.assert_allclose(result.transpose(1, 2, 0), expected, atol=1e-3)


def test_rotation_by_nothing_changes_nothing_and_draws_nothing() -> None:
    images = generator(0, "rotation").integers(0, 256, (4, 15, 15, 3), dtype=np.uint8)
    rng = generator(1, "angles")
    assert np.array_equal(augment(images, 15, AugmentationConfig(), rng), images.transpose(0, 3, 1, 2))
    assert rng.random() == generator(1, "angles").random()
