"""Batch, layer, group and instance normalisation with exact first and second derivatives."""

import math
from collections.abc import Sequence

import paddle


def batch_norm(
    x: paddle.Tensor,
    running_mean: paddle.Tensor,
    running_variance: paddle.Tensor,
    weight: paddle.Tensor | None = None,
    bias: paddle.Tensor | None = None,
    training: bool = True,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
    channel_last: bool = False,
) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    """Normalise every channel over the batch and the positions, or by running statistics.

    Args:
        x: [N, C, ...], or [N, ..., C] where `channel_last`.
        running_mean: [C].
        running_variance: [C].
        weight: what a normalised channel is multiplied by, [C].
        bias: what is added then, [C].
        training: whether the batch's own mean and variance (divided by their count) count, or the running ones.
        momentum: how much of the old running statistics stays; 0.9 keeps nine tenths.
        epsilon: added to the variance.
        channel_last: where the channels are.

    Returns:
        The normalised x and the new running mean and variance; the ones given where not `training`. They have no graph,
        and those given stay as they are.
    """
    channels = x.shape[-1] if channel_last or x.ndim == 2 else x.shape[1]
    last = channel_last or x.ndim == 2
    maps = x.reshape([-1, channels] if last else [x.shape[0], channels, -1])
    axes, column = ([0], [channels]) if last else ([0, 2], [channels, 1])
    if training:
        mean = maps.mean(axes)
        maps = maps - mean.reshape(column)
        variance = maps.square().mean(axes)
        with paddle.no_grad():
            running_mean = running_mean * momentum + mean.detach() * (1 - momentum)
            running_variance = running_variance * momentum + variance.detach() * (1 - momentum)
        shift = bias
    else:
        variance = running_variance.detach()
    scale = paddle.rsqrt(variance + epsilon)
    if weight is not None:
        scale = scale * weight
    if not training:  # the mean goes into the bias, which spares a pass over the maps
        shift = -running_mean.detach() * scale if bias is None else bias - running_mean.detach() * scale
    result = maps * scale.reshape(column)
    if shift is not None:
        result = result + shift.reshape(column)
    return result.reshape(x.shape), running_mean, running_variance


def layer_norm(
    x: paddle.Tensor,
    normalized_shape: int | Sequence[int],
    weight: paddle.Tensor | None = None,
    bias: paddle.Tensor | None = None,
    epsilon: float = 1e-5,
) -> paddle.Tensor:
    """Normalise over the last axes, whose sizes are `normalized_shape`; weight and bias have as many numbers."""
    size = normalized_shape if isinstance(normalized_shape, int) else math.prod(normalized_shape)
    result = _standardized(x.reshape([-1, size]), epsilon)
    if weight is not None:
        result = result * weight.reshape([size])
    if bias is not None:
        result = result + bias.reshape([size])
    return result.reshape(x.shape)


def group_norm(
    x: paddle.Tensor,
    groups: int,
    weight: paddle.Tensor | None = None,
    bias: paddle.Tensor | None = None,
    epsilon: float = 1e-5,
) -> paddle.Tensor:
    """Normalise each image of [N, C, ...] over groups of C / groups channels and the positions; weight and bias [C]."""
    n, channels = x.shape[:2]
    result = _standardized(x.reshape([n * groups, -1]), epsilon).reshape([n, channels, -1])
    if weight is not None:
        result = result * weight.reshape([channels, 1])
    if bias is not None:
        result = result + bias.reshape([channels, 1])
    return result.reshape(x.shape)


def instance_norm(
    x: paddle.Tensor,
    weight: paddle.Tensor | None = None,
    bias: paddle.Tensor | None = None,
    epsilon: float = 1e-5,
) -> paddle.Tensor:
    """Normalise each channel of each image of [N, C, ...] over the positions; weight and bias [C]."""
    return group_norm(x, x.shape[1], weight, bias, epsilon)


def _standardized(rows: paddle.Tensor, epsilon: float) -> paddle.Tensor:
    """[M, L] -> the same with mean zero and variance one in every row."""
    centred = rows - rows.mean(-1, keepdim=True)
    return centred * paddle.rsqrt(centred.square().mean(-1, keepdim=True) + epsilon)
