"""Pointwise functions and sums of maps whose channels come last."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from ppfsl.onednn import fast_operators
from ppfsl.onednn.layout import has_channels_last
from tests.onednn.native.maps import MAPS, WEIGHT, float32

RNG = np.random.default_rng(1)


def in_layout(function, *others: np.ndarray):
    """The function of a convolution's output."""

    def call(x, w, *more):
        maps = F.conv2d(x, w, padding=1)
        assert has_channels_last(maps) == (maps.dtype == paddle.float32)
        return function(maps, *more)

    return call, (MAPS, WEIGHT * 2, *others)


KEEPING = {
    "ReLU": in_layout(F.relu),
    "leaky ReLU": in_layout(lambda x: F.leaky_relu(x, 0.3)),
    "leaky ReLU by keyword": in_layout(lambda x: F.leaky_relu(x, negative_slope=0.3)),
    "relu6": in_layout(F.relu6),
    "hard swish": in_layout(F.hardswish),
    "sum with rows": in_layout(paddle.add, RNG.normal(size=MAPS.shape)),
    "sum by keyword": in_layout(lambda x, y: paddle.add(x=x, y=y), RNG.normal(size=MAPS.shape)),
    "sum with itself": in_layout(lambda x: paddle.add(x, x)),
    "sum with its own ReLU": in_layout(lambda x: paddle.add(F.relu(x), x)),
}


@pytest.mark.parametrize("name", KEEPING)
def test_pointwise_functions_keep_channels_last(check, name):
    function, arrays = KEEPING[name]
    assert has_channels_last(check(function, *arrays, expected={"convolution": 1}))


@pytest.mark.parametrize("function", [F.relu, F.leaky_relu, F.relu6, F.hardswish, lambda x: paddle.add(x, x)])
def test_pointwise_functions_leave_rows_as_they_are(function):
    with fast_operators():
        assert function(float32(MAPS)).is_contiguous()


SUMS = {
    "channels": in_layout(paddle.add, RNG.normal(size=(4, 1, 1))),
    "batch": in_layout(paddle.add, RNG.normal(size=(2, 1, 1, 1))),
    "pixels": in_layout(paddle.add, RNG.normal(size=(7, 6))),
    "one number": in_layout(paddle.add, RNG.normal(size=())),
    "one number of four dimensions": in_layout(paddle.add, RNG.normal(size=(1, 1, 1, 1))),
    "the other broadcast": in_layout(lambda x, y: paddle.add(y, x), RNG.normal(size=(4, 1, 1))),
    "both broadcast": in_layout(lambda x, y: paddle.add(x[:1], y), RNG.normal(size=(3, 1, 7, 6))),
    "number": in_layout(lambda x: paddle.add(x, paddle.to_tensor(2.5, x.dtype))),
    "operator with number": in_layout(lambda x: 1.5 + x + 2.5),
    "operator": in_layout(lambda x, y: y + x + y, RNG.normal(size=MAPS.shape)),
    "rows first": in_layout(lambda x, y: paddle.add(y, x), RNG.normal(size=MAPS.shape)),
    "in place": in_layout(lambda x, y: x.add_(y), RNG.normal(size=MAPS.shape)),
}


@pytest.mark.parametrize("name", SUMS)
def test_sums_are_right(check, name):
    function, arrays = SUMS[name]
    check(function, *arrays, expected={"convolution": 1})


@pytest.mark.parametrize(
    "function", [F.relu_, lambda x: F.relu(x[:, 1:]), lambda x: F.relu(x[1:]), lambda x: F.relu(x.T)]
)
def test_pointwise_functions_of_changed_maps_are_right(check, function):
    call, arrays = in_layout(function)
    check(call, *arrays, expected={"convolution": 1})
