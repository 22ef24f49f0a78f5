"""Convolutions by oneDNN against plain loops in float64."""

import itertools

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from paddle import nn

from ppfsl.onednn import convolution as onednn_convolution
from ppfsl.onednn import fast_operators
from ppfsl.onednn.convolution import Geometry, convolution

MAPS = np.random.default_rng(0).normal(size=(2, 4, 7, 6))
ONE = {"convolution": 1}


def draw(geometry: Geometry, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps, weight, and the gradient of the output."""
    chance = np.random.default_rng(seed)
    shapes = (geometry.maps, geometry.weight, geometry.output)
    return tuple(chance.normal(size=shape).astype(np.float32) for shape in shapes)  # type: ignore[return-value]


def plain(geometry: Geometry, maps: np.ndarray, weight: np.ndarray, gradient: np.ndarray) -> dict[str, np.ndarray]:
    """Output and gradients, an output's pixel at a time."""
    (above, left), (high, wide), groups = geometry.padding, geometry.weight[2:], geometry.groups
    maps, weight, gradient = (array.astype(np.float64) for array in (maps, weight, gradient))
    padded = np.pad(maps, ((0, 0), (0, 0), (above, above), (left, left)))
    output, of_padded, of_weight = np.zeros(geometry.output), np.zeros_like(padded), np.zeros_like(weight)
    inputs, outputs = maps.shape[1] // groups, weight.shape[0] // groups
    for i, j, group in itertools.product(*map(range, geometry.output[2:]), range(groups)):
        rows = i * geometry.stride[0] + geometry.dilation[0] * np.arange(high)
        columns = j * geometry.stride[1] + geometry.dilation[1] * np.arange(wide)
        before, after = range(group * inputs, (group + 1) * inputs), range(group * outputs, (group + 1) * outputs)
        place = np.ix_(range(len(maps)), before, rows, columns)
        output[:, after, i, j] = np.einsum("nchw,ochw->no", padded[place], weight[after])
        of_padded[place] += np.einsum("no,ochw->nchw", gradient[:, after, i, j], weight[after])
        of_weight[after] += np.einsum("no,nchw->ochw", gradient[:, after, i, j], padded[place])
    of_maps = of_padded[:, :, above : above + maps.shape[2], left : left + maps.shape[3]]
    return {"output": output, "gradient of maps": of_maps, "gradient of weight": of_weight}


def by_onednn(geometry: Geometry, maps: np.ndarray, weight: np.ndarray, gradient: np.ndarray) -> dict[str, np.ndarray]:
    tensors = [paddle.to_tensor(array, stop_gradient=False) for array in (maps, weight)]
    output = convolution(*tensors, geometry)
    gradients = paddle.grad([output], tensors, [paddle.to_tensor(gradient)])
    names = ("output", "gradient of maps", "gradient of weight")
    return {name: value.numpy() for name, value in zip(names, (output, *gradients), strict=True)}


def geometry_of(maps, weight, stride=1, padding=0, dilation=1, groups=1) -> Geometry:
    pairs = (value if isinstance(value, tuple) else (value, value) for value in (stride, padding, dilation))
    return Geometry(maps, weight, *pairs, groups)


GEOMETRIES = {
    "3 x 3": geometry_of((2, 8, 6, 6), (16, 8, 3, 3), padding=1),
    "one channel": geometry_of((2, 1, 5, 5), (1, 1, 3, 3)),
    "grey images": geometry_of((2, 1, 28, 28), (64, 1, 3, 3), padding=1),
    "RGB images": geometry_of((2, 3, 21, 21), (64, 3, 3, 3), padding=1),
    "batch of 1": geometry_of((1, 16, 7, 7), (16, 16, 3, 3), padding=1),
    "1 x 1": geometry_of((2, 5, 4, 3), (7, 5, 1, 1)),
    "1 x 1 with stride": geometry_of((2, 5, 5, 4), (7, 5, 1, 1), stride=2),
    "the first of a ResNet": geometry_of((2, 3, 17, 17), (8, 3, 7, 7), stride=2, padding=3),
    "not square": geometry_of((2, 3, 9, 4), (5, 3, 4, 2), stride=(3, 1), padding=(2, 0), dilation=(1, 2)),
    "padding on one axis": geometry_of((2, 3, 5, 6), (4, 3, 3, 3), padding=(0, 2)),
    "stride that skips pixels": geometry_of((1, 2, 9, 9), (3, 2, 2, 2), stride=4),
    "dilation": geometry_of((2, 3, 9, 8), (4, 3, 3, 3), dilation=3, padding=2),
    "padding wider than the kernel": geometry_of((1, 2, 3, 3), (3, 2, 2, 2), padding=4),
    "window as large as the map": geometry_of((3, 4, 5, 6), (9, 4, 5, 6)),
    "single pixels": geometry_of((3, 17, 1, 1), (19, 17, 1, 1)),
    "groups": geometry_of((2, 6, 5, 5), (9, 2, 3, 3), groups=3, padding=1),
    "wide groups": geometry_of((2, 32, 4, 4), (32, 16, 3, 3), groups=2, padding=1, stride=2),
    "depthwise": geometry_of((2, 16, 6, 6), (16, 1, 3, 3), groups=16, padding=1),
    "depthwise with odd sizes": geometry_of((1, 5, 7, 4), (5, 1, 3, 2), groups=5, stride=2, padding=1),
    "depthwise with a multiplier": geometry_of((2, 4, 5, 5), (12, 1, 3, 3), groups=4, padding=1),
    "odd channels": geometry_of((2, 13, 5, 5), (11, 13, 3, 3), padding=1),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_output_and_gradients_equal_plain_loops(near, name):
    arrays = draw(GEOMETRIES[name])
    near(by_onednn(GEOMETRIES[name], *arrays), plain(GEOMETRIES[name], *arrays), 3e-6)


PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    count=st.integers(1, 3),
    sides=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    channels=PAIRS,
    groups=st.sampled_from([1, 2, 5]),
    stride=PAIRS,
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=PAIRS,
)
def test_any_geometry_equals_plain_loops(near, count, sides, kernel, channels, groups, stride, padding, dilation):
    inputs, outputs = channels
    maps, weight = (count, inputs * groups, *sides), (outputs * groups, inputs, *kernel)
    geometry = Geometry(maps, weight, stride, padding, dilation, groups)
    assume(min(geometry.output) > 0)
    arrays = draw(geometry)
    near(by_onednn(geometry, *arrays), plain(geometry, *arrays), 3e-6)


def test_any_layout_of_maps(check, laid_out):
    weight = np.random.default_rng(1).normal(size=(3, 4, 3, 2))
    check(lambda x, w: F.conv2d(x, w, stride=2, padding=1), laid_out(MAPS), weight, expected=ONE)


def test_any_layout_of_weights(check, laid_out):
    weight = laid_out(np.random.default_rng(1).normal(size=(3, 4, 3, 2)))
    check(lambda x, w: F.conv2d(x, w, stride=2, padding=1), MAPS, weight, expected=ONE)
    grouped = laid_out(np.random.default_rng(1).normal(size=(6, 2, 3, 2)))
    check(lambda x, w: F.conv2d(x, w, groups=2), MAPS, grouped, expected=ONE)


@pytest.mark.parametrize("options", [{}, {"stride": (2, 1), "dilation": (1, 2), "padding": [2, 1]}])
@pytest.mark.parametrize(
    ("shape", "groups"), [((6, 4, 3, 2), 1), ((6, 2, 3, 2), 2), ((4, 1, 3, 2), 4), ((8, 1, 3, 2), 4)]
)
def test_paddles_function_with_every_argument(check, shape, groups, options):
    """Depthwise convolutions have an operator of their own, with arguments in another order."""
    weight, bias = np.random.default_rng(1).normal(size=shape), np.arange(1.0, shape[0] + 1)
    check(lambda x, w, b: F.conv2d(x, w, b, groups=groups, **options), MAPS, weight, bias, expected=ONE)


def test_gradients_that_lie_in_memory_in_any_way(near, laid_out):
    geometry = geometry_of((2, 3, 6, 5), (4, 3, 3, 2), padding=1)
    maps, weight, gradient = draw(geometry)
    given = laid_out(gradient)
    tensors = [paddle.to_tensor(array, stop_gradient=False) for array in (maps, weight)]
    found = paddle.grad([convolution(*tensors, geometry)], tensors, [given])
    expected = plain(geometry, maps, weight, given.numpy())
    names = ("gradient of maps", "gradient of weight")
    near(
        {name: value.numpy() for name, value in zip(names, found, strict=True)},
        {name: expected[name] for name in names},
        3e-6,
    )


def test_layer_is_used_twice_in_one_graph(check):
    weight = np.random.default_rng(1).normal(size=(4, 4, 3, 3))
    check(lambda x, w: F.conv2d(F.conv2d(x, w, padding=1), w), MAPS, weight, expected={"convolution": 2})


def test_what_is_frozen_costs_no_time_and_gets_no_gradient(monkeypatch):
    geometry = GEOMETRIES["3 x 3"]
    expected = plain(geometry, *draw(geometry))
    for frozen, name in (("maps", "_gradient_of_maps"), ("weight", "_gradient_of_weight")):
        with monkeypatch.context() as patch:
            patch.setattr(onednn_convolution, name, None)
            maps, weight, gradient = map(paddle.to_tensor, draw(geometry))
            maps.stop_gradient, weight.stop_gradient = frozen == "maps", frozen == "weight"
            with fast_operators():
                output = F.conv2d(maps, weight, padding=1)
            output.backward(gradient)
            learning = weight if frozen == "maps" else maps
            of_learning = expected["gradient of weight" if frozen == "maps" else "gradient of maps"]
            np.testing.assert_allclose(learning.grad.numpy(), of_learning, rtol=1e-4, atol=1e-4)
            assert (maps if frozen == "maps" else weight).grad is None


def test_output_of_what_is_frozen_has_no_graph():
    maps, weight, _ = map(paddle.to_tensor, draw(GEOMETRIES["3 x 3"]))
    assert convolution(maps, weight, GEOMETRIES["3 x 3"]).stop_gradient
    weight.stop_gradient = False
    with paddle.no_grad():
        assert convolution(maps, weight, GEOMETRIES["3 x 3"]).stop_gradient


def test_gradients_may_be_taken_again_from_a_graph_that_is_kept():
    layer = nn.Conv2D(4, 3, 3)
    with fast_operators():
        loss = layer(paddle.to_tensor(MAPS.astype(np.float32))).square().sum()
    first, second = (paddle.grad([loss], [layer.weight], retain_graph=True)[0].numpy() for _ in range(2))
    loss.backward()
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, layer.weight.grad.numpy())
    assert first.any()


