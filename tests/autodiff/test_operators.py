import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn

from ppfsl import autodiff
from ppfsl.autodiff import twice_differentiable_operators

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(4, 6))
MAPS = RNG.normal(size=(2, 4, 7, 6))
LABELS = paddle.to_tensor([0, 5, 2, 2])
EQUAL = np.repeat(RNG.normal(size=(2, 1, 1, 1)), 4 * 6 * 6).reshape(2, 4, 6, 6)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(check_operator, name, axis):
    ours, native = getattr(autodiff, name), getattr(F, name)
    check_operator(lambda x: ours(x, axis), lambda x: native(x, axis), VECTORS)
    check_operator(lambda x: ours(x, axis), lambda x: native(x, axis), VECTORS + 800)


@pytest.mark.parametrize("axis", [0, 1, None, [0, 1]])
@pytest.mark.parametrize("keepdim", [False, True])
def test_logsumexp(check_operator, axis, keepdim):
    arguments = {"axis": axis, "keepdim": keepdim}
    check_operator(lambda x: autodiff.logsumexp(x, **arguments), lambda x: paddle.logsumexp(x, **arguments), VECTORS)


def test_scores_of_minus_infinity_get_no_probability():
    x = paddle.to_tensor([[0.0, -np.inf, 1.0], [-np.inf] * 3], stop_gradient=False)
    assert autodiff.softmax(x)[0, 1].item() == 0.0
    assert autodiff.logsumexp(x, 1).numpy().tolist()[1] == -np.inf


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("ignore_index", [-100, 2])
def test_cross_entropy(check_operator, reduction, ignore_index):
    arguments = {"reduction": reduction, "ignore_index": ignore_index}
    check_operator(
        lambda x: autodiff.cross_entropy(x, LABELS, **arguments),
        lambda x: F.cross_entropy(x, LABELS, **arguments),
        VECTORS,
    )


def test_cross_entropy_of_maps(check_operator):
    labels = paddle.to_tensor(RNG.integers(0, 4, (2, 7, 6)))
    check_operator(
        lambda x: autodiff.cross_entropy(x, labels, axis=1), lambda x: F.cross_entropy(x, labels, axis=1), MAPS
    )


@pytest.mark.parametrize("options", [{}, {"reduction": "none"}, {"ignore_index": 2}])
@pytest.mark.parametrize("column", [False, True])
def test_paddles_cross_entropy_in_the_context(check_in_context, options, column):
    labels = LABELS.reshape([-1, 1]) if column else LABELS
    check_in_context(lambda x: F.cross_entropy(x, labels, **options), VECTORS)


def test_smoothed_labels_in_the_context(check_in_context):
    # Paddle smooths labels in float32, hence to a sum that is not quite one.
    check_in_context(lambda x: F.cross_entropy(x, LABELS, label_smoothing=0.1), VECTORS, exact=1e-7)


def test_other_losses_in_the_context(check_in_context):
    soft = paddle.to_tensor(RNG.dirichlet(np.ones(6), 4))
    weight = paddle.to_tensor(RNG.uniform(0.5, 2, 6))
    check_in_context(lambda x: F.cross_entropy(x, soft, soft_label=True), VECTORS)
    check_in_context(lambda x: F.cross_entropy(x, LABELS, weight=weight), VECTORS)
    check_in_context(lambda x: F.cross_entropy(F.softmax(x), LABELS, use_softmax=False), VECTORS)
    check_in_context(lambda x: F.nll_loss(F.log_softmax(x), LABELS), VECTORS)
    check_in_context(lambda x: F.nll_loss(F.log_softmax(x), LABELS, weight), VECTORS)
    check_in_context(lambda x: F.binary_cross_entropy_with_logits(x, soft), VECTORS * 10)
    check_in_context(lambda x: F.mse_loss(x, soft), VECTORS)


def test_nll_loss(check_operator):
    weight = paddle.to_tensor(RNG.uniform(0.5, 2, 6))
    for reduction in ("mean", "sum", "none"):
        check_operator(
            lambda x, r=reduction: autodiff.nll_loss(x, LABELS, weight, reduction=r)[0],
            lambda x, r=reduction: F.nll_loss(x, LABELS, weight, reduction=r),
            VECTORS,
        )


def test_ignored_labels_of_nll_loss(check_operator):
    """Paddle's own spoils the heap here, so that cross-entropy is the reference."""
    weight = paddle.to_tensor(RNG.uniform(0.5, 2, 6))
    counted = np.asarray([1.0, 1.0, 0.0, 0.0])
    for reduction in ("mean", "sum", "none"):

        def reference(x, reduction=reduction):
            weights = paddle.to_tensor(weight.numpy()[LABELS.numpy()] * counted)
            losses = F.cross_entropy(x, LABELS, reduction="none") * weights
            return {"mean": losses.sum() / weights.sum(), "sum": losses.sum(), "none": losses}[reduction]

        check_operator(
            lambda x, r=reduction: autodiff.nll_loss(autodiff.log_softmax(x), LABELS, weight, 2, r)[0],
            reference,
            VECTORS,
        )


@pytest.mark.parametrize("axes", [(0, -1), (1, -1), (1, 2), (-2, 3), (2, 2)])
def test_flatten(check_operator, axes):
    check_operator(lambda x: autodiff.flatten(x, *axes), lambda x: x.flatten(*axes), MAPS)


def test_flatten_of_a_number_and_of_nothing():
    assert autodiff.flatten(paddle.to_tensor(2.0)).shape == [1]
    assert autodiff.flatten(paddle.zeros([0, 3, 2]), 1).shape == [0, 6]


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
    weight, bias = RNG.uniform(0.5, 1.5, 6), RNG.normal(size=6)
    check_operator(
        lambda x, w, b: autodiff.layer_norm(x, 6, w, b), lambda x, w, b: F.layer_norm(x, 6, w, b), MAPS, weight, bias
    )
    check_operator(lambda x: autodiff.layer_norm(x, [7, 6]), lambda x: F.layer_norm(x, [7, 6]), MAPS)
    check_operator(
        lambda x, w, b: autodiff.group_norm(x, 2, w, b),
        lambda x, w, b: F.group_norm(x, 2, weight=w, bias=b),
        MAPS,
        WEIGHT,
        BIAS,
    )
    check_operator(
        lambda x, w, b: autodiff.instance_norm(x, w, b),
        lambda x, w, b: F.instance_norm(x, weight=w, bias=b),
        MAPS,
        WEIGHT,
        BIAS,
    )
    check_in_context(lambda x, w, b: F.layer_norm(x, [7, 6], w, b), MAPS, MAPS[0, 0].ravel(), MAPS[1, 1].ravel())
    check_in_context(lambda x, w, b: F.instance_norm(x, weight=w, bias=b), MAPS, WEIGHT, BIAS)
    check_in_context(
        lambda x, w, b: F.group_norm(x, 2, weight=w, bias=b, data_format="NHWC"),
        MAPS.transpose(0, 2, 3, 1),
        WEIGHT,
        BIAS,
    )


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
