"""Max pooling by oneDNN."""

import functools
from typing import Any, NamedTuple

import numpy as np
import paddle
from paddle.autograd import PyLayer

from ppfsl.onednn import library as dnnl
from ppfsl.onednn.gradient import first_order_only
from ppfsl.onednn.layout import as_channels_first, as_channels_last, empty_channels_last


class Window(NamedTuple):
    """All that fixes a pooling but the numbers: maps [N, C, H, W]."""

    maps: tuple[int, ...]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    @property
    def output(self) -> tuple[int, ...]:
        """[N, C, H', W']."""
        sides = (
            (size + 2 * padding - kernel) // stride + 1
            for size, kernel, stride, padding in zip(self.maps[2:], self.kernel, self.stride, self.padding, strict=True)
        )
        return (*self.maps[:2], *sides)


def max_pooling(maps: paddle.Tensor, window: Window) -> paddle.Tensor:
    """The greatest number of every window, [N, C, H', W'], channels last in memory; differentiable once.

    Of equal numbers, the first gets the gradient, as with Paddle's own.
    """
    return _MaxPooling.apply(maps, window)


class _MaxPooling(PyLayer):
    @staticmethod
    def forward(ctx: Any, maps: paddle.Tensor, window: Window) -> paddle.Tensor:
        run, _, room = _primitives(window)
        maps, output = as_channels_last(maps), empty_channels_last(window.output)
        ctx.window, ctx.places = window, np.empty(room, np.uint8)
        run(maps.data_ptr(), output.data_ptr(), ctx.places.ctypes.data)
        return as_channels_first(output)

    @staticmethod
    @first_order_only("a max pooling")
    def backward(ctx: Any, gradient: paddle.Tensor) -> paddle.Tensor:
        _, run, _ = _primitives(ctx.window)
        gradient, of_maps = as_channels_last(gradient), empty_channels_last(ctx.window.maps)
        run(gradient.data_ptr(), of_maps.data_ptr(), ctx.places.ctypes.data)
        return as_channels_first(of_maps)


@functools.cache
def _primitives(window: Window) -> tuple[dnnl.Primitive, dnnl.Primitive, int]:
    """Forward, backward, and the bytes in which the one notes the places of the maxima for the other."""
    maps, output = dnnl.channels_last(window.maps), dnnl.channels_last(window.output)
    adjacent = (0, 0)
    sizes = tuple(
        map(dnnl.dimensions, (window.stride, window.kernel, adjacent, window.padding, window.padding)),
    )
    forward = dnnl.create(
        "pooling_forward_primitive_desc_create",
        *(dnnl.engine(), dnnl.FORWARD, dnnl.POOLING_MAX, maps, output, *sizes, None),
    )
    backward = dnnl.create(
        "pooling_backward_primitive_desc_create",
        *(dnnl.engine(), dnnl.POOLING_MAX, maps, output, *sizes, forward, None),
    )
    places = dnnl.queried(forward, dnnl.QUERY_WORKSPACE)
    there = {dnnl.SOURCE: maps, dnnl.DESTINATION: output, dnnl.WORKSPACE: places}
    back = {
        dnnl.DESTINATION + dnnl.GRADIENT: output,
        dnnl.SOURCE + dnnl.GRADIENT: maps,
        dnnl.WORKSPACE: places,
    }
    return dnnl.Primitive(forward, there), dnnl.Primitive(backward, back), dnnl.size_of(places)
