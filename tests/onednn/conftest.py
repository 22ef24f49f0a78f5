"""Checks of oneDNN's operators, which count how often each was called: a fallback proves nothing about them."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import paddle
import pytest

from ppfsl.onednn import fast_operators, native

OPERATORS = ("convolution", "max_pooling", "batch_normalization")
Calls = Mapping[str, int]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each of oneDNN's operators has been called in this test."""
    counted: Counter[str] = Counter()

    def counting(name: str, operator: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any) -> Any:
            counted[name] += 1
            return operator(*arguments)

        return called

    for name in OPERATORS:
        monkeypatch.setattr(native, name, counting(name, getattr(native, name)))
    return counted


def assert_near(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], tolerance: float) -> None:
    """Equal by tensor, relative to its length; those that vanish, relative to the longest."""
    longest = max(float(np.linalg.norm(value)) for value in expected.values())
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        error = float(np.linalg.norm(found[name].astype(np.float64) - value))
        assert error <= tolerance * max(float(np.linalg.norm(value)), 1e-4 * longest), f"{name}: {error:.1e}"


@pytest.fixture(scope="session")
def near() -> Callable[..., None]:
    return assert_near


def differentiated(
    function: Callable[..., paddle.Tensor], tensors: list[paddle.Tensor]
) -> tuple[paddle.Tensor, dict[str, np.ndarray]]:
    """The output, and it and the gradients of a sum that treats no two of its numbers alike, as arrays."""
    for tensor in tensors:
        tensor.stop_gradient = False
    output = function(*tensors)
    factors = np.random.default_rng(3).normal(size=output.shape).astype(np.float32)
    loss = (output * paddle.to_tensor(factors).astype(output.dtype)).sum()
    found = paddle.grad([loss], tensors)
    return output, {"output": output.numpy(), **{str(number): value.numpy() for number, value in enumerate(found)}}


@pytest.fixture
def check(calls: Counter[str]) -> Callable[..., paddle.Tensor]:
    """Gives a check of a function of float32 tensors within the context against Paddle's own in float64.

    The tensors may lie in memory however they like. Returns the output.
    """

    def check(
        function: Callable[..., paddle.Tensor],
        *tensors: paddle.Tensor | np.ndarray,
        expected: Calls,
        tolerance: float = 3e-6,
    ) -> paddle.Tensor:
        own = [paddle.to_tensor(np.asarray(tensor, np.float64)) for tensor in tensors]
        fast = [
            tensor if isinstance(tensor, paddle.Tensor) else paddle.to_tensor(tensor.astype(np.float32))
            for tensor in tensors
        ]
        _, reference = differentiated(function, own)
        assert not calls

        def within(*leaves: paddle.Tensor) -> paddle.Tensor:
            with fast_operators():
                return function(*leaves)

        output, found = differentiated(within, fast)
        assert dict(calls) == expected
        assert all(value.dtype == np.float32 for value in found.values())
        assert_near(found, reference, tolerance)
        calls.clear()
        return output

    return check


@pytest.fixture
def check_fallback(calls: Counter[str]) -> Callable[..., None]:
    """Gives a check that a call within the context is Paddle's own, to the last bit, errors included."""

    def check(function: Callable[..., paddle.Tensor], *arrays: np.ndarray, differentiable: bool = True) -> None:
        def outcome() -> tuple[Any, ...]:
            tensors = [paddle.to_tensor(array) for array in arrays]
            try:
                if differentiable:
                    return tuple(differentiated(function, tensors)[1].values())
                return (function(*tensors).numpy(),)
            except (RuntimeError, ValueError, NotImplementedError) as error:
                return (type(error).__name__,)

        own = outcome()
        with fast_operators():
            fast = outcome()
        assert not calls
        assert len(own) == len(fast)
        for mine, theirs in zip(fast, own, strict=True):
            np.testing.assert_array_equal(mine, theirs)

    return check


def _channels_last(array: np.ndarray) -> paddle.Tensor:
    return paddle.to_tensor(np.moveaxis(array, 1, -1).copy()).transpose([0, 3, 1, 2])


def _expanded(array: np.ndarray) -> paddle.Tensor:
    """The first channel, in the place of all, with a stride of zero."""
    count, channels, height, width = array.shape
    first = paddle.to_tensor(array[:, :1].copy())
    return paddle.as_strided(first, [count, channels, height, width], [height * width, 0, width, 1])


def _sliced(array: np.ndarray) -> paddle.Tensor:
    """Not at the start of its memory."""
    count, channels, height, width = array.shape
    wide = np.full((count + 1, channels, height + 2, width + 3), np.nan, np.float32)
    wide[1:, :, 2:, :width] = array
    return paddle.to_tensor(wide)[1:, :, 2:, :width]


def _sliced_channels_last(array: np.ndarray) -> paddle.Tensor:
    """Channels last and in one piece, but not at the start of its memory."""
    return _channels_last(np.concatenate([np.full_like(array[:1], np.nan), array]))[1:]


LAYOUTS: dict[str, Callable[[np.ndarray], paddle.Tensor]] = {
    "rows": paddle.to_tensor,
    "channels last": _channels_last,
    "sliced": _sliced,
    "sliced channels last": _sliced_channels_last,
    "expanded": _expanded,
    "axes swapped": lambda array: paddle.to_tensor(array.transpose(3, 2, 1, 0).copy()).transpose([3, 2, 1, 0]),
}


@pytest.fixture(params=LAYOUTS)
def laid_out(request: pytest.FixtureRequest) -> Callable[[np.ndarray], paddle.Tensor]:
    """Gives float32 tensors [A, B, C, D] that lie in memory in every way."""

    def make(array: np.ndarray) -> paddle.Tensor:
        tensor = LAYOUTS[request.param](array.astype(np.float32))
        assert tensor.is_contiguous() == (request.param == "rows")
        return tensor

    return make


@pytest.fixture(params=["float16", "float64"])
def default_dtype(request: pytest.FixtureRequest) -> Any:
    """What Paddle makes of tensors that say nothing else."""
    paddle.set_default_dtype(request.param)
    yield request.param
    paddle.set_default_dtype("float32")
