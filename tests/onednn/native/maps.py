"""Maps, and functions of them that Paddle's own may compute."""

import numpy as np
import paddle
import paddle.nn.functional as F

_RNG = np.random.default_rng(0)
MAPS = _RNG.normal(size=(2, 4, 7, 6))
WEIGHT = _RNG.normal(size=(4, 4, 3, 3))
VECTOR = _RNG.uniform(0.5, 1.5, 4)


def float32(array: np.ndarray, learning: bool = True) -> paddle.Tensor:
    return paddle.to_tensor(array.astype(np.float32), stop_gradient=not learning)


def normalised(x, weight, bias, **options):
    channels = weight.shape[0]
    statistics = (paddle.zeros([channels], weight.dtype), paddle.ones([channels], weight.dtype))
    return F.batch_norm(x, *statistics, weight, bias, training=True, **options)
