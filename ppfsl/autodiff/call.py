"""Calling a layer with other tensors in place of its parameters."""

import difflib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import paddle
from paddle import nn

_BATCH_NORMS = (nn.BatchNorm, nn.BatchNorm1D, nn.BatchNorm2D, nn.BatchNorm3D, nn.SyncBatchNorm)
_RECURRENT = (nn.SimpleRNN, nn.LSTM, nn.GRU)

_lock = threading.RLock()

# Where a layer keeps a parameter or buffer: the dictionary and the key in it, or the list and the place in it.
_Slots = dict[str, list[tuple[Any, Any]]]


def trainable_parameters(layer: nn.Layer) -> dict[str, paddle.Tensor]:
    """The parameters that learn, under the names of `named_parameters`; no running statistics."""
    return {name: parameter for name, parameter in layer.named_parameters() if not parameter.stop_gradient}


def functional_call(layer: nn.Layer, parameters: Mapping[str, paddle.Tensor], *inputs: Any, **keywords: Any) -> Any:
    """What `layer(*inputs, **keywords)` returns with other tensors in place of its parameters.

    The tensors keep their graphs, so that the result can be differentiated through what they were computed from. The
    layer, its running statistics included, is afterwards what it was before, even if an exception passes.

    Args:
        layer: any layer; parameters that it keeps elsewhere than in attributes of it or its sublayers stay its own.
        parameters: tensors under the names of `named_parameters` (or `named_buffers`), of the same shapes. Those not
            named stay the layer's own. A parameter shared between two places has one name, the first, and is replaced
            in both.
        inputs: of the layer.
        keywords: of the layer.

    Raises:
        ValueError: for a name that the layer does not have, or a tensor of another shape.
        TypeError: for what is no tensor.
    """
    return call_with_statistics(layer, parameters, *inputs, **keywords)[0]


def call_with_statistics(
    layer: nn.Layer, parameters: Mapping[str, paddle.Tensor], *inputs: Any, **keywords: Any
) -> tuple[Any, dict[str, paddle.Tensor]]:
    """What `functional_call` returns, and the statistics that the layer itself would have after the call.

    The statistics are the running means and variances of batch norm and all buffers, new tensors under their names;
    `{**parameters, **statistics}` continues with them in the next call.
    """
    with substituted(layer, parameters) as statistics:
        output = layer(*inputs, **keywords)
    return output, statistics


@contextmanager
def substituted(layer: nn.Layer, parameters: Mapping[str, paddle.Tensor]) -> Iterator[dict[str, paddle.Tensor]]:
    """A context in which the layer's parameters are others; for methods other than `forward`.

    Yields a dictionary that is empty until the context ends and holds the statistics of `call_with_statistics` then.
    Threads wait for one another here; a plain call of the layer from another thread does not wait.
    """
    statistics: dict[str, paddle.Tensor] = {}
    with _lock:
        slots, held = _slots(layer)
        _check(layer, parameters, slots)
        own = {name: places[0][0][places[0][1]] for name, places in slots.items()}
        buffers = [(sublayer._buffers, dict(sublayer._buffers)) for sublayer in layer.sublayers(include_self=True)]
        try:
            for name in (*parameters, *(name for name in held if name not in parameters)):
                value = parameters.get(name, own[name])
                if name in held:  # the forward pass writes to it
                    with paddle.no_grad():
                        value = value.detach().clone()
                _put(slots[name], value)
            yield statistics
            statistics |= {name: slots[name][0][0].get(slots[name][0][1], own[name]) for name in held}
        finally:
            for name in (*parameters, *held):
                if name in own:
                    _put(slots[name], own[name])
            for dictionary, before in buffers:
                dictionary.clear()
                dictionary.update(before)


def _slots(layer: nn.Layer) -> tuple[_Slots, list[str]]:
    """Where every parameter and buffer is, and which of them a forward pass may write to."""
    names = {id(tensor): name for name, tensor in (*layer.named_parameters(), *layer.named_buffers())}
    slots: _Slots = {}
    held: dict[str, None] = {}
    for sublayer in layer.sublayers(include_self=True):
        for dictionary in (sublayer._parameters, sublayer._buffers):
            for key, tensor in dictionary.items():
                if tensor is None or not tensor._is_initialized():  # recurrent layers keep an empty buffer
                    continue
                name = names[id(tensor)]
                slots.setdefault(name, []).append((dictionary, key))
                running = isinstance(sublayer, _BATCH_NORMS) and key in ("_mean", "_variance")
                if running or dictionary is sublayer._buffers:
                    held[name] = None
        if isinstance(sublayer, _RECURRENT):  # which call their operator with a list of their own
            for place, tensor in enumerate(sublayer._all_weights):
                slots[names[id(tensor)]].append((sublayer._all_weights, place))
    return slots, list(held)


def _check(layer: nn.Layer, parameters: Mapping[str, paddle.Tensor], slots: _Slots) -> None:
    kind = type(layer).__name__
    for name, value in parameters.items():
        if name not in slots:
            near = difflib.get_close_matches(name, slots, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{kind} has no parameter or buffer named {name!r}{hint}")
        if not isinstance(value, paddle.Tensor):
            raise TypeError(f"{kind}: {name!r} must be a tensor, not {type(value).__name__}")
        dictionary, key = slots[name][0]
        if list(value.shape) != list(dictionary[key].shape):
            raise ValueError(
                f"{kind}: {name!r} has the shape {list(dictionary[key].shape)}, not {list(value.shape)} as given"
            )


def _put(places: list[tuple[Any, Any]], value: paddle.Tensor) -> None:
    for dictionary, key in places:
        dictionary[key] = value
