"""oneDNN's operators in the place of Paddle's own, for as long as a context lasts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import paddle
from paddle import Tensor

from ppfsl.exchange import Exchange, native
from ppfsl.onednn.convolution import Geometry, convolution
from ppfsl.onednn.gradient import memory_errors
from ppfsl.onednn.layout import as_channels_first, as_channels_last, has_channels_last
from ppfsl.onednn.normalization import batch_normalization
from ppfsl.onednn.pooling import Window, max_pooling


@contextmanager
def fast_operators() -> Iterator[None]:
    """Within this context, and in this thread alone, networks on a CPU run on oneDNN, forward and backward.

    Replaced are convolutions (grouped and depthwise ones too), batch norms over a batch's own statistics and max
    poolings of float32 maps [N, C, H, W]; ReLUs and sums by `paddle.add` between them keep their layout. The results
    are Paddle's but for the last bits (the order of summation), and can be differentiated once; gradients may be taken
    outside of the context. Where `twice_differentiable_operators` holds too, that one counts. Contexts nest.

    Two limits are those of Paddle's `PyLayer`: a graph serves `backward()` once, even with `retain_graph=True` (a
    second time ends the process), and `paddle.grad` of some inputs of an operator is refused where others need a
    gradient too.
    """
    with _exchange(), memory_errors():
        yield


def _conv2d(
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    algorithm: str,
    dilation: Sequence[int],
    groups: int,
    layout: str,
) -> Tensor:
    if algorithm != "EXPLICIT" or len(padding) != 2 or layout != "NCHW" or weight.dtype != paddle.float32:
        return native["conv2d"](x, weight, stride, padding, algorithm, dilation, groups, layout)
    pairs = (_pair(stride), _pair(padding), _pair(dilation))
    geometry = Geometry(tuple(x.shape), tuple(weight.shape), *pairs, groups)
    if x.shape[1] != weight.shape[1] * groups or min(geometry.output) < 1:
        return native["conv2d"](x, weight, stride, padding, algorithm, dilation, groups, layout)
    return convolution(x, weight, geometry)


def _depthwise_conv2d(
    x: Tensor, weight: Tensor, stride: Any, padding: Any, algorithm: str, groups: int, dilation: Any, layout: str
) -> Tensor:
    if algorithm != "EXPLICIT" or len(padding) != 2 or layout != "NCHW" or weight.dtype != paddle.float32:
        return native["depthwise_conv2d"](x, weight, stride, padding, algorithm, groups, dilation, layout)
    return _conv2d(x, weight, stride, padding, algorithm, dilation, groups, layout)


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
    plain = kind == "max" and algorithm == "EXPLICIT" and len(padding) == 2 and layout == "NCHW"
    if plain and not (whole or adaptive or ceil_mode):
        window = Window(tuple(x.shape), _pair(kernel), _pair(stride), _pair(padding))
        # A window may not miss the map, nor a map the window: Paddle makes something of these all the same.
        if min(window.output) > 0 and all(map(int.__gt__, window.kernel, window.padding)):
            return max_pooling(x, window)
    settings = (kernel, stride, padding, ceil_mode, exclusive, layout, kind, whole, adaptive, algorithm)
    return native["pool2d"](x, *settings)


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
    own = own and x.size > x.shape[1]  # Paddle leaves single numbers as they are
    vectors = all(
        tensor is not None and tensor.shape == x.shape[1:2] and tensor.dtype == paddle.float32
        for tensor in (weight, bias)
    )
    if not own or not vectors or layout != "NCHW":
        settings = (is_test, momentum, epsilon, layout, use_global_stats, trainable_statistics)
        return native["batch_norm"](x, running_mean, running_variance, weight, bias, *settings)
    y, *statistics = batch_normalization(x, weight, bias, epsilon)
    with paddle.no_grad():
        for running, new in zip((running_mean, running_variance), statistics, strict=True):
            paddle.assign(running * momentum + new * (1 - momentum), running)
    return y, running_mean, running_variance, None, None, None


def _keeping_layout(name: str) -> Callable[..., Tensor]:
    """An operator that treats every number alike, in whatever order they lie in memory."""

    def operator(x: Tensor, *settings: Any, **keywords: Any) -> Tensor:
        if not has_channels_last(x):
            return native[name](x, *settings, **keywords)
        return as_channels_first(native[name](as_channels_last(x), *settings, **keywords))

    return operator


def _add(x: Tensor, y: Tensor, **keywords: Any) -> Tensor:
    if isinstance(y, Tensor) and has_channels_last(x) and x.shape == y.shape:
        return as_channels_first(native["add"](as_channels_last(x), as_channels_last(y), **keywords))
    return native["add"](x, y, **keywords)


def _pair(values: Sequence[int]) -> tuple[int, int]:
    first, second = values
    return int(first), int(second)


_REPLACEMENTS: dict[str, Callable[..., Any]] = {
    "conv2d": _conv2d,
    "depthwise_conv2d": _depthwise_conv2d,
    "pool2d": _pool2d,
    "batch_norm": _batch_norm,
    "add": _add,
    **{name: _keeping_layout(name) for name in ("relu", "leaky_relu", "relu6", "hardswish")},
}


def _wanted(x: Any, *_: Any, **__: Any) -> bool:
    """Maps on a CPU."""
    return (
        paddle.in_dynamic_mode()
        and isinstance(x, Tensor)
        and x.ndim == 4
        and x.dtype == paddle.float32
        and x.place.is_cpu_place()
        and x.size > 0
    )


_exchange = Exchange(_REPLACEMENTS, _wanted, rank=0)
