"""Batch norm by oneDNN against Paddle's, and the running statistics that it keeps."""

from contextlib import nullcontext

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn

from ppfsl.onednn import fast_operators
from ppfsl.onednn.normalization import batch_normalization

RNG = np.random.default_rng(0)
MAPS = RNG.normal(size=(3, 4, 5, 6)) * 2 + np.arange(4).reshape(1, 4, 1, 1)
WEIGHT, BIAS = RNG.uniform(0.5, 1.5, 4), RNG.normal(size=4)
ONE = {"batch_normalization": 1}


def normalised(x, weight, bias, epsilon=2**-10, **options):
    channels = x.shape[1]
    statistics = (paddle.zeros([channels], x.dtype), paddle.ones([channels], x.dtype))
    return F.batch_norm(x, *statistics, weight, bias, training=True, epsilon=epsilon, **options)


@pytest.mark.parametrize(
    "shape", [(3, 4, 5, 6), (1, 3, 4, 4), (2, 1, 3, 3), (5, 7, 1, 1), (2, 33, 4, 3), (16, 64, 2, 2)]
)
def test_output_and_gradients_equal_paddles(check, shape):
    chance = np.random.default_rng(1)
    arrays = (chance.normal(size=shape) + 1, chance.uniform(0.5, 1.5, shape[1]), chance.normal(size=shape[1]))
    check(normalised, *arrays, expected=ONE)