def test_gradients_add_up_over_several_graphs():
    layer = nn.Conv2D(4, 3, 3)
    for count in (1, 2):
        with fast_operators():
            loss = layer(paddle.to_tensor(MAPS.astype(np.float32))).square().sum()
        loss.backward()
        if count == 1:
            once = layer.weight.grad.numpy().copy()
    np.testing.assert_array_equal(layer.weight.grad.numpy(), 2 * once)


@pytest.mark.parametrize("requested", [0, 1])
def test_gradients_of_some_inputs_alone_are_right_or_refused(near, requested):
    """Paddle's `PyLayer` refuses them, where all inputs are part of the graph."""
    geometry = GEOMETRIES["3 x 3"]
    maps, weight, gradient = draw(geometry)
    tensors = [paddle.to_tensor(array, stop_gradient=False) for array in (maps, weight)]
    output = convolution(*tensors, geometry)
    name = ("gradient of maps", "gradient of weight")[requested]
    try:
        found = paddle.grad([output], [tensors[requested]], [paddle.to_tensor(gradient)])[0].numpy()
    except ValueError as error:
        assert "should return None" in str(error)
    else:
        near({name: found}, {name: plain(geometry, maps, weight, gradient)[name]}, 3e-6)


@pytest.mark.parametrize("changed", ["maps", "weight"])
def test_changing_in_place_what_the_backward_pass_needs_is_refused_as_by_paddle(changed):
    tensors = {"maps": paddle.to_tensor(MAPS.astype(np.float32)), "weight": paddle.ones([3, 4, 3, 3])}
    # Maps whose channels are last already are kept without a copy, as weights are.
    tensors["maps"] = tensors["maps"].transpose([0, 2, 3, 1]).contiguous().transpose([0, 3, 1, 2])
    for tensor in tensors.values():
        tensor.stop_gradient = False
    with fast_operators():
        loss = F.conv2d(*tensors.values()).sum()
    with paddle.no_grad():
        tensors[changed].add_(paddle.ones_like(tensors[changed]))
    with pytest.raises((RuntimeError, OSError), match="changed in place after the forward pass"):
        paddle.grad([loss], list(tensors.values()))


