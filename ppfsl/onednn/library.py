"""The part of oneDNN's C interface (version 3) that is used here: memory descriptors and primitives."""

import ctypes
import functools
import threading
from collections.abc import Mapping, Sequence
from ctypes import POINTER, Structure, byref, c_float, c_int, c_int64, c_size_t, c_uint, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import paddle

# Values of oneDNN's enumerations, the same in every version 3 (dnnl_types.h).
FORWARD, BACKWARD = 64, 128
CONVOLUTION_AUTO, POOLING_MAX = 0x3, 0x1FF
USE_GLOBAL_STATISTICS, USE_SCALE, USE_SHIFT = 1, 2, 4
SOURCE, DESTINATION, WEIGHTS, MEAN, VARIANCE, SCALE, SHIFT, WORKSPACE = 1, 17, 33, 49, 50, 51, 52, 64
GRADIENT = 128  # of an argument: its own number and this; but those of scale and shift
GRADIENT_SCALE, GRADIENT_SHIFT = 255, 256
QUERY_WEIGHTS, QUERY_GRADIENT_WEIGHTS, QUERY_WORKSPACE = 131, 132, 135
_CPU, _FLOAT32, _ANY_LAYOUT, _IN_ORDER, _MOST_DIMENSIONS = 1, 3, 1, 1, 12

_Dimensions = c_int64 * _MOST_DIMENSIONS
_lock = threading.RLock()  # a primitive's memory objects are shared by all who call it


class OneDNNError(RuntimeError):
    """A call of oneDNN failed, with its status."""


class _Version(Structure):
    _fields_ = (("major", c_int), ("minor", c_int), ("patch", c_int))


class _Argument(Structure):
    _fields_ = (("index", c_int), ("memory", c_void_p))


_P, _PP = c_void_p, POINTER(c_void_p)
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "engine_create": (_PP, c_int, c_size_t),
    "stream_create": (_PP, _P, c_uint),
    "stream_wait": (_P,),
    "memory_desc_create_with_strides": (_PP, c_int, _Dimensions, c_int, _Dimensions),
    "memory_desc_create_with_tag": (_PP, c_int, _Dimensions, c_int, c_int),
    "memory_create": (_PP, _P, _P, _P),
    "memory_set_data_handle": (_P, _P),
    "primitive_create": (_PP, _P),
    "primitive_execute": (_P, _P, c_int, POINTER(_Argument)),
    "reorder_primitive_desc_create": (_PP, _P, _P, _P, _P, _P),
    "convolution_forward_primitive_desc_create": (_PP, _P, c_int, c_int, *(_P,) * 4, *(_Dimensions,) * 4, _P),
    "convolution_backward_data_primitive_desc_create": (_PP, _P, c_int, *(_P,) * 3, *(_Dimensions,) * 4, _P, _P),
    "convolution_backward_weights_primitive_desc_create": (_PP, _P, c_int, *(_P,) * 4, *(_Dimensions,) * 4, _P, _P),
    "pooling_forward_primitive_desc_create": (_PP, _P, c_int, c_int, _P, _P, *(_Dimensions,) * 5, _P),
    "pooling_backward_primitive_desc_create": (_PP, _P, c_int, _P, _P, *(_Dimensions,) * 5, _P, _P),
    "batch_normalization_forward_primitive_desc_create": (_PP, _P, c_int, _P, _P, c_float, c_uint, _P),
    "batch_normalization_backward_primitive_desc_create": (_PP, _P, c_int, *(_P,) * 3, c_float, c_uint, _P, _P),
}


@functools.cache
def library() -> ctypes.CDLL:
    """oneDNN as Paddle ships it, its functions' arguments declared.

    Raises:
        OSError: when there is none, or not version 3.
    """
    folder = Path(paddle.__file__).parent / "libs"
    found = sorted([*folder.glob("libdnnl*"), *folder.glob("mkldnn.dll")])
    if not found:
        raise OSError(f"this Paddle ships no oneDNN in {folder}")
    dnnl = ctypes.CDLL(str(found[0]))
    dnnl.dnnl_version.restype = POINTER(_Version)
    version = dnnl.dnnl_version().contents
    if version.major != 3:
        raise OSError(f"this Paddle ships oneDNN {version.major}.{version.minor}, not version 3")
    for name, arguments in _SIGNATURES.items():
        getattr(dnnl, f"dnnl_{name}").argtypes = arguments
    dnnl.dnnl_primitive_desc_query_md.argtypes = (_P, c_int, c_int)
    dnnl.dnnl_primitive_desc_query_md.restype = _P
    dnnl.dnnl_memory_desc_equal.argtypes = (_P, _P)
    dnnl.dnnl_memory_desc_get_size.argtypes = (_P,)
    dnnl.dnnl_memory_desc_get_size.restype = c_size_t
    return dnnl


