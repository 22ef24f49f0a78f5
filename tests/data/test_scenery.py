"""Backgrounds, leaves and light."""

import numpy as np
import pytest

from ppfsl.data.scenery import blend, light, paint_leaf, picture_of, rgb, scenery, window


def test_colours_wrap_in_hue_and_clip_in_the_rest() -> None:
    assert rgb((1.0, 1.0, 1.0)).tolist() == [1.0, 0.0, 0.0]
    assert rgb((-0.25, 1.5, 2.0)).tolist() == pytest.approx([0.5, 0.0, 1.0])


def test_a_window_is_a_view_with_offsets_from_its_middle() -> None:
    canvas = np.zeros((3, 10, 10), dtype=np.float32)
    place = window(canvas, 0.5, 0.3, 0.2)
    assert place is not None
    view, dx, dy = place
    assert view.shape == (3, 4, 4)
    assert dx.ravel().tolist() == pytest.approx([-0.15, -0.05, 0.05, 0.15])
    assert dy.ravel().tolist() == pytest.approx([-0.15, -0.05, 0.05, 0.15])
    view[:] = 1
    assert canvas[:, 1:5, 3:7].all()
    assert canvas.sum() == 48


def test_a_window_ends_at_the_border_and_is_none_beyond_it() -> None:
    canvas = np.zeros((3, 10, 10), dtype=np.float32)
    place = window(canvas, 0.0, 1.0, 0.2)
    assert place is not None
    assert place[0].shape == (3, 2, 2)
    assert window(canvas, 1.5, 0.5, 0.2) is None


def test_blending_is_in_proportion_to_the_cover() -> None:
    view = np.full((3, 1, 3), 0.5, dtype=np.float32)
    blend(view, np.asarray([[0.0, 0.5, 1.0]], dtype=np.float32), np.asarray([1.0, 0.5, 0.0], dtype=np.float32))
    assert view[:, 0].tolist() == [[0.5, 0.75, 1.0], [0.5, 0.5, 0.5], [0.5, 0.25, 0.0]]


def test_a_background_is_the_same_at_every_size() -> None:
    for seed in range(20):
        small, large = (scenery(np.random.default_rng(seed), side) for side in (32, 96))
        assert small.shape == (3, 32, 32)
        assert small.dtype == large.dtype == np.float32
        assert np.abs(large.reshape(3, 32, 3, 32, 3).mean((2, 4)) - small).mean() < 0.03


def test_backgrounds_cover_the_colours() -> None:
    """Green, brown, blue and red ones all come up: no petal colour stands out by itself."""
    means = np.asarray([scenery(np.random.default_rng(seed), 32).mean((1, 2)) for seed in range(60)])
    assert {int(channel) for channel in means.argmax(1)} == {0, 1, 2}


def test_a_leaf_lies_along_its_angle_and_is_green() -> None:
    for seed in range(10):
        canvas = np.ones((3, 64, 64), dtype=np.float32)
        paint_leaf(canvas, np.random.default_rng(seed), 0.1, 0.5, 0.0)
        rows, columns = np.nonzero(canvas[0] < 0.95)
        assert columns.min() >= 6
        assert np.ptp(columns) > 1.5 * np.ptp(rows)
        middle = canvas[:, rows, columns].mean(1)
        assert middle.argmax() == 1


def test_light_changes_brightness_and_cast_but_not_what_is_where() -> None:
    canvas = np.random.default_rng(0).uniform(0.2, 0.8, (3, 32, 32)).astype(np.float32)
    lit = [light(canvas.copy(), np.random.default_rng(seed)) for seed in range(20)]
    assert all(one.dtype == np.float32 and one.shape == canvas.shape for one in lit)
    assert np.std([one.mean() for one in lit]) > 0.03
    assert np.std([one[0].mean() - one[2].mean() for one in lit]) > 0.03
    assert min(np.corrcoef(one[1].ravel(), canvas[1].ravel())[0, 1] for one in lit) > 0.8


def test_a_picture_clips_rounds_and_averages() -> None:
    canvas = np.zeros((3, 4, 4), dtype=np.float32)
    canvas[0], canvas[1, :, ::2], canvas[2] = 1.7, 1.0, -0.4
    picture = np.asarray(picture_of(canvas, 2))
    assert picture.shape == (2, 2, 3)
    assert picture[0, 0].tolist() in ([255, 127, 0], [255, 128, 0])
