"""Whether the installed Paddle differentiates twice, found out by trying."""

import functools
import math
import os

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.nn.initializer import Assign
from paddle.utils import unique_name

from ppfsl.autodiff.call import functional_call, trainable_parameters
from ppfsl.autodiff.gradient import grad
from ppfsl.autodiff.operators import cross_entropy
from ppfsl.autodiff.transform import twice_differentiable
from ppfsl.errors import UserError

SKIP = "PPFSL_SKIP_SELF_TEST"  # an environment variable; anything but an empty string or 0 skips the test

_TOLERANCE = 1e-6
_STEP = 1e-6


def require_second_order(skip: bool = False) -> None:
    """Complain if second derivatives are wrong in this Paddle; takes about a second, once a process.

    Args:
        skip: whether to believe that they are right; the environment variable PPFSL_SKIP_SELF_TEST=1 does the same.

    Raises:
        UserError: when `self_test` finds an error.
    """
    if skip or os.environ.get(SKIP, "0") not in ("", "0"):
        return
    error = self_test()
    if not error < _TOLERANCE:
        raise UserError(
            f"second-order gradients are wrong in the installed PaddlePaddle {paddle.__version__} (relative error "
            f"{error:.0e} in a small network); choose first order, install PaddlePaddle 3.3, or set {SKIP}=1 to go on"
        )


@functools.cache
def self_test() -> float:
    """The relative error of a Hessian-vector product in a small convolutional network, in float64.

    The network has a convolution, batch norm, ReLU, max pooling, flatten, a linear layer and cross-entropy; its product
    with a vector over all its parameters is compared with finite differences of Paddle's own gradient. Infinite where
    Paddle cannot compute it at all. The result is kept for the process; no global random numbers are drawn.
    """
    rng = np.random.default_rng(0)
    with unique_name.guard():  # leaves the numbers in the names of the user's parameters alone
        network = _network(rng)
    images, labels = paddle.to_tensor(rng.normal(size=(4, 2, 6, 6))), paddle.to_tensor([0, 1, 2, 1])
    values = {name: parameter.numpy() for name, parameter in trainable_parameters(network).items()}
    vector = {name: rng.normal(size=value.shape) for name, value in values.items()}

    def shifted(by: float) -> dict[str, paddle.Tensor]:
        return {n: paddle.to_tensor(value + by * vector[n], stop_gradient=False) for n, value in values.items()}

    def gradient(by: float) -> dict[str, paddle.Tensor]:
        tensors = shifted(by)
        return grad(F.cross_entropy(functional_call(network, tensors, images), labels), tensors)

    try:
        tensors = shifted(0.0)
        loss = cross_entropy(functional_call(twice_differentiable(network), tensors, images), labels)
        first = grad(loss, tensors, create_graph=True)
        product = paddle.add_n([(first[name] * paddle.to_tensor(vector[name])).sum() for name in first])
        second = grad(product, tensors)
        above, below = gradient(_STEP), gradient(-_STEP)
    except Exception:  # whatever it is that goes wrong, this Paddle cannot do it
        return math.inf
    expected = {name: (above[name].numpy() - below[name].numpy()) / (2 * _STEP) for name in first}
    scale = max(float(np.abs(value).max()) for value in expected.values())
    return max(float(np.abs(second[name].numpy() - expected[name]).max()) for name in first) / scale


def _network(rng: np.random.Generator) -> nn.Layer:
    def weights(*shape: int) -> paddle.ParamAttr:
        return paddle.ParamAttr(initializer=Assign(rng.normal(0, 0.5, shape)))

    network = nn.Sequential(
        nn.Conv2D(2, 3, 3, padding=1, weight_attr=weights(3, 2, 3, 3), bias_attr=weights(3)),
        nn.BatchNorm2D(3),
        nn.ReLU(),
        nn.MaxPool2D(2),
        nn.Flatten(),
        nn.Linear(27, 3, weight_attr=weights(27, 3), bias_attr=weights(3)),
    )
    return network.to(dtype="float64")
