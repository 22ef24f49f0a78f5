"""Numbers to take losses of, and plain loops in float64 to hold against losses and gradients."""

from collections.abc import Callable

import numpy as np
import paddle

from ppfsl.randomness import generator


def draw(*shape: int, key: str = "x", scale: float = 1.0) -> np.ndarray:
    return scale * generator(0, "test losses", key, *shape).standard_normal(shape)


def tensor(value: np.ndarray, grad: bool = False) -> paddle.Tensor:
    return paddle.to_tensor(value, stop_gradient=not grad)


def check_gradient(function: Callable[[paddle.Tensor], paddle.Tensor], point: np.ndarray, step: float = 1e-6) -> None:
    """Backward against central differences."""
    x = tensor(point, grad=True)
    function(x).backward()
    expected = np.empty_like(point)
    for place in np.ndindex(*point.shape):
        up, down = point.copy(), point.copy()
        up[place] += step
        down[place] -= step
        expected[place] = (function(tensor(up)).item() - function(tensor(down)).item()) / (2 * step)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-5, atol=1e-7)


def distances_of(x: np.ndarray) -> np.ndarray:
    return np.asarray([[sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) for q in x] for p in x])
