"""Whole classes of tasks that are changed alike, and quarter turns to be told."""

import math
from typing import Any

import numpy as np
import pytest

from ppfsl.config.objectives import TaskAugmentation
from ppfsl.data.augmentation import change_classes, turn_some
from ppfsl.randomness import generator
from tests.data.augmentation.images import noise

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
