"""Gradients by name, of which gradients can be taken."""

import re
from collections.abc import Mapping

import paddle

from ppfsl.autodiff import graph
from ppfsl.errors import UserError


class SecondOrderError(UserError):
    """An operation on the way from the loss to the parameters has no (right) second derivative."""


def grad(
    loss: paddle.Tensor,
    parameters: Mapping[str, paddle.Tensor],
    create_graph: bool = False,
    allow_unused: bool = False,
) -> dict[str, paddle.Tensor]:
    """The derivatives of a loss by tensors, under the tensors' names.

    Args:
        loss: a tensor of one number.
        parameters: the tensors, leaves or computed.
        create_graph: whether the gradients get a graph of their own, so that they can be differentiated in turn. What
            lies between the loss and the parameters must then come from `twice_differentiable` networks and
            `ppfsl.autodiff`'s operators, or from a `twice_differentiable_operators` context.
        allow_unused: whether a parameter that the loss does not depend on gets zeros.

    Returns:
        Tensors of the parameters' shapes.

    Raises:
        ValueError: for a loss of several numbers, or a parameter that it does not depend on.
        SecondOrderError: with `create_graph`, for an operation that has no second derivative, or one of which Paddle
            would give a wrong one without a word; it names the layer where it knows it.
    """
    if loss.size != 1:
        raise ValueError(f"the loss must be one number, not a tensor of the shape {list(loss.shape)}")
    # One tensor under two names is requested once.
    distinct = {id(tensor): tensor for tensor in parameters.values() if not tensor.stop_gradient}
    gradients: dict[int, paddle.Tensor | None] = {}
    if distinct and not loss.stop_gradient:
        if create_graph:
            _check(loss, parameters)
        tensors = list(distinct.values())
        gradients = dict(zip(distinct, _gradients(loss, tensors, create_graph), strict=True))
    unused = [name for name, tensor in parameters.items() if gradients.get(id(tensor)) is None]
    if unused and not allow_unused:
        named = ", ".join(repr(name) for name in unused[:3]) + (" and others" if len(unused) > 3 else "")
        frozen = [name for name in unused if parameters[name].stop_gradient]
        if frozen:
            raise ValueError(f"{frozen[0]!r} is frozen; leave it out, or pass allow_unused=True for zeros")
        raise ValueError(f"the loss does not depend on {named}; leave them out, or pass allow_unused=True for zeros")
    return {
        name: paddle.zeros_like(tensor) if (gradient := gradients.get(id(tensor))) is None else gradient
        for name, tensor in parameters.items()
    }


def _gradients(loss: paddle.Tensor, tensors: list[paddle.Tensor], create_graph: bool) -> list[paddle.Tensor | None]:
    try:
        return paddle.grad([loss], tensors, create_graph=create_graph, allow_unused=True)
    except (RuntimeError, ValueError) as error:
        operation = _without_derivative(str(error))
        if operation is None:
            raise
        raise _lacking(operation) from error


def _lacking(operation: str) -> SecondOrderError:
    layers = graph.layers_with(operation)
    where = f" in the layer {' or '.join(layers[:3])}" if layers else ""
    return SecondOrderError(
        f"the operation {operation!r}{where} has no second derivative in this Paddle; "
        "use another, or gradients of first order"
    )


def _check(loss: paddle.Tensor, parameters: Mapping[str, paddle.Tensor]) -> None:
    found = graph.suspicious(loss, {name: value for name, value in parameters.items() if not value.stop_gradient})
    if found is not None:
        operation, parameter = found
        if operation in graph.TRANSPOSED:
            raise _lacking(graph.TRANSPOSED[operation])
        raise SecondOrderError(
            f"Paddle's own {operation} between the loss and {parameter!r} would give a wrong second derivative; "
            "run the network through twice_differentiable()"
        )


def _without_derivative(message: str) -> str | None:
    """The operation that Paddle complains of, if it is its missing second derivative that it complains of."""
    if match := re.search(r"The Op (\w+?)_grad doesn't have any grad op", message):
        return match[1]
    if match := re.search(r"kernel `(\w+?)_(?:double_grad|grad_grad)` is not registered", message):
        return match[1]
    return "pool2d" if "grad grad only supports avgpool" in message else None
