"""What oneDNN's operators have in common as parts of Paddle's graphs."""

import functools
from collections.abc import Callable
from typing import Any

import paddle


def first_order_only(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """For the backward pass of a `PyLayer`: refuse to be part of a graph, in which its derivative would be zero."""

    def decorate(backward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(backward)
        def checked(ctx: Any, *gradients: paddle.Tensor) -> Any:
            if paddle.is_grad_enabled():  # Paddle computes with create_graph=True
                raise NotImplementedError(
                    f"{name} within fast_operators() can be differentiated once only; "
                    "for create_graph=True call the network within twice_differentiable_operators()"
                )
            return backward(ctx, *gradients)

        return checked

    return decorate
