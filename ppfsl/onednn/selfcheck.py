"""Whether oneDNN can be used here: found, and right on a small network."""

import functools
from contextlib import nullcontext

import numpy as np
import paddle
import paddle.nn.functional as F

from ppfsl.onednn.library import OneDNNError, library
from ppfsl.onednn.native import fast_operators


@functools.cache
def available() -> bool:
    """Whether this Paddle ships oneDNN and both agree on a small network; tried once a process, in milliseconds."""
    return not problem()


@functools.cache
def problem() -> str:
    """Why oneDNN cannot be used here; empty where it can."""
    if not paddle.get_device().startswith("cpu"):
        return "the device is not a CPU"
    try:
        library()
        return "" if _agrees() else "its results differ from Paddle's"
    except (OSError, OneDNNError, AttributeError) as error:
        return str(error)


def _agrees() -> bool:
    chance = np.random.default_rng(0)
    images, first, second = (
        chance.normal(size=shape).astype(np.float32) for shape in ((2, 3, 9, 9), (4, 3, 3, 3), (4, 1, 3, 3))
    )
    results = []
    for operators in (nullcontext, fast_operators):
        weights = [paddle.to_tensor(weight, stop_gradient=False) for weight in (first, second)]
        with paddle.enable_grad(), operators():
            loss = _loss(paddle.to_tensor(images), *weights)
        results.append([tensor.numpy() for tensor in (loss, *paddle.grad([loss], weights))])
    return all(np.allclose(fast, own, rtol=1e-3, atol=1e-4) for own, fast in zip(*results, strict=True))


def _loss(images: paddle.Tensor, first: paddle.Tensor, second: paddle.Tensor) -> paddle.Tensor:
    """Of a convolution, a batch norm, a max pooling, a ReLU and a convolution in groups."""
    channels = first.shape[0]
    maps = F.conv2d(images, first, padding=1)
    maps = F.batch_norm(
        maps,
        *(paddle.zeros([channels]), paddle.ones([channels])),
        *(paddle.full([channels], 2.0), paddle.zeros([channels])),
        training=True,
    )
    maps = F.conv2d(F.relu(F.max_pool2d(maps, 3, 2)), second, stride=2, padding=1, groups=channels)
    return maps.square().sum()
