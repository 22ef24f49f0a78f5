"""Lengths, batch norm and the other normalisations, twice differentiated."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn

from ppfsl import autodiff
from ppfsl.autodiff import twice_differentiable_operators
from tests.autodiff.operators.arrays import MAPS, VECTORS

RNG = np.random.default_rng(1)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_lengths(check_operator, axis):
    check_operator(lambda x: autodiff.norm(x, axis), lambda x: paddle.linalg.norm(x, axis=axis), VECTORS)
    check_operator(lambda x: autodiff.normalize(x, axis), lambda x: F.normalize(x, axis=axis), VECTORS)


def test_length_of_all(check_operator):
    check_operator(lambda x: autodiff.norm(x, None), lambda x: paddle.linalg.norm(x), VECTORS)


def test_norms_in_the_context(check_in_context):
    check_in_context(lambda x: F.normalize(x, axis=-1), VECTORS)
    check_in_context(lambda x: F.normalize(x, p=1, axis=0), VECTORS)
    check_in_context(lambda x: x.norm(), VECTORS)
    check_in_context(lambda x: paddle.cdist(x, x * x), VECTORS)


def test_normalisation_of_zero_has_derivatives_like_paddles():
    for shift in (0.0, 1e-20):
        for function in (autodiff.normalize, F.normalize):
            x = paddle.to_tensor([[0.0, 0.0], [3.0, 4.0]], dtype="float64") + shift * paddle.to_tensor([[1.0], [0.0]])
            x.stop_gradient = False
            y = function(x)
            (first,) = paddle.grad([y[0, 0] * 2 + y[1, 1]], [x], create_graph=function is autodiff.normalize)
            np.testing.assert_allclose(first[0].numpy(), [2e12, 0], rtol=1e-9)
            if function is autodiff.normalize:
                (second,) = paddle.grad([first.sum()], [x])
                assert np.isfinite(second.numpy()).all()
                assert not np.any(second.numpy()[0])


EPSILON = 2**-10  # a float32, as which Paddle takes it
WEIGHT, BIAS = RNG.uniform(0.5, 1.5, 4), RNG.normal(size=4)


def _native_batch_norm(training, **options):
    def apply(x, weight=None, bias=None):
        channels = x.shape[-1] if options.get("data_format") == "NHWC" else x.shape[1]
        mean = paddle.arange(channels, dtype="float64") / 10
        variance = paddle.arange(1, channels + 1, dtype="float64")
        return F.batch_norm(x, mean, variance, weight, bias, training, 0.875, EPSILON, **options)

    return apply


def _our_batch_norm(training, channel_last=False):
    def apply(x, weight=None, bias=None):
        channels = x.shape[-1] if channel_last else x.shape[1]
        mean = paddle.arange(channels, dtype="float64") / 10
        variance = paddle.arange(1, channels + 1, dtype="float64")
        return autodiff.batch_norm(x, mean, variance, weight, bias, training, 0.875, EPSILON, channel_last)[0]

    return apply


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(2, 4, 7, 6), (9, 4), (5, 4, 3), (2, 4, 2, 3, 2)])
def test_batch_norm(check_operator, training, shape):
    x = RNG.normal(size=shape) + 3
    native = _native_batch_norm(training, data_format={2: "NC", 3: "NCL", 4: "NCHW", 5: "NCDHW"}[len(shape)])
    check_operator(_our_batch_norm(training), native, x, WEIGHT, BIAS)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_with_channels_last_and_without_weights(check_operator, check_in_context, training):
    native = _native_batch_norm(training, data_format="NHWC")
    x = MAPS.transpose(0, 2, 3, 1)
    check_operator(_our_batch_norm(training, channel_last=True), native, x, WEIGHT, BIAS)
    check_in_context(native, x, WEIGHT, BIAS)
    check_operator(_our_batch_norm(training), _native_batch_norm(training), MAPS)
    # Paddle's own gives the weight no gradient unless the bias gets one.
    without = _our_batch_norm(training)
    with_zeros = _native_batch_norm(training)
    check_operator(lambda x, w: without(x, w), lambda x, w: with_zeros(x, w, w * 0), MAPS, WEIGHT)


def test_batch_norm_returns_the_running_statistics_that_paddles_layer_keeps():
    layer = nn.BatchNorm2D(4).to(dtype="float64")
    mean, variance = layer._mean.clone(), layer._variance.clone()
    x = paddle.to_tensor(MAPS)
    for _ in range(3):
        layer(x)
        before = mean.clone()
        _, new_mean, new_variance = autodiff.batch_norm(x, mean, variance)
        np.testing.assert_array_equal(mean.numpy(), before.numpy())
        mean, variance = new_mean, new_variance
    np.testing.assert_allclose(mean.numpy(), layer._mean.numpy(), rtol=1e-6)
    np.testing.assert_allclose(variance.numpy(), layer._variance.numpy(), rtol=1e-6)
    # Nine tenths of the old value stay.
    np.testing.assert_allclose(mean.numpy(), (1 - 0.9**3) * MAPS.mean((0, 2, 3)), rtol=1e-6)
    kept = autodiff.batch_norm(x, mean, variance, training=False)[1:]
    assert kept[0] is mean
    assert kept[1] is variance


def test_batch_norm_in_the_context_keeps_paddles_running_statistics():
    x = paddle.to_tensor(MAPS)
    layers = [nn.BatchNorm2D(4).to(dtype="float64") for _ in range(2)]
    layers[0](x)
    with twice_differentiable_operators():
        layers[1](x)
    np.testing.assert_allclose(layers[0]._mean.numpy(), layers[1]._mean.numpy(), rtol=1e-6)
    np.testing.assert_allclose(layers[0]._variance.numpy(), layers[1]._variance.numpy(), rtol=1e-6)
    assert layers[1]._mean.stop_gradient


def test_batch_norm_is_exact_in_float32_far_from_zero():
    x = (MAPS + 1000).astype(np.float32)
    arguments = (paddle.zeros([4]), paddle.ones([4]))
    expected = F.batch_norm(paddle.to_tensor(x), *arguments, training=True).numpy()
    np.testing.assert_allclose(autodiff.batch_norm(paddle.to_tensor(x), *arguments)[0].numpy(), expected, atol=2e-3)


def test_other_normalisations(check_operator, check_in_context):
    exact = 1e-11  # rounding of means of many numbers
    weight, bias = RNG.uniform(0.5, 1.5, 6), RNG.normal(size=6)
    check_operator(
        lambda x, w, b: autodiff.layer_norm(x, 6, w, b),
        lambda x, w, b: F.layer_norm(x, 6, w, b),
        MAPS,
        weight,
        bias,
        exact=exact,
    )
    check_operator(lambda x: autodiff.layer_norm(x, [7, 6]), lambda x: F.layer_norm(x, [7, 6]), MAPS, exact=exact)
    check_operator(
        lambda x, w, b: autodiff.group_norm(x, 2, w, b),
        lambda x, w, b: F.group_norm(x, 2, weight=w, bias=b),
        MAPS,
        WEIGHT,
        BIAS,
        exact=exact,
    )
    check_operator(
        lambda x, w, b: autodiff.instance_norm(x, w, b),
        lambda x, w, b: F.instance_norm(x, weight=w, bias=b),
        MAPS,
        WEIGHT,
        BIAS,
        exact=exact,
    )
    check_in_context(lambda x, w, b: F.layer_norm(x, [7, 6], w, b), MAPS, MAPS[0, 0].ravel(), MAPS[1, 1].ravel())
    check_in_context(lambda x, w, b: F.instance_norm(x, weight=w, bias=b), MAPS, WEIGHT, BIAS)
    check_in_context(
        lambda x, w, b: F.group_norm(x, 2, weight=w, bias=b, data_format="NHWC"),
        MAPS.transpose(0, 2, 3, 1),
        WEIGHT,
        BIAS,
    )
