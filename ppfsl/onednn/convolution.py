"""Convolutions by oneDNN: forward, and the gradients of the maps and of the weight."""

import functools
from typing import Any, NamedTuple

import paddle
from paddle.autograd import PyLayer

from ppfsl.onednn import library as dnnl
from ppfsl.onednn.gradient import first_order_only, save, saved
from ppfsl.onednn.layout import as_channels_first, as_channels_last, empty_channels_last


class Geometry(NamedTuple):
    """All that fixes a convolution but the numbers: maps [N, I, H, W], weight [O, I / groups, h, w]."""

    maps: tuple[int, ...]
    weight: tuple[int, ...]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @property
    def output(self) -> tuple[int, ...]:
        """[N, O, H', W']."""
        sides = (
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, padding, dilation in zip(
                self.maps[2:], self.weight[2:], self.stride, self.padding, self.dilation, strict=True
            )
        )
        return (self.maps[0], self.weight[0], *sides)


def convolution(maps: paddle.Tensor, weight: paddle.Tensor, geometry: Geometry) -> paddle.Tensor:
    """The maps' convolution with the weight, [N, O, H', W'], channels last in memory; differentiable once."""
    return _Convolution.apply(maps, weight, geometry, not maps.stop_gradient, not weight.stop_gradient)


class _Convolution(PyLayer):
    @staticmethod
    def forward(
        ctx: Any, maps: paddle.Tensor, weight: paddle.Tensor, geometry: Geometry, of_maps: bool, of_weight: bool
    ) -> paddle.Tensor:
        ctx.geometry, ctx.of_maps, ctx.of_weight = geometry, of_maps, of_weight
        maps, weight = as_channels_last(maps), weight.contiguous()
        save(ctx, maps, weight)
        run, from_rows = _forward(geometry)
        output = empty_channels_last(geometry.output)
        own = from_rows(weight)
        run(maps.data_ptr(), own.data_ptr(), output.data_ptr())
        return as_channels_first(output)

    @staticmethod
    @first_order_only("a convolution")
    def backward(ctx: Any, gradient: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        maps, weight = saved(ctx)
        gradient, of_maps, of_weight = as_channels_last(gradient), None, None
        if ctx.of_maps:
            run, from_rows = _gradient_of_maps(ctx.geometry)
            own, of_maps = from_rows(weight), empty_channels_last(ctx.geometry.maps)
            run(gradient.data_ptr(), own.data_ptr(), of_maps.data_ptr())
            of_maps = as_channels_first(of_maps)
        if ctx.of_weight:
            run, numbers, to_rows = _gradient_of_weight(ctx.geometry)
            own = paddle.empty([numbers], "float32")
            run(gradient.data_ptr(), maps.data_ptr(), own.data_ptr())
            of_weight = to_rows(own).reshape(list(ctx.geometry.weight))
        return of_maps, of_weight


@functools.cache
def _forward(geometry: Geometry) -> tuple[dnnl.Primitive, dnnl.Reordering]:
    described = _described(geometry)
    weight = dnnl.queried(described.forward, dnnl.QUERY_WEIGHTS)
    arguments = {dnnl.SOURCE: described.maps, dnnl.WEIGHTS: weight, dnnl.DESTINATION: described.output}
    return dnnl.Primitive(described.forward, arguments), dnnl.Reordering(described.rows, weight)


@functools.cache
def _gradient_of_maps(geometry: Geometry) -> tuple[dnnl.Primitive, dnnl.Reordering]:
    maps, any_weight, rows, output, sizes, forward = _described(geometry)
    backward = dnnl.create(
        "convolution_backward_data_primitive_desc_create",
        *(dnnl.engine(), dnnl.CONVOLUTION_AUTO, maps, any_weight, output, *sizes, forward, None),
    )
    weight = dnnl.queried(backward, dnnl.QUERY_WEIGHTS)
    arguments = {
        dnnl.DESTINATION + dnnl.GRADIENT: output,
        dnnl.WEIGHTS: weight,
        dnnl.SOURCE + dnnl.GRADIENT: maps,
    }
    return dnnl.Primitive(backward, arguments), dnnl.Reordering(rows, weight)


@functools.cache
def _gradient_of_weight(geometry: Geometry) -> tuple[dnnl.Primitive, int, dnnl.Reordering]:
    maps, any_weight, rows, output, sizes, forward = _described(geometry)
    backward = dnnl.create(
        "convolution_backward_weights_primitive_desc_create",
        *(dnnl.engine(), dnnl.CONVOLUTION_AUTO, maps, any_weight, None, output, *sizes, forward, None),
    )
    weight = dnnl.queried(backward, dnnl.QUERY_GRADIENT_WEIGHTS)
    arguments = {
        dnnl.DESTINATION + dnnl.GRADIENT: output,
        dnnl.SOURCE: maps,
        dnnl.WEIGHTS + dnnl.GRADIENT: weight,
    }
    return dnnl.Primitive(backward, arguments), dnnl.size_of(weight) // 4, dnnl.Reordering(weight, rows)


class _Described(NamedTuple):
    maps: Any
    any_weight: Any
    rows: Any  # the weight as Paddle stores it
    output: Any
    sizes: tuple[Any, ...]
    forward: Any


@functools.cache
def _described(geometry: Geometry) -> _Described:
    outputs, inputs, *kernel = geometry.weight
    groups = geometry.groups
    shape = geometry.weight if groups == 1 else (groups, outputs // groups, inputs, *kernel)
    maps, output = dnnl.channels_last(geometry.maps), dnnl.channels_last(geometry.output)
    any_weight = dnnl.described(shape)
    between = [gap - 1 for gap in geometry.dilation]  # oneDNN counts the skipped pixels
    sizes = tuple(map(dnnl.dimensions, (geometry.stride, between, geometry.padding, geometry.padding)))
    forward = dnnl.create(
        "convolution_forward_primitive_desc_create",
        *(dnnl.engine(), dnnl.FORWARD, dnnl.CONVOLUTION_AUTO, maps, any_weight, None, output, *sizes, None),
    )
    return _Described(maps, any_weight, dnnl.row_major(shape), output, sizes, forward)