def test_inputs_may_change_or_vanish_once_they_are_not_needed(near):
    geometry = geometry_of((2, 3, 6, 5), (4, 3, 3, 2), padding=1)
    maps, weight, gradient = draw(geometry)
    expected = plain(geometry, maps, weight, gradient)
    tensors = [paddle.to_tensor(array, stop_gradient=False) for array in (maps, weight)]
    output = convolution(*tensors, geometry)
    with paddle.no_grad():
        kept = output.clone()
        tensors[0].set_value(paddle.full_like(tensors[0], float("nan")))  # copied into the other layout
        weight_alone = tensors.pop()
        del tensors
        others = [paddle.full([size], float("nan")) for size in (180, 72, 128) for _ in range(20)]  # on freed memory
        output.add_(paddle.ones_like(output))
    np.testing.assert_array_equal(output.numpy(), kept.numpy() + 1)
    near({"output": kept.numpy()}, {"output": expected["output"]}, 3e-6)
    output.backward(paddle.to_tensor(gradient))
    near({"weight": weight_alone.grad.numpy()}, {"weight": expected["gradient of weight"]}, 3e-6)
    assert len(others) == 60


def test_paddles_default_type_does_not_matter(near, default_dtype):
    assert paddle.empty([1]).dtype == getattr(paddle, default_dtype)
    for geometry in (GEOMETRIES["3 x 3"], GEOMETRIES["RGB images"], GEOMETRIES["depthwise"]):
        arrays = draw(geometry)
        near(by_onednn(geometry, *arrays), plain(geometry, *arrays), 3e-6)