def call(name: str, *arguments: Any) -> None:
    """Call a function that returns a status.

    Raises:
        OneDNNError: when that is not "success".
    """
    status = getattr(library(), f"dnnl_{name}")(*arguments)
    if status:
        raise OneDNNError(f"oneDNN's {name} returned status {status}")


def create(name: str, *arguments: Any) -> c_void_p:
    """Call a function whose first argument is where to put the object it makes."""
    made = c_void_p()
    call(name, byref(made), *arguments)
    return made


@functools.cache
def engine() -> c_void_p:
    """The CPU."""
    return create("engine_create", _CPU, 0)


@functools.cache
def _stream() -> c_void_p:
    return create("stream_create", engine(), _IN_ORDER)


def dimensions(values: Sequence[int]) -> Any:
    """As oneDNN takes sizes, strides and paddings."""
    return _Dimensions(*values)


def described(shape: Sequence[int], strides: Sequence[int] | None = None) -> c_void_p:
    """A float32 tensor with such strides (in elements), or, without any, in whatever layout oneDNN likes best."""
    sizes = dimensions(shape)
    if strides is None:
        return create("memory_desc_create_with_tag", len(shape), sizes, _FLOAT32, _ANY_LAYOUT)
    return create("memory_desc_create_with_strides", len(shape), sizes, _FLOAT32, dimensions(strides))


def channels_last(shape: Sequence[int]) -> c_void_p:
    """A map [N, C, H, W] stored as [N, H, W, C]."""
    _, channels, height, width = shape
    return described(shape, (height * width * channels, 1, width * channels, channels))


def row_major(shape: Sequence[int]) -> c_void_p:
    """A tensor as Paddle stores it."""
    return described(shape, [int(np.prod(shape[place + 1 :])) for place in range(len(shape))])


def queried(primitive: c_void_p, what: int) -> c_void_p:
    """How a primitive wants one of its arguments; owned by the primitive's descriptor, which is never destroyed."""
    return c_void_p(library().dnnl_primitive_desc_query_md(primitive, what, 0))


def size_of(description: c_void_p) -> int:
    """In bytes."""
    return int(library().dnnl_memory_desc_get_size(description))


class Primitive:
    """Something oneDNN can do with memory at given addresses.

    Args:
        description: the primitive's.
        arguments: how each argument lies in memory, by its number.
    """

    def __init__(self, description: c_void_p, arguments: Mapping[int, c_void_p]) -> None:
        self._primitive = create("primitive_create", description)
        self._memories = [create("memory_create", how, engine(), None) for how in arguments.values()]
        pairs = zip(arguments, self._memories, strict=True)
        self._arguments = (_Argument * len(arguments))(*(_Argument(index, memory) for index, memory in pairs))

    def __call__(self, *addresses: int) -> None:
        """Run on memory at these addresses, in the arguments' order; return when it is done."""
        with _lock:
            for memory, address in zip(self._memories, addresses, strict=True):
                call("memory_set_data_handle", memory, address)
            call("primitive_execute", self._primitive, _stream(), len(addresses), self._arguments)
            call("stream_wait", _stream())


class Reordering:
    """Copies a tensor from one layout to another; nothing to do where they are the same."""

    def __init__(self, before: c_void_p, after: c_void_p) -> None:
        self.needed = not library().dnnl_memory_desc_equal(before, after)
        self._bytes = size_of(after)
        if self.needed:
            description = create("reorder_primitive_desc_create", before, engine(), after, engine(), None)
            self._copy = Primitive(description, {SOURCE: before, DESTINATION: after})

    def __call__(self, tensor: paddle.Tensor) -> paddle.Tensor:
        """The tensor's numbers in the other layout, which only oneDNN can read."""
        if not self.needed:
            return tensor
        copy = paddle.empty([self._bytes // 4], "float32")
        self._copy(tensor.data_ptr(), copy.data_ptr())
        return copy