def test_output_equals_the_formula():
    maps, weight, bias = (paddle.to_tensor(array.astype(np.float32)) for array in (MAPS, WEIGHT, BIAS))
    output, mean, variance = batch_normalization(maps, weight, bias, 0.5)
    expected = (MAPS - MAPS.mean((0, 2, 3), keepdims=True)) / np.sqrt(MAPS.var((0, 2, 3), keepdims=True) + 0.5)
    expected = expected * WEIGHT.reshape(1, 4, 1, 1) + BIAS.reshape(1, 4, 1, 1)
    np.testing.assert_allclose(output.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(mean.numpy(), MAPS.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(variance.numpy(), MAPS.var((0, 2, 3)), rtol=1e-5)
    assert mean.stop_gradient
    assert variance.stop_gradient


@pytest.mark.parametrize("epsilon", [1e-5, 0.1])
def test_epsilon_is_heard(check, epsilon):
    check(lambda *tensors: normalised(*tensors, epsilon=epsilon), MAPS * 0.3, WEIGHT, BIAS, expected=ONE)


def test_any_layout(check, laid_out):
    check(normalised, laid_out(MAPS), WEIGHT, BIAS, expected=ONE)


def test_weights_that_are_not_contiguous(check):
    weight, bias = (
        paddle.to_tensor(np.stack([array, array * np.nan], 1).astype(np.float32))[:, 0] for array in (WEIGHT, BIAS)
    )
    assert not weight.is_contiguous()
    check(normalised, MAPS, weight, bias, expected=ONE)


def test_maps_far_from_zero_and_without_any_variance(check):
    check(normalised, MAPS + 100, WEIGHT, BIAS, expected=ONE, tolerance=3e-4)
    with fast_operators():
        flat = normalised(
            paddle.full([2, 4, 3, 3], 7.0), *(paddle.to_tensor(v.astype(np.float32)) for v in (WEIGHT, BIAS))
        )
    np.testing.assert_allclose(flat.numpy()[0, :, 0, 0], BIAS, atol=1e-6)


# --- running statistics


def layers(**options) -> list[nn.BatchNorm2D]:
    return [nn.BatchNorm2D(4, **options) for _ in range(2)]


def statistics(layer: nn.BatchNorm2D) -> list[np.ndarray]:
    return [layer._mean.numpy(), layer._variance.numpy()]


def test_running_statistics_are_paddles(calls):
    own, fast = layers(momentum=0.7)
    mean, variance = np.zeros(4), np.ones(4)
    for scale in (1.0, 2.0, 0.1):
        maps = paddle.to_tensor((MAPS * scale).astype(np.float32))
        own(maps)
        with fast_operators():
            fast(maps)
        mean = 0.7 * mean + 0.3 * (MAPS * scale).mean((0, 2, 3))
        variance = 0.7 * variance + 0.3 * (MAPS * scale).var((0, 2, 3))  # divided by the count
    assert calls == {"batch_normalization": 3}
    for mine, theirs, expected in zip(statistics(fast), statistics(own), (mean, variance), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-6, atol=1e-7)
        np.testing.assert_allclose(mine, expected, rtol=2e-6, atol=1e-7)


def test_running_statistics_stay_the_same_tensors_without_a_graph():
    layer, maps = nn.BatchNorm2D(4), paddle.to_tensor(MAPS.astype(np.float32), stop_gradient=False)
    mean, variance = layer._mean, layer._variance
    with fast_operators():
        layer(maps)
    for kept, now in ((mean, layer._mean), (variance, layer._variance)):
        assert now is kept
        assert now.stop_gradient
        assert len(set(now.tolist())) == 4  # what they began with was one number


def test_running_statistics_change_without_gradients_too():
    own, fast = layers()
    maps = paddle.to_tensor(MAPS.astype(np.float32))
    with paddle.no_grad():
        own(maps)
        with fast_operators():
            assert fast(maps).stop_gradient
    np.testing.assert_allclose(statistics(fast), statistics(own), rtol=2e-6, atol=1e-7)
    assert statistics(fast)[0].any()


@pytest.mark.parametrize(("training", "options"), [(False, {}), (True, {"use_global_stats": True})])
def test_kept_statistics_are_used_by_paddle_and_do_not_change(calls, training, options):
    layer = nn.BatchNorm2D(4, **options)
    layer._mean.set_value(paddle.arange(4, dtype="float32"))
    layer.train() if training else layer.eval()
    before, results = statistics(layer), []
    for context in (nullcontext, fast_operators):
        maps = paddle.to_tensor(MAPS.astype(np.float32), stop_gradient=False)
        with context():
            output = layer(maps)
        results.append((output.numpy(), paddle.grad([output.square().sum()], [maps])[0].numpy()))
    assert not calls
    for own, fast in zip(*results, strict=True):
        np.testing.assert_array_equal(own, fast)
    np.testing.assert_array_equal(statistics(layer), before)


def test_batch_statistics_are_used_in_evaluation_where_that_is_asked_for(calls):
    """Told by `use_global_stats=False`."""
    layer = nn.BatchNorm2D(4, use_global_stats=False)
    layer.eval()
    maps, results = paddle.to_tensor(MAPS.astype(np.float32)), []
    for context in (nullcontext, fast_operators):
        layer._mean.set_value(paddle.zeros([4]))
        with context():
            results.append((layer(maps).numpy(), layer._mean.numpy()))
    for own, fast in zip(*results, strict=True):
        np.testing.assert_allclose(fast, own, rtol=1e-4, atol=1e-5)
    assert calls == ONE


# --- gradients


@pytest.mark.parametrize("frozen", [{0}, {1}, {2}, {0, 1}, {1, 2}, {0, 2}])
def test_what_is_frozen_gets_no_gradient_and_the_rest_is_right(near, frozen):
    gradients = []
    for context, dtype in ((nullcontext, "float64"), (fast_operators, "float32")):
        tensors = [paddle.to_tensor(array.astype(dtype), stop_gradient=False) for array in (MAPS, WEIGHT, BIAS)]
        if context is fast_operators:
            for number in frozen:
                tensors[number].stop_gradient = True
        with context():
            output = normalised(*tensors)
        (output**3).sum().backward()
        gradients.append([tensor.grad for tensor in tensors])
    own, fast = gradients
    assert {number for number in range(3) if fast[number] is None} == frozen
    learning = set(range(3)) - frozen
    near({n: fast[n].numpy() for n in learning}, {n: own[n].numpy() for n in learning}, 5e-6)


def test_gradients_may_be_taken_again_from_a_graph_that_is_kept():
    tensors = [paddle.to_tensor(array.astype(np.float32), stop_gradient=False) for array in (MAPS, WEIGHT, BIAS)]
    with fast_operators():
        loss = (normalised(*tensors) ** 3).sum()
    first, second = (paddle.grad([loss], tensors, retain_graph=True) for _ in range(2))
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
        assert one.numpy().any()


def test_output_may_be_changed_in_place(check):
    check(lambda *tensors: normalised(*tensors).add_(tensors[0]) * tensors[0], MAPS, WEIGHT, BIAS, expected=ONE)


def test_weight_that_is_changed_before_the_backward_pass_is_refused_as_by_paddle():
    tensors = [paddle.to_tensor(array.astype(np.float32), stop_gradient=False) for array in (MAPS, WEIGHT, BIAS)]
    with fast_operators():
        loss = normalised(*tensors).sum()
    with paddle.no_grad():
        tensors[1].add_(tensors[1])
    with pytest.raises((RuntimeError, OSError), match="changed in place after the forward pass"):
        loss.backward()


def test_paddles_default_type_does_not_matter(check, default_dtype):
    assert paddle.empty([1]).dtype == getattr(paddle, default_dtype)
    check(normalised, MAPS, WEIGHT, BIAS, expected=ONE)
    tensors = (paddle.to_tensor(array.astype(np.float32)) for array in (MAPS, WEIGHT, BIAS))
    _, mean, variance = batch_normalization(*tensors, 0.5)
    assert mean.dtype == variance.dtype == paddle.float32
    np.testing.assert_allclose(variance.numpy(), MAPS.var((0, 2, 3)), rtol=1e-5)
