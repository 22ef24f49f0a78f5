"""Batch normalisation by oneDNN, over a batch's own statistics."""

import functools
from collections.abc import Sequence
from typing import Any

import paddle
from paddle.autograd import PyLayer

from ppfsl.onednn import library as dnnl
from ppfsl.onednn.gradient import first_order_only, save, saved
from ppfsl.onednn.layout import as_channels_first, as_channels_last, empty_channels_last


def batch_normalization(
    maps: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor, epsilon: float
) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    """Every channel normalised over the batch and the pixels, then scaled and shifted; differentiable once.

    Args:
        maps: [N, C, H, W].
        weight: [C].
        bias: [C].
        epsilon: added to the variance.

    Returns:
        The normalised maps, channels last in memory, and the batch's mean and variance (divided by the count), [C]
        each, without a graph.
    """
    mean, variance = (paddle.empty([maps.shape[1]], "float32") for _ in range(2))
    wanted = [not tensor.stop_gradient for tensor in (maps, weight, bias)]
    return _BatchNormalization.apply(maps, weight, bias, mean, variance, epsilon, wanted), mean, variance


class _BatchNormalization(PyLayer):
    @staticmethod
    def forward(
        ctx: Any,
        maps: paddle.Tensor,
        weight: paddle.Tensor,
        bias: paddle.Tensor,
        mean: paddle.Tensor,
        variance: paddle.Tensor,
        epsilon: float,
        wanted: Sequence[bool],
    ) -> paddle.Tensor:
        ctx.shape, ctx.epsilon, ctx.wanted = tuple(maps.shape), epsilon, wanted
        run, _ = _primitives(ctx.shape, epsilon)
        maps, output = as_channels_last(maps), empty_channels_last(ctx.shape)
        weight, bias = weight.contiguous(), bias.contiguous()
        run(*(tensor.data_ptr() for tensor in (maps, weight, bias, mean, variance, output)))
        save(ctx, maps, weight, mean, variance)
        return as_channels_first(output)

    @staticmethod
    @first_order_only("a batch norm")
    def backward(ctx: Any, gradient: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        maps, weight, mean, variance = saved(ctx)
        _, run = _primitives(ctx.shape, ctx.epsilon)
        gradient, of_maps = as_channels_last(gradient), empty_channels_last(ctx.shape)
        of_weight, of_bias = paddle.empty_like(weight), paddle.empty_like(weight)
        tensors = (gradient, maps, weight, mean, variance, of_maps, of_weight, of_bias)
        run(*(tensor.data_ptr() for tensor in tensors))
        gradients = zip((as_channels_first(of_maps), of_weight, of_bias), ctx.wanted, strict=True)
        return *(gradient if wanted else None for gradient, wanted in gradients), None, None


@functools.cache
def _primitives(shape: tuple[int, ...], epsilon: float) -> tuple[dnnl.Primitive, dnnl.Primitive]:
    """Forward and backward."""
    maps, vector, flags = dnnl.channels_last(shape), dnnl.row_major(shape[1:2]), dnnl.USE_SCALE | dnnl.USE_SHIFT
    forward = dnnl.create(
        "batch_normalization_forward_primitive_desc_create",
        *(dnnl.engine(), dnnl.FORWARD, maps, maps, epsilon, flags, None),
    )
    backward = dnnl.create(
        "batch_normalization_backward_primitive_desc_create",
        *(dnnl.engine(), dnnl.BACKWARD, maps, maps, maps, epsilon, flags, forward, None),
    )
    vectors = (dnnl.SCALE, dnnl.SHIFT, dnnl.MEAN, dnnl.VARIANCE)
    there = {dnnl.SOURCE: maps, **dict.fromkeys(vectors, vector), dnnl.DESTINATION: maps}
    back = {
        dnnl.DESTINATION + dnnl.GRADIENT: maps,
        dnnl.SOURCE: maps,
        dnnl.SCALE: vector,
        dnnl.MEAN: vector,
        dnnl.VARIANCE: vector,
        dnnl.SOURCE + dnnl.GRADIENT: maps,
        dnnl.GRADIENT_SCALE: vector,
        dnnl.GRADIENT_SHIFT: vector,
    }
    return dnnl.Primitive(forward, there), dnnl.Primitive(backward, back)
