"""Making a network twice differentiable."""

import functools
from typing import Any, TypeVar

from paddle import nn

from ppfsl.autodiff.graph import recording
from ppfsl.autodiff.native import twice_differentiable_operators

L = TypeVar("L", bound=nn.Layer)


def twice_differentiable(layer: L) -> L:
    """The same layer, with operators that can be differentiated twice: same names, same outputs, same parameters.

    What comes back shares everything with the layer given (parameters, sublayers, buffers, mode): it is the same object
    under another class, a subclass of the layer's. Only calling it differs: it runs in a
    `twice_differentiable_operators` context, whatever its forward pass calls. Other methods of it, and sublayers called
    by themselves, do not: call those within the context. A transformed layer is returned as it is.

    Its forward and backward passes take one and a half times to twice as long as the plain layer's. What is to be
    differentiated once, such as MAML's loss on the queries, may as well come from the plain layer: the parameters are
    the same.

    An operation that still has no second derivative raises `SecondOrderError` in `grad`, with the layer's name.
    """
    if isinstance(layer, _TwiceDifferentiable):
        return layer
    kind: Any = type(layer)
    view = object.__new__(_subclass(kind))
    object.__setattr__(view, "__dict__", layer.__dict__)
    return view


class _TwiceDifferentiable:
    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        with twice_differentiable_operators(), recording(self, (inputs, keywords)) as outputs:
            output = super().__call__(*inputs, **keywords)  # type: ignore[misc]
            outputs.append(output)
        return output


@functools.cache
def _subclass(kind: type) -> Any:
    names = {"__module__": kind.__module__, "__doc__": kind.__doc__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, (_TwiceDifferentiable, kind), names)
