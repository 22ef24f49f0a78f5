"""Max pooling by oneDNN, on whole numbers, of which many are equal and whose sums are exact."""

import itertools

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ppfsl.onednn import fast_operators
from ppfsl.onednn.pooling import Window, max_pooling

ONE = {"max_pooling": 1}


def draw(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-3, 3, shape).astype(np.float32)


def plain(window: Window, maps: np.ndarray, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Output and gradient, which the first of the greatest gets, row by row."""
    (above, left), (high, wide) = window.padding, window.kernel
    output, of_maps = np.empty(window.output), np.zeros(window.maps)
    for n, c, i, j in np.ndindex(*window.output):
        top, start = i * window.stride[0] - above, j * window.stride[1] - left
        rows = range(max(top, 0), min(top + high, window.maps[2]))
        columns = range(max(start, 0), min(start + wide, window.maps[3]))
        places = itertools.product([n], [c], rows, columns)
        best = max(places, key=lambda place: maps[place])  # the first, where several are greatest
        output[n, c, i, j] = maps[best]
        of_maps[best] += gradient[n, c, i, j]
    return output, of_maps


def differentiated(function, maps: np.ndarray, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    leaf = paddle.to_tensor(maps, stop_gradient=False)
    output = function(leaf)
    return output.numpy(), paddle.grad([output], [leaf], [paddle.to_tensor(gradient)])[0].numpy()


def assert_right(window: Window, seed: int = 0) -> None:
    maps, gradient = draw(window.maps, seed), draw(window.output, seed + 1)
    found = differentiated(lambda leaf: max_pooling(leaf, window), maps, gradient)
    own = differentiated(lambda leaf: F.max_pool2d(leaf, *window[1:]), maps, gradient)
    for mine, theirs, expected in zip(found, own, plain(window, maps, gradient), strict=True):
        np.testing.assert_array_equal(mine, expected)
        np.testing.assert_array_equal(mine, theirs)


WINDOWS = {
    "halves": Window((2, 3, 6, 8), (2, 2), (2, 2), (0, 0)),
    "does not divide the size": Window((2, 5, 7, 9), (2, 2), (2, 2), (0, 0)),
    "overlapping": Window((2, 16, 7, 6), (3, 3), (2, 2), (0, 0)),
    "overlapping with padding": Window((2, 4, 8, 7), (3, 3), (2, 2), (1, 1)),
    "every place": Window((1, 2, 5, 5), (3, 3), (1, 1), (1, 1)),
    "not square": Window((2, 3, 9, 5), (4, 2), (1, 3), (2, 0)),
    "gaps": Window((2, 3, 9, 9), (1, 2), (3, 4), (0, 0)),
    "whole map": Window((3, 4, 5, 6), (5, 6), (5, 6), (0, 0)),
    "more places than a byte counts": Window((2, 3, 17, 18), (17, 17), (1, 1), (0, 0)),
    "one pixel": Window((3, 4, 1, 1), (1, 1), (1, 1), (0, 0)),
    "one channel": Window((1, 1, 4, 4), (2, 2), (2, 2), (1, 1)),
    "many channels": Window((2, 70, 4, 4), (2, 2), (2, 2), (0, 0)),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_output_and_gradient_equal_plain_loops_and_paddles(name):
    assert_right(WINDOWS[name])


@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 4), st.integers(1, 7), st.integers(1, 7)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    seed=st.integers(0, 9),
)
def test_any_window_equals_plain_loops_and_paddles(shape, kernel, stride, padding, seed):
    window = Window(shape, kernel, stride, padding)
    assume(min(window.output) > 0 and padding[0] < kernel[0] and padding[1] < kernel[1])
    assert_right(window, seed)


def test_first_of_equal_numbers_gets_the_gradient():
    window = Window((1, 1, 2, 4), (2, 2), (2, 2), (0, 0))
    maps = np.array([[[[1, 1, 0, 2], [1, 1, 2, 2]]]], np.float32)
    _, gradient = differentiated(lambda x: max_pooling(x, window), maps, np.array([[[[5, 7]]]], np.float32))
    assert gradient.tolist() == [[[[5, 0, 0, 7], [0, 0, 0, 0]]]]


@pytest.mark.parametrize("lowest", [-1e30, -np.inf])
def test_padding_is_lower_than_every_number(lowest):
    maps = paddle.full([1, 2, 3, 3], lowest)
    pooled = max_pooling(maps, Window((1, 2, 3, 3), (3, 3), (2, 2), (1, 1)))
    if np.isfinite(lowest):
        assert (pooled == lowest).all()
    else:  # what Paddle makes of windows without a number
        np.testing.assert_array_equal(pooled.numpy(), F.max_pool2d(maps, 3, 2, 1).numpy())


def test_any_layout(check, laid_out):
    maps = np.random.default_rng(0).permutation(2 * 4 * 7 * 6).reshape(2, 4, 7, 6)
    check(lambda x: F.max_pool2d(x, 3, 2, 1), laid_out(maps), expected=ONE)


def test_every_call_remembers_its_own_places():
    window = WINDOWS["overlapping with padding"]
    arrays = [(draw(window.maps, seed), draw(window.output, seed + 10)) for seed in range(3)]
    leaves = [paddle.to_tensor(maps, stop_gradient=False) for maps, _ in arrays]
    outputs = [max_pooling(leaf, window) for leaf in leaves]
    for leaf, output, (maps, gradient) in reversed(list(zip(leaves, outputs, arrays, strict=True))):
        for _ in range(2):
            found = paddle.grad([output], [leaf], [paddle.to_tensor(gradient)], retain_graph=True)[0].numpy()
            np.testing.assert_array_equal(found, plain(window, maps, gradient)[1])


def test_maps_may_change_after_the_forward_pass():
    window = WINDOWS["overlapping"]
    maps, gradient = draw(window.maps), draw(window.output)
    leaf = paddle.to_tensor(maps, stop_gradient=False)
    output = max_pooling(leaf, window)
    with paddle.no_grad():
        leaf.add_(paddle.ones_like(leaf))
    np.testing.assert_array_equal(output.numpy(), plain(window, maps, gradient)[0])
    found = paddle.grad([output], [leaf], [paddle.to_tensor(gradient)])[0].numpy()
    np.testing.assert_array_equal(found, plain(window, maps, gradient)[1])


def test_frozen_maps_have_no_graph(calls):
    with fast_operators():
        assert F.max_pool2d(paddle.to_tensor(draw((2, 3, 4, 4))), 2).stop_gradient
    assert calls == ONE


def test_paddles_default_type_does_not_matter(default_dtype):
    assert paddle.empty([1]).dtype == getattr(paddle, default_dtype)
    assert_right(WINDOWS["overlapping"])
