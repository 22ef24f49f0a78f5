"""What oneDNN is not asked for and stays Paddle's, and which names of its functions are replaced."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import _C_ops, nn
from paddle.nn.functional import conv2d, max_pool2d

from tests.onednn.native.maps import MAPS, VECTOR, WEIGHT, normalised


def pooled(x, whole=False, adaptive=False):
    """With settings that Paddle's functions leave alone."""
    return _C_ops.pool2d(x, [3, 2], [1, 1], [0, 0], False, True, "NCHW", "max", whole, adaptive, "EXPLICIT")


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
