"""Whatever is changed: shape, type and range, and that chance is all in the generator."""

import itertools

import numpy as np
import pytest

from ppfsl.config import AugmentationConfig
from ppfsl.data.augmentation import augment
from ppfsl.randomness import generator
from tests.data.augmentation.images import noise, run, smooth

EVERYTHING = AugmentationConfig(crop="resized", crop_area=(0.3, 1.0), flip=True, jitter=0.4)


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
