"""Batch norm over the first images of a batch alone: a support set's statistics, for its queries."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import paddle
from paddle import Tensor

from ppfsl.exchange import Exchange

_thread = threading.local()


@contextmanager
def first_rows_statistics(rows: int) -> Iterator[None]:
    """Within this context, and in this thread alone, batch norm in training mode normalises by the first rows.

    Their mean and variance (divided by their count) serve the whole batch and go into the running statistics, so that
    the other rows do not influence each other. Exact first and second derivatives; contexts nest, the innermost counts.
    Batch norm that normalises by its running statistics is none of this context's business.
    """
    before = getattr(_thread, "rows", None)
    _thread.rows = rows
    try:
        with _exchange():
            yield
    finally:
        _thread.rows = before


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
    *_: bool,
) -> tuple[Any, ...]:
    channel = x.ndim - 1 if layout == "NHWC" else 1
    axes = [axis for axis in range(x.ndim) if axis != channel]
    column = [1 if axis in axes else x.shape[axis] for axis in range(x.ndim)]
    first = x[: _thread.rows]
    mean = first.mean(axes)
    variance = (first - mean.reshape(column)).square().mean(axes)
    scale = paddle.rsqrt(variance + epsilon)
    if weight is not None:
        scale = scale * weight
    y = (x - mean.reshape(column)) * scale.reshape(column)
    if bias is not None:
        y = y + bias.reshape(column)
    with paddle.no_grad():
        for running, new in ((running_mean, mean), (running_variance, variance)):
            paddle.assign(running * momentum + new.detach() * (1 - momentum), running)
    return y, running_mean, running_variance, None, None, None


def _wanted(*arguments: Any) -> bool:
    is_test, *_, use_global_stats, trainable_statistics = arguments[5:]
    return paddle.in_dynamic_mode() and not use_global_stats and (not is_test or trainable_statistics)


_exchange = Exchange({"batch_norm": _batch_norm}, _wanted, rank=2)
