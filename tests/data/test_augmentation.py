"""Augmentation: what the random changes are, and that chance is all in the generator."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ppfsl.config import AugmentationConfig
from ppfsl.config.objectives import TaskAugmentation
from ppfsl.data.augmentation import _resized_windows, augment, center_crop, change_classes, turn_some
from ppfsl.randomness import generator

EVERYTHING = AugmentationConfig(crop="resized", crop_area=(0.3, 1.0), flip=True, jitter=0.4)


def noise(count: int = 4, size: int = 20, channels: int = 3) -> np.ndarray:
    return generator(0, "noise").integers(0, 256, (count, size, size, channels)).astype(np.uint8)


def smooth(size: int, channels: int = 3) -> np.ndarray:
    """One picture of soft waves: uint8 [1, size, size, channels]."""
    y, x, c = np.mgrid[:size, :size, :channels]
    waves = 128 + 60 * np.sin(2 * math.pi * (x + 3 * c) / size) + 60 * np.cos(3 * math.pi * y / size)
    return waves.round().astype(np.uint8)[None]


def run(images: np.ndarray, size: int, key: int = 0, **changes: Any) -> np.ndarray:
    return augment(images, size, AugmentationConfig(**changes), generator(0, "augment", key))


def pixels(images: np.ndarray) -> np.ndarray:
    """As `augment` lays them out, unchanged."""
    return images.transpose(0, 3, 1, 2).astype(np.float32)


# --- everywhere


@pytest.mark.parametrize("crop", ["center", "random", "resized"])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("jitter", [0.0, 0.5])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [16, 21])
def test_shape_type_and_range(crop: str, flip: bool, jitter: float, channels: int, side: int) -> None:
    result = run(noise(5, side, channels), 16, crop=crop, flip=flip, jitter=jitter)
    assert result.shape == (5, channels, 16, 16)
    assert result.dtype == np.float32
    assert result.flags["C_CONTIGUOUS"]
    assert result.min() >= 0
    assert result.max() <= 255


def test_same_key_same_result_other_key_other_result() -> None:
    images = noise()
    results = [augment(images, 16, EVERYTHING, generator(0, "augment", key)) for key in (1, 1, 2)]
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_input_stays_as_it_was() -> None:
    images = noise()
    before = images.copy()
    augment(images, 16, EVERYTHING, generator(0))
    assert np.array_equal(images, before)


def test_images_of_a_batch_change_differently() -> None:
    images = np.repeat(smooth(20), 8, axis=0)
    for changes in ({"crop": "random"}, {"crop": "resized"}, {"jitter": 0.3}):
        results = run(images, 16, **changes)
        for one, other in itertools.combinations(results, 2):
            if changes != {"crop": "random"}:  # 25 windows: two may coincide
                assert not np.array_equal(one, other)
        assert len({result.tobytes() for result in results}) > 4


@pytest.mark.parametrize("crop", ["center", "random", "resized"])
def test_chance_does_not_depend_on_pixels(crop: str) -> None:
    after = []
    for images in (noise(), np.zeros_like(noise())):
        rng = generator(0, "augment")
        augment(images, 16, AugmentationConfig(crop=crop, flip=True, jitter=0.5), rng)
        after.append(rng.random())
    assert after[0] == after[1]


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


# --- jitter


def test_jitter_of_a_plain_grey_image_is_one_factor() -> None:
    images = np.full((500, 4, 4, 1), 100, dtype=np.uint8)
    results = run(images, 4, jitter=0.3)
    assert (results == results[:, :1, :1, :1]).all()
    factors = results[:, 0, 0, 0] / 100
    assert 0.7 <= factors.min() < 0.72
    assert 1.28 < factors.max() <= 1.3 + 1e-5
    assert abs(factors.mean() - 1) < 0.04


def test_brightness_and_contrast_have_factors_of_their_own() -> None:
    images = (96 + noise(400, 4, 1) // 8).astype(np.uint8)  # 96..127: nothing is clipped
    results, before = run(images, 4, jitter=0.5).astype(np.float64), pixels(images).astype(np.float64)
    brightness = results.mean((1, 2, 3)) / before.mean((1, 2, 3))
    contrast = results.std((1, 2, 3)) / before.std((1, 2, 3)) / brightness
    for factors in (brightness, contrast):
        assert 0.5 - 1e-3 <= factors.min() < 0.52
        assert 1.48 < factors.max() <= 1.5 + 1e-3
    assert abs(np.corrcoef(brightness, contrast)[0, 1]) < 0.25  # 5 standard deviations


def test_jitter_multiplies_brightness_contrast_and_saturation() -> None:
    images = (96 + noise(400, 4) // 8).astype(np.uint8)  # 96..127: nothing is clipped
    results = run(images, 4, jitter=0.5).astype(np.float64)
    before = pixels(images).astype(np.float64)
    grey = np.asarray([0.299, 0.587, 0.114])

    def factor(after: np.ndarray, old: np.ndarray) -> np.ndarray:
        """Of each image, by least squares; the fit must be exact."""
        after, old = after.reshape(len(after), -1), old.reshape(len(old), -1)
        ratio = (after * old).sum(1) / (old * old).sum(1)
        np.testing.assert_allclose(after, ratio[:, None] * old, atol=2e-3)
        return ratio

    def luminance(x: np.ndarray) -> np.ndarray:
        return np.einsum("nchw,c->nhw", x, grey)

    def contrast(x: np.ndarray) -> np.ndarray:
        return luminance(x) - luminance(x).mean((1, 2), keepdims=True)

    def colour(x: np.ndarray) -> np.ndarray:
        return x - luminance(x)[:, None]

    # Saturation leaves the luminance, and contrast scales it about the mean of all pixels.
    both = factor(contrast(results), contrast(before))
    all_three = factor(colour(results), colour(before))
    saturation = all_three / both
    assert 0.5 <= saturation.min() < 0.53
    assert 1.47 < saturation.max() < 1.501
    assert 0.25 <= both.min() < 0.6
    assert 1.5 < both.max() < 2.25
    assert abs(np.corrcoef(saturation, both)[0, 1]) < 0.25


def test_jitter_keeps_grey_pictures_grey() -> None:
    grey = np.repeat(noise(6, 8, 1), 3, axis=-1)
    results = run(grey, 8, jitter=0.9)
    np.testing.assert_allclose(results[:, 0], results[:, 1], atol=1e-2)
    np.testing.assert_allclose(results[:, 0], results[:, 2], atol=1e-2)


def test_strong_jitter_is_clipped_not_wrapped() -> None:
    images = np.where(noise(20, 8) > 127, 255, 0).astype(np.uint8)
    results = run(images, 8, jitter=0.9)
    assert results.min() == 0
    assert results.max() == 255


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


# --- whole classes of tasks


def changed_classes(images: np.ndarray, classes: list[int], key: int = 0, **changes: Any) -> np.ndarray:
    config = TaskAugmentation(**changes)
    return change_classes(images, np.asarray(classes), config, generator(0, "classes", key))


def variants(image: np.ndarray, turn: bool, flip: bool) -> list[bytes]:
    """What an image [S, S, C] can become."""
    turned = [np.rot90(image, quarters) for quarters in (range(4) if turn else (0,))]
    return [(part[:, ::-1] if mirror else part).tobytes() for part in turned for mirror in {False, flip}]


@pytest.mark.parametrize(("turn", "flip"), [(True, False), (False, True), (True, True)])
def test_a_classs_images_are_turned_and_mirrored_alike_and_all_ways_occur(turn: bool, flip: bool) -> None:
    image = noise(1, 7)[0]
    possible = variants(image, turn, flip)
    seen = []
    for key in range(60):
        # The same image everywhere, so that the images of a class must come out the same.
        results = changed_classes(np.stack([image] * 5), [0, 1, 0, 1, 0], key, turn=turn, flip=flip)
        assert results.dtype == np.uint8
        for members in ([0, 2, 4], [1, 3]):
            ways = {possible.index(results[member].tobytes()) for member in members}
            assert len(ways) == 1
            seen.append(ways.pop())
    shares = np.bincount(seen, minlength=len(possible)) / len(seen)
    assert np.abs(shares - 1 / len(possible)).max() < 5 * math.sqrt(0.25 / len(seen))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_classs_channels_are_multiplied_by_factors_of_their_own(channels: int) -> None:
    images = np.full((6, 4, 4, channels), 100, np.uint8)
    results = changed_classes(images, [0, 0, 1, 1, 2, 2], color=0.4)
    assert results.dtype == np.uint8
    factors = results[:, 0, 0] / 100
    assert (results == results[:, :1, :1]).all()
    assert np.array_equal(factors[::2], factors[1::2])
    assert len(np.unique(factors)) == 3 * channels
    many = np.concatenate(
        [changed_classes(images, list(range(6)), key, color=0.4)[:, 0, 0].ravel() for key in range(50)]
    )
    assert many.min() >= 60
    assert many.max() <= 140
    assert abs(many.mean() - 100) < 5 * 23 / math.sqrt(len(many))  # a uniform factor's deviation is 0.8 / sqrt(12)


def test_colours_stay_in_range_and_are_rounded() -> None:
    images = np.stack([np.full((2, 2, 3), value, np.uint8) for value in range(256)])
    results = changed_classes(images, [0] * 256, color=0.9)
    factors = generator(0, "classes", 0).uniform(0.1, 1.9, (1, 1, 1, 3)).astype(np.float32)
    assert np.array_equal(results, np.clip(np.round(images * factors), 0, 255).astype(np.uint8))
    assert results.max() == 255


def test_what_is_not_asked_for_changes_nothing() -> None:
    images = noise(4, 7)
    before = images.copy()
    assert np.array_equal(changed_classes(images, [0, 0, 1, 1]), before)
    changed_classes(images, [0, 0, 1, 1], turn=True, flip=True, color=0.5)
    assert np.array_equal(images, before)


# --- quarter turns to be told


def test_half_of_the_images_are_turned_by_a_random_quarter() -> None:
    images = noise(4000, 4).transpose(0, 3, 1, 2).astype(np.float32)
    before = images.copy()
    turned, quarters = turn_some(images, generator(0, "turns"))
    assert np.array_equal(images, before)
    assert turned.dtype == np.float32
    for image, own, quarter in zip(images[:200], turned[:200], quarters[:200], strict=True):
        for channel, other in zip(image, own, strict=True):
            expected = channel
            for _ in range(quarter):  # counter-clockwise: the last column becomes the first row
                expected = np.asarray([[row[column] for row in expected] for column in reversed(range(4))])
            assert np.array_equal(other, expected)
    # 1/2 + 1/8 upright, 1/8 for each of the others
    np.testing.assert_allclose(np.bincount(quarters, minlength=4) / 4000, [0.625, 0.125, 0.125, 0.125], atol=0.03)
