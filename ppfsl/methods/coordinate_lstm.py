"""Recurrent networks that see every number of a network's weights by itself, and all of them alike."""

import math

import paddle
from paddle import nn


def preprocessed(values: paddle.Tensor, p: float = 10.0) -> paddle.Tensor:
    """Numbers of any magnitude as two numbers within -1 .. 1 or so (Andrychowicz et al. 2016, appendix A).

    Args:
        values: of any shape.
        p: below exp(-p) in magnitude, numbers are small.

    Returns:
        [..., 2]: (log|v| / p, sign v), or (-1, exp(p) v) where v is small.
    """
    magnitude = values.abs()
    large = magnitude >= math.exp(-p)
    logarithm = paddle.log(magnitude.clip(min=math.exp(-p))) / p
    first = paddle.where(large, logarithm, paddle.full_like(values, -1.0))
    second = paddle.where(large, values.sign(), values * math.exp(p))
    return paddle.stack([first, second], axis=-1)


def lstm_cell(inputs: int, hidden: int) -> nn.LSTMCell:
    """With biases of zero, since Paddle would draw them from its global generator."""
    zero = paddle.ParamAttr(initializer=nn.initializer.Constant(0.0))
    return nn.LSTMCell(inputs, hidden, bias_ih_attr=zero, bias_hh_attr=zero)
