"""Paddle's operators within the context: what oneDNN computes, what stays Paddle's, and whole networks."""

import threading
from contextlib import ExitStack, nullcontext

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import _C_ops, nn
from paddle.nn.functional import conv2d, max_pool2d

from ppfsl.autodiff import grad, twice_differentiable_operators
from ppfsl.backbones.conv4 import Conv4
from ppfsl.backbones.embedder import initialize
from ppfsl.backbones.koch import Koch
from ppfsl.backbones.mobilenet_v1 import MobileNetV1
from ppfsl.backbones.resnet12 import ResNet12
from ppfsl.backbones.resnet18 import ResNet18
from ppfsl.onednn import convolution, fast_operators
from ppfsl.onednn.layout import has_channels_last

RNG = np.random.default_rng(0)
MAPS = RNG.normal(size=(2, 4, 7, 6))
WEIGHT = RNG.normal(size=(4, 4, 3, 3))
VECTOR = RNG.uniform(0.5, 1.5, 4)


def float32(array: np.ndarray, learning: bool = True) -> paddle.Tensor:
    return paddle.to_tensor(array.astype(np.float32), stop_gradient=not learning)


def normalised(x, weight, bias, **options):
    channels = weight.shape[0]
    statistics = (paddle.zeros([channels], weight.dtype), paddle.ones([channels], weight.dtype))
    return F.batch_norm(x, *statistics, weight, bias, training=True, **options)


def pooled(x, whole=False, adaptive=False):
    """With settings that Paddle's functions leave alone."""
    return _C_ops.pool2d(x, [3, 2], [1, 1], [0, 0], False, True, "NCHW", "max", whole, adaptive, "EXPLICIT")


# --- what stays Paddle's


FALLBACKS = {
    "convolution, SAME": (lambda x, w: F.conv2d(x, w, padding="SAME"), MAPS, WEIGHT),
    "convolution, VALID": (lambda x, w: F.conv2d(x, w, padding="VALID"), MAPS, WEIGHT),
    "convolution, four paddings": (lambda x, w: F.conv2d(x, w, padding=[0, 1, 2, 0]), MAPS, WEIGHT),
    "convolution, NHWC": (lambda x, w: F.conv2d(x, w, data_format="NHWC"), MAPS.transpose(0, 2, 3, 1), WEIGHT),
    "depthwise convolution, SAME": (lambda x, w: F.conv2d(x, w, padding="SAME", groups=4), MAPS, WEIGHT[:, :1]),
    "depthwise convolution, four paddings": (
        lambda x, w: F.conv2d(x, w, padding=[0, 1, 2, 0], groups=4),
        MAPS,
        WEIGHT[:, :1],
    ),
    "convolution in three dimensions": (lambda x, w: F.conv3d(x, w), MAPS[..., None], WEIGHT[..., None]),
    "convolution of nothing": (lambda x, w: F.conv2d(x, w), MAPS[:0], WEIGHT),
    "kernel that exceeds the map": (lambda x, w: F.conv2d(x, w, stride=2), MAPS[:, :, :2, :2], WEIGHT),
    "wrong number of channels": (lambda x, w: F.conv2d(x, w), MAPS[:, :3], WEIGHT),
    "pooling, average": (lambda x: F.avg_pool2d(x, 2), MAPS),
    "pooling, SAME": (lambda x: F.max_pool2d(x, 2, padding="SAME"), MAPS),
    "pooling, VALID": (lambda x: F.max_pool2d(x, 2, padding="VALID"), MAPS),
    "pooling, four paddings": (lambda x: F.max_pool2d(x, 3, padding=[0, 1, 1, 0]), MAPS),
    "pooling, the last window over the edge": (lambda x: F.max_pool2d(x, 2, ceil_mode=True), MAPS),
    "pooling, adaptive": (lambda x: F.adaptive_max_pool2d(x, [3, 2]), MAPS),
    "pooling, adaptive, by Paddle's operator": (lambda x: pooled(x, adaptive=True), MAPS),
    "pooling, the whole map": (lambda x: pooled(x, whole=True), MAPS),
    "pooling, NHWC": (lambda x: F.max_pool2d(x, 2, data_format="NHWC"), MAPS),
    "pooling with places": (lambda x: F.max_pool2d(x, 2, return_mask=True)[0], MAPS),
    "pooling in three dimensions": (lambda x: F.max_pool3d(x, 2), MAPS[:, None]),
    "pooling nothing": (lambda x: F.max_pool2d(x, 2), MAPS[:0]),
    "pooling single pixels": (lambda x: F.max_pool2d(x, 2), MAPS[:, :, :1, :1]),
    "padding as wide as the window": (lambda x: F.max_pool2d(x, 2, 1, 2), MAPS),
    "batch norm, NHWC": (lambda x, w, b: normalised(x, w, b, data_format="NHWC"), MAPS[..., :4], VECTOR, VECTOR),
    "batch norm of vectors": (normalised, MAPS[..., 0, 0], VECTOR, VECTOR),
    "batch norm of sequences": (normalised, MAPS[..., 0], VECTOR, VECTOR),
    "batch norm in three dimensions": (normalised, MAPS[..., None], VECTOR, VECTOR),
    "batch norm of single numbers": (normalised, MAPS[:1, :, :1, :1], VECTOR, VECTOR),
    "batch norm without weights": (
        lambda x: F.batch_norm(x, paddle.zeros([4], x.dtype), paddle.ones([4], x.dtype), training=True),
        MAPS,
    ),
    "batch norm with too few weights": (normalised, MAPS, VECTOR[:2], VECTOR[:2]),
    "layer norm": (lambda x: F.layer_norm(x, [7, 6]), MAPS),
    "ReLU of rows": (F.relu, MAPS),
    "sum of rows": (paddle.add, MAPS, MAPS * 2),
    "linear": (F.linear, MAPS[0, 0], WEIGHT.reshape(6, -1)),
}


