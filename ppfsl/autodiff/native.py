"""Paddle's operators that cannot be differentiated twice, replaced for as long as a context lasts."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import paddle
from paddle import Tensor

from ppfsl.autodiff import normalization, operators
from ppfsl.exchange import Exchange
from ppfsl.exchange import native as _native


def twice_differentiable_operators() -> AbstractContextManager[None]:
    """Within this context, and in this thread alone, networks and losses can be differentiated twice.

    Convolutions (depthwise ones too), max pooling (1D, 2D, adaptive), batch, layer, group and instance normalisation,
    flatten, softmax, log-softmax, logsumexp, cross-entropy (binary too), negative log-likelihood, norms, dropout,
    swish, relu6, hard sigmoid and hard swish are replaced, exactly: they change the running statistics and draw the
    random numbers that Paddle's own would. Gradients may be taken outside of the context. Contexts nest.
    """
    return exchange()


def depending_on(x: Tensor, weight: Tensor) -> Tensor:
    """x itself, in a graph in which it depends on the weight, with a derivative of zero.

    Paddle computes the second derivative of a convolution rightly only if the gradients of its weight and of its input
    are computed together, and leaves out the input's where no requested tensor lies behind it; without a word, the
    second derivative is zero then.
    """
    some = weight.reshape([-1])[:1]
    nothing = paddle.zeros_like(some)
    return x + paddle.where(nothing.astype("bool"), some, nothing)  # zero times the weight would make NaN of infinity


def _conv2d(x: Tensor, weight: Tensor, *settings: Any) -> Tensor:
    return _native["conv2d"](x if weight.stop_gradient else depending_on(x, weight), weight, *settings)


def _depthwise_conv2d(
    x: Tensor, weight: Tensor, strides: Any, paddings: Any, algorithm: str, groups: int, dilations: Any, layout: str
) -> Tensor:
    return _conv2d(x, weight, strides, paddings, algorithm, dilations, groups, layout)


def _pool2d(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    exclusive: bool,
    layout: str,
    kind: str,
    whole: bool,
    adaptive: bool,
    algorithm: str,
) -> Tensor:
    if kind != "max":
        settings = (kernel, stride, padding, ceil_mode, exclusive, layout, kind, whole, adaptive, algorithm)
        return _native["pool2d"](x, *settings)
    if layout == "NHWC":
        x = x.transpose([0, 3, 1, 2])
    if whole:
        kernel, stride, padding, algorithm = x.shape[2:], [1, 1], [0, 0], "EXPLICIT"
    if algorithm == "SAME":
        padding = _same_padding(x.shape[2:], kernel, stride)
    elif algorithm == "VALID":
        padding = [0, 0]
    maxima, _ = operators.pooled_maxima(x, list(kernel), list(stride), list(padding), adaptive, ceil_mode)
    return maxima.transpose([0, 2, 3, 1]) if layout == "NHWC" else maxima


def _same_padding(sides: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> list[int]:
    """Above, below, left, right: as many windows as strides fit into a side, an odd row or column at its end."""
    padding = []
    for side, window, step in zip(sides, kernel, stride, strict=True):
        missing = max((math.ceil(side / step) - 1) * step + window - side, 0)
        padding += [missing // 2, missing - missing // 2]
    return padding


def _max_pool2d_with_index(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    whole: bool,
    adaptive: bool,
    ceil_mode: bool,
) -> tuple[Tensor, Tensor]:
    if len(padding) != 2:
        return _native["max_pool2d_with_index"](x, kernel, stride, padding, whole, adaptive, ceil_mode)
    if whole:
        kernel, stride, padding = x.shape[2:], [1, 1], [0, 0]
    return operators.pooled_maxima(x, list(kernel), list(stride), list(padding), adaptive, ceil_mode)


def _batch_norm(
    x: Tensor,
    running_mean: Tensor,
    running_variance: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    is_test: bool,
    momentum: float,
    epsilon: float,
    layout: str,
    use_global_stats: bool,
    trainable_statistics: bool,
) -> tuple[Any, ...]:
    own = not use_global_stats and (not is_test or trainable_statistics)
    statistics = (running_mean, running_variance)
    y, *new = normalization.batch_norm(x, *statistics, weight, bias, own, momentum, epsilon, layout == "NHWC")
    if own:
        with paddle.no_grad():
            for value, target in zip(new, statistics, strict=True):
                paddle.assign(value, target)
    return y, *statistics, None, None, None


def _layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float, axis: int) -> Tensor:
    return normalization.layer_norm(x, x.shape[axis:], weight, bias, epsilon)


def _group_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float, groups: int, layout: str
) -> Tensor:
    if layout == "NHWC":
        order = [0, x.ndim - 1, *range(1, x.ndim - 1)]
        y = normalization.group_norm(x.transpose(order), groups, weight, bias, epsilon)
        return y.transpose([0, *range(2, x.ndim), 1])
    return normalization.group_norm(x, groups, weight, bias, epsilon)


def _softmax(x: Tensor, axis: int = -1, **_: Any) -> Tensor:
    return operators.softmax(x, axis)


def _logsumexp(x: Tensor, axis: int | Sequence[int] | None = None, keepdim: bool = False, **others: Any) -> Tensor:
    return _native["logsumexp"](x, axis, keepdim, **others) if others else operators.logsumexp(x, axis, keepdim)


def _cross_entropy_with_softmax(
    x: Tensor, labels: Tensor, soft: bool, use_softmax: bool, stable: bool, ignore_index: int, axis: int
) -> tuple[Tensor, Tensor]:
    logarithms = operators.log_softmax(x, axis) if use_softmax else paddle.log(x)
    if soft:
        losses = -(labels * logarithms).sum(axis, keepdim=True)
    else:
        losses = operators.negative_of_labelled(logarithms, labels, axis, ignore_index)
    return logarithms.detach().exp(), losses


def _sigmoid_cross_entropy_with_logits(
    x: Tensor, labels: Tensor, weight: Tensor | None, normalize: bool, ignore_index: int
) -> Tensor:
    if weight is not None or normalize:
        return _native["sigmoid_cross_entropy_with_logits"](x, labels, weight, normalize, ignore_index)
    greatest = x.detach().clip(min=0.0)
    losses = greatest + paddle.log(paddle.exp(-greatest) + paddle.exp(x - greatest)) - x * labels
    return paddle.where(labels == ignore_index, paddle.zeros_like(losses), losses)


def _p_norm(x: Tensor, order: float, axis: int, epsilon: float, keepdim: bool, as_vector: bool) -> Tensor:
    if order == 2:
        return operators.norm(x, None if as_vector else axis, keepdim)
    if order == 1:
        return x.abs().sum(None if as_vector else axis, keepdim=keepdim)
    return _native["p_norm"](x, order, axis, epsilon, keepdim, as_vector)


def _dropout(x: Tensor, *settings: Any) -> Tensor:
    with paddle.no_grad():
        factors = _native["dropout"](paddle.ones_like(x), *settings)
    return x * factors


def _relu6(x: Tensor) -> Tensor:
    return x * _between(x, 0.0, 6.0) + 6.0 * (x.detach() >= 6.0).astype(x.dtype)


def _hardsigmoid(x: Tensor, slope: float = 0.1666667, offset: float = 0.5) -> Tensor:
    line = x * slope + offset
    return line * _between(line, 0.0, 1.0) + (line.detach() >= 1.0).astype(x.dtype)


def _hardswish(x: Tensor) -> Tensor:
    return x * _between(x, -3.0, 3.0) * (x + 3.0) / 6.0 + x * (x.detach() >= 3.0).astype(x.dtype)


def _between(x: Tensor, low: float, high: float) -> Tensor:
    """1 where low < x < high, else 0; a constant."""
    x = x.detach()
    return ((x > low) & (x < high)).astype(x.dtype)


def _swish(x: Tensor) -> Tensor:
    return x * paddle.nn.functional.sigmoid(x)


_REPLACEMENTS: dict[str, Callable[..., Any]] = {
    "conv2d": _conv2d,
    "depthwise_conv2d": _depthwise_conv2d,
    "pool2d": _pool2d,
    "max_pool2d_with_index": _max_pool2d_with_index,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "instance_norm": normalization.instance_norm,
    "flatten": operators.flatten,
    "softmax": _softmax,
    "log_softmax": operators.log_softmax,
    "logsumexp": _logsumexp,
    "cross_entropy_with_softmax": _cross_entropy_with_softmax,
    "nll_loss": operators.nll_loss,
    "mean_all": paddle.mean,
    "p_norm": _p_norm,
    "sigmoid_cross_entropy_with_logits": _sigmoid_cross_entropy_with_logits,
    "dropout": _dropout,
    "relu6": _relu6,
    "hardsigmoid": _hardsigmoid,
    "hardswish": _hardswish,
    "swish": _swish,
}


def _wanted(*arguments: Any, **keywords: Any) -> bool:
    """Without a gradient to come, Paddle's own is faster and the same."""
    if not (paddle.in_dynamic_mode() and paddle.is_grad_enabled()):
        return False
    tensors = (value for value in (*arguments, *keywords.values()) if isinstance(value, Tensor))
    return any(not tensor.stop_gradient for tensor in tensors)


exchange = Exchange(_REPLACEMENTS, _wanted, rank=1)
