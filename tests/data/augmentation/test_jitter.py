"""Jitter of brightness, contrast and saturation."""

import numpy as np

from tests.data.augmentation.images import noise, pixels, run


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
