"""Maps [N, C, H, W] whose memory holds [N, H, W, C], oneDNN's favourite layout on a CPU.

Such a map is a view of an ordinary tensor: all of Paddle takes it, copying where it must.
"""

from collections.abc import Sequence

import paddle


def as_channels_last(maps: paddle.Tensor) -> paddle.Tensor:
    """[N, H, W, C], contiguous: a view of [N, C, H, W] where that has its channels last in memory, else a copy."""
    return maps.transpose([0, 2, 3, 1]).contiguous()


def as_channels_first(maps: paddle.Tensor) -> paddle.Tensor:
    """A view [N, C, H, W] of [N, H, W, C]."""
    return maps.transpose([0, 3, 1, 2])


def empty_channels_last(shape: Sequence[int]) -> paddle.Tensor:
    """Unset memory [N, H, W, C] for a map of shape [N, C, H, W]."""
    count, channels, height, width = shape
    return paddle.empty([count, height, width, channels], "float32")


def has_channels_last(maps: paddle.Tensor) -> bool:
    """Whether a map [N, C, H, W] has its channels last in memory."""
    if maps.ndim != 4 or maps.is_contiguous():
        return False
    _, channels, height, width = maps.shape
    return bool(list(maps.strides) == [height * width * channels, 1, width * channels, channels])