@pytest.mark.parametrize("name", FALLBACKS)
def test_what_onednn_is_not_asked_for_stays_paddles(check_fallback, name):
    function, *arrays = FALLBACKS[name]
    check_fallback(function, *(array.astype(np.float32) for array in arrays))


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "int32", "int64", "complex64"])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.conv2d(x, paddle.ones([2, 4, 3, 3]).astype(x.dtype)),
        lambda x: F.conv2d(x, paddle.ones([4, 1, 3, 3]).astype(x.dtype), groups=4),
        lambda x: F.max_pool2d(x, 2),
        lambda x: normalised(x, paddle.ones([4]).astype(x.dtype), paddle.ones([4]).astype(x.dtype)),
        lambda x: F.relu(x.transpose([0, 3, 1, 2])),
        lambda x: paddle.add(x.transpose([0, 3, 1, 2]), x.transpose([0, 3, 1, 2])),
    ],
    ids=["convolution", "depthwise", "pooling", "batch norm", "ReLU", "sum"],
)
def test_other_types_stay_paddles(check_fallback, function, dtype):
    whole = np.round(MAPS * 4).astype(np.float32)
    check_fallback(lambda x: function(x.astype(dtype)).astype("float32"), whole, differentiable=False)


def test_mixed_types_stay_paddles(check_fallback):
    check_fallback(lambda x, w: F.conv2d(x, w.astype("float64")), *(a.astype(np.float32) for a in (MAPS, WEIGHT)))
    arrays = [array.astype(np.float32) for array in (MAPS, VECTOR, VECTOR)]
    check_fallback(lambda x, w, b: normalised(x, w.astype("float64"), b.astype("float64")), *arrays)
    check_fallback(
        lambda x, y: paddle.add(x, y.astype("float64")),
        *(a.astype(np.float32) for a in (MAPS, MAPS)),
        differentiable=False,
    )


def test_functions_imported_by_name_and_layers_are_replaced(check):
    layer = nn.Sequential(nn.MaxPool2D(2), nn.Conv2D(4, 2, 1))
    for parameter in layer.parameters():
        parameter.stop_gradient = True

    def function(x, w):
        layer.to(dtype=x.dtype)
        return layer(max_pool2d(conv2d(x, w, padding=2), kernel_size=2, stride=1))

    check(function, MAPS, WEIGHT, expected={"convolution": 2, "max_pooling": 2})


