"""Looking at the graph of a computation: what lies between a loss and the parameters, and which layer put it there."""

import ctypes
import functools
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import paddle
from paddle import nn

# A node of Paddle's graph. Two handles of one node are the same object as long as one of them is alive.
Node = Any


def node_of(tensor: paddle.Tensor) -> Node | None:
    """`tensor.grad_fn`, without the leak of Paddle 3.3.

    There, every look at `grad_fn` counts one reference too many, which keeps the whole graph behind it for ever.
    """
    node = tensor.grad_fn
    if node is not None:
        for _ in range(_surplus_references()):
            ctypes.pythonapi.Py_DecRef(ctypes.py_object(node))
    return node


@functools.cache
def _surplus_references() -> int:
    tensor = paddle.ones([1])
    tensor.stop_gradient = False
    other, node = object(), (tensor * tensor).grad_fn
    return max(0, sys.getrefcount(node) - sys.getrefcount(other))


TRANSPOSED = {"Conv2dTranspose": "conv2d_transpose", "DepthwiseConv2dTranspose": "depthwise_conv2d_transpose"}
"""Transposed convolutions: their kinds of nodes, and the operations."""


def suspicious(loss: paddle.Tensor, parameters: Mapping[str, paddle.Tensor]) -> tuple[str, str] | None:
    """What would give a wrong second derivative without a word: the operation and the name of a parameter behind it.

    Such are convolutions whose weight leads to a requested tensor and whose input does not, and Paddle's own batch and
    instance norm, which are wrong where not all of their inputs are requested. With them go transposed convolutions,
    of whose missing second derivative Paddle tells in too many ways. None where there is nothing of the kind.
    """
    targets = {name: node_of(tensor) for name, tensor in parameters.items()}  # keeps the handles, hence ids, alive
    names = {id(node): name for name, node in targets.items() if node is not None}
    behind: dict[int, list[Node]] = {}
    nodes = {id(node): node for node in [node_of(loss)] if node is not None}
    pending = list(nodes.values())
    while pending:
        node = pending.pop()
        following = [] if id(node) in names else node.next_functions
        behind[id(node)] = following
        for other in following:
            if other is not None and id(other) not in nodes:
                nodes[id(other)] = other
                pending.append(other)
    leads = _leads_to(behind, names)
    for place, node in nodes.items():
        if place not in leads or not behind[place]:
            continue
        kind = node.name().partition("GradNode")[0]
        if kind in ("BatchNorm", "InstanceNorm"):
            return kind.replace("Norm", " norm").lower(), leads[place]
        if kind in TRANSPOSED:
            return kind, leads[place]
        if kind in ("Conv2d", "DepthwiseConv2d"):
            x, weight = behind[place][:2]
            if weight is not None and id(weight) in leads and (x is None or id(x) not in leads):
                return "convolution", leads[id(weight)]
    return None


def _leads_to(behind: dict[int, list[Node]], targets: dict[int, str]) -> dict[int, str]:
    """For every node from which a target can be reached, the name of one."""
    before: dict[int, list[int]] = {}
    for place, following in behind.items():
        for other in following:
            if other is not None:
                before.setdefault(id(other), []).append(place)
    leads = dict(targets)
    pending = list(targets)
    while pending:
        place = pending.pop()
        for other in before.get(place, ()):
            if other not in leads:
                leads[other] = leads[place]
                pending.append(other)
    return leads


class _Record:
    """Which layers of one network put which operations into the graph."""

    def __init__(self) -> None:
        self.modes: set[bool] = set()
        self.layers: dict[str, dict[str, None]] = {}


_RECORD = "_ppfsl_operations"
_records: WeakSet[_Record] = WeakSet()


def layers_with(operation: str) -> list[str]:
    """Which layers of the networks that `recording` has seen use an operation, by Paddle's name for it."""
    key = operation.replace("_", "").lower()
    return list(dict.fromkeys(layer for record in list(_records) for layer in record.layers.get(key, ())))


@contextmanager
def recording(network: nn.Layer, inputs: Any) -> Iterator[list[Any]]:
    """Remember the operations of every layer during one forward pass, the first in training and in evaluation mode.

    Yields a list to which the output is to be appended.
    """
    outputs: list[Any] = []
    # Kept with the layer, not with the view of it that `twice_differentiable` gave, which may be gone when it is asked.
    record = network.__dict__.setdefault(_RECORD, _Record())
    _records.add(record)
    if network.training in record.modes or not paddle.is_grad_enabled():
        yield outputs
        return
    known: dict[int, Node] = {}
    for _ in _new_nodes((*network.parameters(), *network.buffers(), inputs), known):
        pass  # what came before the network is none of its layers'
    layers = [f"{type(network).__name__} itself"]

    def note(tensors: Any) -> None:
        for node in _new_nodes(tensors, known):
            operation = node.name().partition("GradNode")[0].lower()
            record.layers.setdefault(operation, {})[layers[-1]] = None

    hooks = []
    for name, sublayer in network.named_sublayers():

        def enter(layer: nn.Layer, inputs: Any, name: str = name) -> None:
            note(inputs)
            layers.append(f"{name!r} ({type(layer).__name__})")

        def leave(layer: nn.Layer, inputs: Any, output: Any) -> None:
            note(output)
            layers.pop()

        hooks += [sublayer.register_forward_pre_hook(enter), sublayer.register_forward_post_hook(leave)]
    try:
        yield outputs
        note(outputs)
        record.modes.add(network.training)
    finally:
        for hook in hooks:
            hook.remove()


def _new_nodes(tensors: Any, known: dict[int, Node]) -> Iterable[Node]:
    """The nodes behind tensors (in lists, tuples and dictionaries) up to known ones; they are known from then on."""
    pending = [node_of(tensor) for tensor in _tensors(tensors)]
    while pending:
        node = pending.pop()
        if node is not None and id(node) not in known:
            known[id(node)] = node
            yield node
            pending += node.next_functions


def _tensors(value: Any) -> Iterator[paddle.Tensor]:
    if isinstance(value, paddle.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
