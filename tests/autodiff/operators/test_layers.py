"""Convolutions, activations, dropout and what needs no replacement, twice differentiated."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from ppfsl import autodiff
from ppfsl.autodiff import twice_differentiable_operators
from tests.autodiff.operators.arrays import MAPS, VECTORS

RNG = np.random.default_rng(1)


@pytest.mark.parametrize("axes", [(0, -1), (1, -1), (1, 2), (-2, 3), (2, 2)])
def test_flatten(check_operator, axes):
    check_operator(lambda x: autodiff.flatten(x, *axes), lambda x: x.flatten(*axes), MAPS)


def test_flatten_of_a_number_and_of_nothing():
    assert autodiff.flatten(paddle.to_tensor(2.0)).shape == [1]
    assert autodiff.flatten(paddle.zeros([0, 3, 2]), 1).shape == [0, 6]


CONVOLUTIONS = [
    ((4, 4, 3, 3), {}),
    ((3, 4, 3, 3), {"stride": 2, "padding": 1}),
    ((3, 4, 1, 1), {}),
    ((4, 2, 3, 2), {"groups": 2, "dilation": 2}),
    ((4, 1, 3, 3), {"groups": 4, "padding": "SAME"}),
    ((8, 1, 3, 3), {"groups": 4, "stride": 2}),
]


@pytest.mark.parametrize(("shape", "options"), CONVOLUTIONS)
def test_convolutions(check_in_context, shape, options):
    """The trap is among these: only the weight requested."""
    bias = RNG.normal(size=shape[0])
    check_in_context(lambda x, w, b: F.conv2d(x, w, b, **options), MAPS, RNG.normal(size=shape), bias)


def test_convolutions_of_other_dimensions(check_in_context):
    check_in_context(F.conv1d, MAPS[:, :, 0], RNG.normal(size=(3, 4, 3)))
    check_in_context(lambda x, w: F.conv1d(x, w, groups=4), MAPS[:, :, 0], RNG.normal(size=(4, 1, 3)))
    check_in_context(F.conv3d, RNG.normal(size=(1, 2, 4, 4, 4)), RNG.normal(size=(2, 2, 3, 3, 3)))


def test_infinite_weights_do_not_spoil_other_channels():
    weight = paddle.ones([2, 1, 1, 1], dtype="float64")
    weight[0] = np.inf
    weight.stop_gradient = False
    with twice_differentiable_operators():
        y = F.conv2d(paddle.ones([1, 1, 2, 2], dtype="float64"), weight)
    assert y.numpy()[0, 1].tolist() == [[1, 1], [1, 1]]


ACTIVATIONS = [
    "relu",
    "leaky_relu",
    "elu",
    "celu",
    "silu",
    "softplus",
    "sigmoid",
    "tanh",
    "swish",
    "relu6",
    "hardsigmoid",
    "hardswish",
]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(check_in_context, name):
    check_in_context(getattr(F, name), VECTORS * 4, exact=1e-7 if name == "hardsigmoid" else 1e-12)


@pytest.mark.parametrize("name", ["relu", "relu6", "hardsigmoid", "hardswish"])
def test_slopes_at_the_kinks_are_paddles(name):
    slopes = []
    for context in (twice_differentiable_operators, paddle.enable_grad):
        x = paddle.to_tensor([-3.0, 0.0, 3.0, 6.0], dtype="float64", stop_gradient=False)
        with context():
            y = getattr(F, name)(x)
        slopes.append(paddle.grad([y], [x])[0].numpy())
    np.testing.assert_allclose(*slopes, atol=1e-6)


def test_linear_algebra_needs_nothing(check_in_context):
    check_in_context(F.linear, VECTORS, RNG.normal(size=(6, 3)), RNG.normal(size=3))
    check_in_context(paddle.matmul, VECTORS, RNG.normal(size=(6, 3)))
    check_in_context(lambda x, y: F.cosine_similarity(x, y, axis=-1), VECTORS, VECTORS[::-1].copy())


def test_dropout_is_a_function_of_its_generator(check_operator):
    draws = [np.random.default_rng(5) for _ in range(2)]
    x = paddle.ones([200, 100], dtype="float64")
    paddle.seed(1)
    before = paddle.get_rng_state()[0].current_seed()
    first, second = (autodiff.dropout(x, 0.3, draw).numpy() for draw in draws)
    np.testing.assert_array_equal(first, second)
    assert set(np.unique(first)) == {0.0, 1 / 0.7}
    assert abs((first == 0).mean() - 0.3) < 0.01
    assert not autodiff.dropout(x, 1.0, draws[0]).numpy().any()
    assert paddle.get_rng_state()[0].current_seed() == before
    mask = paddle.to_tensor((np.random.default_rng(6).random(VECTORS.shape) >= 0.5) * 2.0)
    check_operator(lambda x: autodiff.dropout(x, 0.5, np.random.default_rng(6)), lambda x: x * mask, VECTORS)


@pytest.mark.parametrize("mode", ["upscale_in_train", "downscale_in_infer"])
@pytest.mark.parametrize("training", [True, False])
def test_dropout_in_the_context_draws_what_paddle_draws(check_in_context, mode, training):
    def seeded(x):
        paddle.seed(3)
        return F.dropout(x, 0.4, training=training, mode=mode)

    check_in_context(seeded, VECTORS)