def test_one_dimension_is_two_to_paddle(check):
    weight = WEIGHT[..., 0]
    check(lambda x, w: F.conv1d(x, w, padding=1), MAPS[:, :, 0], weight, expected={"convolution": 1})
    check(lambda x, w: F.conv1d(x, w, groups=4), MAPS[:, :, 0], weight[:, :1], expected={"convolution": 1})
    check(lambda x: F.max_pool1d(x, 2), MAPS[:, :, 0], expected={"max_pooling": 1})


# --- layouts


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


# --- gradients of gradients


OPERATORS = {
    "a convolution": lambda x: F.conv2d(x, float32(WEIGHT)),
    "a max pooling": lambda x: F.max_pool2d(x, 2),
    "a batch norm": lambda x: normalised(x, float32(VECTOR), float32(VECTOR)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_graphs_of_gradients_are_refused_by_name(name):
    x = float32(MAPS)
    with fast_operators():
        loss = OPERATORS[name](x).square().sum()
    # Paddle wraps what a `PyLayer` raises.
    with pytest.raises((NotImplementedError, OSError), match=f"NotImplementedError: {name} within fast_operators"):
        paddle.grad([loss], [x], create_graph=True)


def test_paddles_own_may_be_differentiated_twice_in_the_context():
    x = float32(VECTOR)
    with fast_operators():
        loss = (F.relu(x) ** 3).sum()
    first = paddle.grad([loss], [x], create_graph=True)[0]
    np.testing.assert_allclose(paddle.grad([first.sum()], [x])[0].numpy(), 6 * VECTOR, rtol=1e-5)


ORDERS = [
    (fast_operators, twice_differentiable_operators),
    (twice_differentiable_operators, fast_operators),
    (fast_operators, twice_differentiable_operators, fast_operators),
]


@pytest.mark.parametrize("contexts", ORDERS, ids=["fast first", "twice first", "fast twice"])
def test_second_derivatives_are_right_in_both_contexts(calls, near, contexts):
    vectors = {"maps": RNG.normal(size=MAPS.shape), "weight": RNG.normal(size=WEIGHT.shape)}

    def products(dtype, *contexts):
        leaves = {
            name: paddle.to_tensor(value.astype(dtype), stop_gradient=False)
            for name, value in {"maps": MAPS, "weight": WEIGHT * 0.2}.items()
        }
        with ExitStack() as stack:
            for context in contexts:
                stack.enter_context(context())
            maps = F.conv2d(leaves["maps"], leaves["weight"], padding=1)
            scale = paddle.to_tensor(VECTOR.astype(dtype))
            maps = F.relu6(paddle.add(F.max_pool2d(normalised(maps, scale, scale), 3, 2), paddle.ones([1], dtype)))
            loss = F.cross_entropy(F.conv2d(maps, leaves["weight"][:, :1], padding=1, groups=4).flatten(1), LABELS)
        first = grad(loss, leaves, create_graph=True)
        product = paddle.add_n([(first[n] * paddle.to_tensor(vectors[n].astype(dtype))).sum() for n in leaves])
        return {name: value.numpy() for name, value in grad(product, leaves).items()}

    near(products("float32", *contexts), products("float64", twice_differentiable_operators), 2e-4)
    assert not calls


LABELS = paddle.to_tensor([0, 1])


@pytest.mark.parametrize("contexts", ORDERS[:2], ids=["fast first", "twice first"])
def test_what_has_no_gradient_is_fast_in_both_contexts(calls, contexts):
    with contexts[0](), contexts[1](), paddle.no_grad():
        F.max_pool2d(F.conv2d(float32(MAPS), float32(WEIGHT)), 2)
    assert calls == {"convolution": 1, "max_pooling": 1}


# --- threads


def loss_and_gradients(seed: int, context=fast_operators) -> list[np.ndarray]:
    chance = np.random.default_rng(seed)
    shapes = ((4, 3, 12, 12), (8, 3, 3, 3), (8, 1, 3, 3), (8,), (8,))
    tensors = [paddle.to_tensor(chance.normal(size=shape).astype(np.float32), stop_gradient=False) for shape in shapes]
    images, first, second, weight, bias = tensors
    with context():
        maps = F.relu(F.max_pool2d(normalised(F.conv2d(images, first, padding=1), weight, bias), 2))
        loss = F.conv2d(maps, second, groups=8).square().mean()
    loss.backward()  # Paddle's `grad` serves one thread at a time
    return [loss.numpy(), *(tensor.grad.numpy() for tensor in tensors)]


def test_two_threads_at_once_give_the_numbers_of_one():
    expected = {seed: loss_and_gradients(seed) for seed in range(2)}
    start, wrong = threading.Barrier(2), []

    def work(seed: int) -> None:
        start.wait()
        for _ in range(15):
            for found, value in zip(loss_and_gradients(seed), expected[seed], strict=True):
                if not np.array_equal(found, value):
                    wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_other_threads_keep_paddles_own(calls):
    results = []
    with fast_operators():
        thread = threading.Thread(target=lambda: results.append(loss_and_gradients(0, nullcontext)))
        thread.start()
        thread.join()
    assert not calls
    for found, own in zip(results[0], loss_and_gradients(0, nullcontext), strict=True):
        np.testing.assert_array_equal(found, own)


# --- networks


NETWORKS = {
    "conv4": (lambda: Conv4(width=8), (4, 3, 20, 20), {"convolution": 4, "batch_normalization": 4, "max_pooling": 4}),
    "resnet12": (ResNet12, (2, 3, 16, 16), {"convolution": 16, "batch_normalization": 16, "max_pooling": 4}),
    "resnet18": (ResNet18, (4, 3, 32, 32), {"convolution": 20, "batch_normalization": 20, "max_pooling": 1}),
    "mobilenet_v1": (
        lambda: MobileNetV1(scale=0.25),
        (4, 3, 32, 32),
        {"convolution": 27, "batch_normalization": 27},
    ),
    "koch": (lambda: Koch(in_channels=1, width=4, side=65), (3, 1, 65, 65), {"convolution": 4, "max_pooling": 3}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_backbones_agree_with_paddle_in_output_gradients_and_statistics(calls, near, name):
    make, shape, expected = NETWORKS[name]
    images, results = np.random.default_rng(1).normal(size=shape), []
    for dtype, context in (("float64", nullcontext), ("float32", nullcontext), ("float32", fast_operators)):
        network = make()
        initialize(network, 0)
        network.to(dtype=dtype)
        network.train()
        with context():
            output = network(paddle.to_tensor(images.astype(dtype)))
        factors = np.random.default_rng(2).normal(size=output.shape)
        (output * paddle.to_tensor(factors.astype(dtype))).sum().backward()
        gradients = {n: p.grad.numpy() for n, p in network.named_parameters() if not p.stop_gradient}
        statistics = {n: v.numpy() for n, v in network.state_dict().items() if n.endswith(("_mean", "_variance"))}
        results.append({"output": {"output": output.numpy()}, "gradients": gradients, "statistics": statistics})
    assert calls == expected
    reference, own, fast = results
    assert fast["gradients"].keys() == reference["gradients"].keys()
    for kind in reference:
        if reference[kind]:
            near(fast[kind], reference[kind], 1e-3)
            # Batch norms over a few numbers magnify Paddle's own roundings too.
            assert distance(fast[kind], reference[kind]) <= 3 * distance(own[kind], reference[kind]) + 1e-6


def distance(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """Of all numbers together, relative."""
    error, whole = (
        np.concatenate([(value - other).ravel() for value, other in pairs])
        for pairs in (
            [(found[name], value) for name, value in expected.items()],
            [(value, 0) for value in expected.values()],
        )
    )
    return float(np.linalg.norm(error) / np.linalg.norm(whole))


def test_networks_in_evaluation_agree_with_paddle(calls):
    network = Conv4(width=8)
    initialize(network, 0)
    network.eval()
    images = float32(np.random.default_rng(1).normal(size=(3, 3, 20, 20)), learning=False)
    own = network(images).numpy()
    with fast_operators():
        fast = network(images).numpy()
    np.testing.assert_allclose(fast, own, atol=1e-5)
    assert calls == {"convolution": 4, "max_pooling": 4}


@pytest.mark.parametrize("kind", [MemoryError, OSError])
def test_lack_of_memory_in_a_backward_pass_is_told_from_errors(monkeypatch, kind):
    def failing(_):
        raise MemoryError("this much") if kind is MemoryError else ValueError("this much")

    monkeypatch.setattr(convolution, "saved", failing)
    with pytest.raises(kind, match="this much"), fast_operators():
        conv2d(float32(MAPS), float32(WEIGHT)).sum().backward()
