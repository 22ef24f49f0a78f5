"""Pooling, twice differentiated, also where maxima are equal."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from ppfsl import autodiff
from ppfsl.autodiff import twice_differentiable_operators
from tests.autodiff.operators.arrays import MAPS

EQUAL = np.repeat(np.random.default_rng(1).normal(size=(2, 1, 1, 1)), 4 * 6 * 6).reshape(2, 4, 6, 6)

POOLINGS = [
    (2, None, 0, False),
    (3, 2, 1, False),
    (3, 2, 0, True),
    (3, 1, 1, False),
    ((3, 2), (2, 1), (1, 0), False),
    (2, 2, 0, True),
]


@pytest.mark.parametrize("setting", POOLINGS)
def test_max_pooling(check_operator, setting):
    kernel, stride, padding, ceil_mode = setting
    check_operator(
        lambda x: autodiff.max_pool2d(x, *setting),
        lambda x: F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil_mode),
        MAPS,
    )


def test_max_pooling_of_equals_sends_the_gradient_where_paddle_does():
    for setting in POOLINGS:
        kernel, stride, padding, ceil_mode = setting
        gradients = []
        for pool in (
            lambda x, s=setting: autodiff.max_pool2d(x, *s),
            lambda x, k=kernel, s=stride, p=padding, c=ceil_mode: F.max_pool2d(x, k, s, p, ceil_mode=c),
        ):
            x = paddle.to_tensor(np.round(EQUAL), stop_gradient=False)
            y = pool(x)
            gradients.append(
                paddle.grad([y], [x], [paddle.arange(y.size, dtype="float64").reshape(y.shape)])[0].numpy()
            )
        np.testing.assert_array_equal(*gradients)


def test_max_pooling_of_nan_is_what_paddle_makes_of_it():
    x = paddle.to_tensor([[[[np.nan, np.nan, 1, 2], [np.nan, np.nan, 0, 3]]]], dtype="float64", stop_gradient=False)
    np.testing.assert_array_equal(autodiff.max_pool2d(x, 2).numpy(), F.max_pool2d(x, 2).numpy())
    assert np.isfinite(paddle.grad([autodiff.max_pool2d(x, 2).sum()], [x])[0].numpy()).all()


def test_other_poolings_in_the_context(check_in_context):
    check_in_context(lambda x: F.max_pool2d(x, 2, padding="VALID"), MAPS)
    check_in_context(lambda x: F.max_pool2d(x, 2, data_format="NHWC"), MAPS)
    check_in_context(lambda x: F.max_pool2d(x, 2, return_mask=True)[0], MAPS)
    check_in_context(lambda x: F.max_pool2d(x, 2, padding="SAME"), MAPS)
    check_in_context(lambda x: F.max_pool2d(x, 3, 2, padding="SAME"), MAPS)
    check_in_context(lambda x: F.max_pool2d(x, (2, 3), (1, 2), padding="SAME"), MAPS)
    check_in_context(lambda x: F.max_pool2d(x, 3, 2, padding=[1, 0, 0, 1]), MAPS)
    check_in_context(lambda x: F.max_pool2d(x, 3, 2, padding=[0, 1, 1, 0], ceil_mode=True), MAPS)
    check_in_context(lambda x: F.max_pool2d(x, 2, padding="SAME", data_format="NHWC"), MAPS)
    check_in_context(lambda x: F.max_pool1d(x, 2), MAPS[:, :, 0])
    check_in_context(lambda x: F.adaptive_max_pool2d(x, 2), MAPS)
    check_in_context(lambda x: F.adaptive_avg_pool2d(x, 1), MAPS)
    check_in_context(lambda x: F.adaptive_avg_pool2d(x, [3, 2]), MAPS)
    check_in_context(lambda x: F.avg_pool2d(x, 3, 2, 1), MAPS)


def test_the_mask_of_max_pooling_is_paddles():
    x = paddle.to_tensor(MAPS, stop_gradient=False)
    expected = F.max_pool2d(x, 3, 2, 1, return_mask=True)[1].numpy()
    with twice_differentiable_operators():
        np.testing.assert_array_equal(F.max_pool2d(x, 3, 2, 1, return_mask=True)[1].numpy(), expected)
