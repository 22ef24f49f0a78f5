"""Operators with exact first and second derivatives, in place of Paddle's own that have none.

Each is a pure function of tensors, equal to Paddle's operator of the same name in value and first derivative, and is
composed of what Paddle can differentiate twice. Where tensors broadcast, shapes end in the broadcast axes ([N, C, L]
with [C, 1]): Paddle's CPU kernels are several times slower on any other pattern.

Relu, leaky relu, elu, celu, silu, softplus, sigmoid, tanh, linear layers, average pooling, reductions by sum and mean
and plain arithmetic need no counterpart here.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import _C_ops

Reduction = Literal["mean", "sum", "none"]

# Paddle's own, kept before anything is put in their places.
_native_max_pool = _C_ops.max_pool2d_with_index
_native_pool = _C_ops.pool2d


def flatten(x: paddle.Tensor, start_axis: int = 0, stop_axis: int = -1) -> paddle.Tensor:
    """Make one axis of the axes `start_axis` to `stop_axis`, both included."""
    shape = list(x.shape)
    if not shape:
        return x.reshape([1])
    start, stop = start_axis % len(shape), stop_axis % len(shape)
    return x.reshape([*shape[:start], math.prod(shape[start : stop + 1]), *shape[stop + 1 :]])


def softmax(x: paddle.Tensor, axis: int = -1) -> paddle.Tensor:
    """exp(x) / sum of exp(x) along an axis; any shape, same shape."""
    exponential = paddle.exp(x - _maximum(x, axis))
    return exponential / exponential.sum(axis, keepdim=True)


def log_softmax(x: paddle.Tensor, axis: int = -1) -> paddle.Tensor:
    """The logarithm of `softmax`; any shape, same shape."""
    shifted = x - _maximum(x, axis)
    return shifted - paddle.log(paddle.exp(shifted).sum(axis, keepdim=True))


def logsumexp(x: paddle.Tensor, axis: int | Sequence[int] | None = None, keepdim: bool = False) -> paddle.Tensor:
    """The logarithm of the sum of exp(x) along one axis, several, or all (None)."""
    maximum = _maximum(x, axis)
    total = paddle.log(paddle.exp(x - maximum).sum(axis, keepdim=True)) + maximum
    return total if keepdim else total.reshape(x.detach().sum(axis).shape)


def cross_entropy(
    logits: paddle.Tensor,
    labels: paddle.Tensor,
    reduction: Reduction = "mean",
    axis: int = -1,
    ignore_index: int = -100,
) -> paddle.Tensor:
    """Cross-entropy of class numbers.

    Args:
        logits: scores of the K classes along `axis`, such as [N, K].
        labels: integers 0..K-1, of the logits' shape without `axis`, such as [N].
        reduction: over everything; "none" gives a loss a label.
        axis: where the classes are.
        ignore_index: a label whose loss is zero. As in Paddle, the mean counts such labels when it is negative and
            leaves them out when it is not.
    """
    losses = negative_of_labelled(log_softmax(logits, axis), labels.unsqueeze(axis), axis, ignore_index)
    losses = losses.reshape(labels.shape)
    if reduction == "mean" and ignore_index >= 0:
        return losses.sum() / (labels != ignore_index).astype(losses.dtype).sum().clip(min=1.0)
    return _reduced(losses, reduction)


def nll_loss(
    log_probabilities: paddle.Tensor,
    labels: paddle.Tensor,
    weight: paddle.Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> tuple[paddle.Tensor, paddle.Tensor]:
    """The negative log-likelihood of class numbers, and the total weight, which divides the mean.

    Args:
        log_probabilities: [N, K, ...].
        labels: integers 0..K-1, [N, ...].
        weight: of each class, [K].
        ignore_index: a label that counts for nothing.
        reduction: over everything; "none" gives a loss a label.
    """
    losses = negative_of_labelled(log_probabilities, labels.unsqueeze(1), 1, ignore_index).reshape(labels.shape)
    with paddle.no_grad():
        counted = labels != ignore_index
        weights = counted.astype(losses.dtype)
        if weight is not None:
            known = paddle.where(counted, labels, paddle.zeros_like(labels)).reshape([-1])
            weights = weights * weight.gather(known).reshape(labels.shape)
        total = weights.sum()
    losses = losses * weights
    return (losses.sum() / total if reduction == "mean" else _reduced(losses, reduction)), total


def norm(x: paddle.Tensor, axis: int | None = -1, keepdim: bool = False) -> paddle.Tensor:
    """The Euclidean length along an axis, or of all numbers (None); its derivatives at zero are zero."""
    squares = x.square().sum(axis, keepdim=keepdim)
    positive = squares.detach() > 0
    # The root of one where the length is zero, so that no infinite slope meets the zero it would be multiplied by.
    root = paddle.sqrt(paddle.where(positive, squares, paddle.ones_like(squares)))
    return paddle.where(positive, root, paddle.zeros_like(root))


def normalize(x: paddle.Tensor, axis: int = -1, epsilon: float = 1e-12) -> paddle.Tensor:
    """Vectors of Euclidean length one along an axis; one shorter than `epsilon` is divided by `epsilon`."""
    length = norm(x, axis, keepdim=True)
    return x / paddle.maximum(length, paddle.full_like(length, epsilon))


def max_pool2d(
    x: paddle.Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
) -> paddle.Tensor:
    """The greatest of every window: [N, C, H, W] -> [N, C, H', W'].

    The gradient goes to the first greatest of a window, as in Paddle.

    Args:
        x: the maps.
        kernel_size: of the windows in pixels, one number or (height, width).
        stride: from window to window, None for the kernel's size.
        padding: pixels around the map, one number or (above and below, left and right); they are never the greatest.
        ceil_mode: whether windows that stick out at the end count.
    """
    kernel = _pair(kernel_size)
    return pooled_maxima(x, kernel, kernel if stride is None else _pair(stride), _pair(padding), False, ceil_mode)[0]


def pooled_maxima(
    x: paddle.Tensor, kernel: list[int], stride: list[int], padding: list[int], adaptive: bool, ceil_mode: bool
) -> tuple[paddle.Tensor, paddle.Tensor]:
    """What `max_pool2d` returns, and where in its map (row * W + column) every maximum was: int32 [N, C, H', W'].

    Args:
        x: [N, C, H, W].
        kernel: (height, width) of the windows, or of the output where `adaptive`.
        stride: (down, right).
        padding: (above and below, left and right), or (above, below, left, right).
        adaptive: whether the windows follow from the output's size.
        ceil_mode: whether windows that stick out at the end count.
    """
    n, c, h, w = x.shape
    with paddle.no_grad():
        seen = x.detach()
        if len(padding) == 4:
            above, below, left, right = padding
            seen, padding = F.pad(seen, [left, right, above, below], value=-math.inf), [0, 0]
        _, places = _native_max_pool(seen, kernel, stride, padding, False, adaptive, ceil_mode)
        if seen.shape != x.shape:  # from places in the padded map to places in the map
            width = seen.shape[3]
            places = paddle.where(places < 0, places, (places // width - above) * w + places % width - left)
        # Windows of nothing but NaN or -inf have no place.
        nowhere = places < 0
        gaps = bool(nowhere.any())
        known = paddle.where(nowhere, paddle.zeros_like(places), places) if gaps else places
    maxima = paddle.take_along_axis(x.reshape([n, c, h * w]), known.reshape([n, c, -1]), 2).reshape(places.shape)
    if gaps:
        with paddle.no_grad():
            layout = (ceil_mode, True, "NCHW", "max", False, adaptive, "EXPLICIT")
            values = _native_pool(seen, kernel, stride, padding, *layout)
        maxima = paddle.where(nowhere, values, maxima)
    return maxima, places


def dropout(x: paddle.Tensor, probability: float, generator: np.random.Generator) -> paddle.Tensor:
    """Set each number to zero with a probability and divide the others by 1 - probability; any shape, same shape."""
    kept = generator.random(x.shape) >= probability
    return x * paddle.to_tensor(kept / (1 - probability) if probability < 1 else kept * 0.0, dtype=x.dtype)


def _maximum(x: paddle.Tensor, axis: int | Sequence[int] | None) -> paddle.Tensor:
    """The maximum as a constant, zero where it is infinite: what is subtracted before exp, to no effect but safety."""
    with paddle.no_grad():
        maximum = x.detach().max(axis, keepdim=True)
        return paddle.where(maximum.abs() == math.inf, paddle.zeros_like(maximum), maximum)


def negative_of_labelled(
    log_probabilities: paddle.Tensor, labels: paddle.Tensor, axis: int, ignore_index: int
) -> paddle.Tensor:
    """-log p of every label, zero for ignored ones: labels with one place along `axis` -> the same shape."""
    with paddle.no_grad():
        labels = labels.astype("int64")
        counted = labels != ignore_index
        known = paddle.where(counted, labels, paddle.zeros_like(labels))
    picked = paddle.take_along_axis(log_probabilities, known, axis, broadcast=False)
    return paddle.where(counted, -picked, paddle.zeros_like(picked))


def _reduced(losses: paddle.Tensor, reduction: Reduction) -> paddle.Tensor:
    if reduction == "mean":
        return losses.mean()
    return losses.sum() if reduction == "sum" else losses


def _pair(value: int | Sequence[int]) -> list[int]:
    return [value, value] if isinstance(value, int) else [int(part) for part in value]
