"""What oneDNN's operators have in common as parts of Paddle's graphs."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import paddle


def save(ctx: Any, *tensors: paddle.Tensor) -> None:
    """Keep tensors for the backward pass of a `PyLayer`."""
    ctx.save_for_backward(*tensors)
    ctx.versions = [tensor.inplace_version for tensor in tensors]


def saved(ctx: Any) -> tuple[paddle.Tensor, ...]:
    """What was kept.

    Raises:
        RuntimeError: when one of the tensors was changed in place, as Paddle's own operators do.
    """
    tensors: tuple[paddle.Tensor, ...] = ctx.saved_tensor()
    if [tensor.inplace_version for tensor in tensors] != ctx.versions:
        raise RuntimeError("a tensor that the backward pass needs was changed in place after the forward pass")
    return tensors


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


@contextmanager
def memory_errors() -> Iterator[None]:
    """Within this context a lack of memory is a MemoryError in backward passes, too.

    What a `PyLayer` raises there, Paddle turns into an OSError that tells of it in words.
    """
    try:
        yield
    except OSError as error:
        _, found, reason = str(error).partition("MemoryError: ")
        if found:
            raise MemoryError(reason.strip()) from None
        raise
