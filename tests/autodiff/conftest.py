"""References for second derivatives: central differences of Paddle's own first derivatives, in float64."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from ppfsl.autodiff import functional_call, grad, twice_differentiable, twice_differentiable_operators

STEP = 1e-6

Arrays = dict[str, np.ndarray]


@pytest.fixture(autouse=True)
def _same_initial_weights() -> None:
    paddle.seed(0)


def _leaf(value: np.ndarray) -> paddle.Tensor:
    return paddle.to_tensor(value, stop_gradient=False)


def _scalar(y: paddle.Tensor, weights: np.ndarray) -> paddle.Tensor:
    """A curved function of y that treats no two of its numbers alike."""
    weights = paddle.to_tensor(weights)
    return (y * weights).sum() + (y * y * (weights * weights + 0.5)).sum()


def assert_close(actual: Arrays, expected: Arrays, relative: float = 1e-6) -> None:
    """Equal by tensor, relative to its greatest number, or to 1e-3 of the greatest of all for those that are zero."""
    overall = max(float(np.abs(value).max()) for value in expected.values())
    for name, value in expected.items():
        error, scale = float(np.abs(actual[name] - value).max()), float(np.abs(value).max())
        assert error <= relative * max(scale, 1e-3 * overall), (
            f"{name}: {error / max(scale, 1e-300):.1e} of {scale:.1e}"
        )


@pytest.fixture(scope="session")
def close() -> Callable[..., None]:
    return assert_close


@pytest.fixture(scope="session")
def check_operator() -> Callable[..., None]:
    """Gives a check of an operator against Paddle's, for every choice of requested inputs."""

    def check(ours: Callable[..., Any], native: Callable[..., Any], *arrays: np.ndarray, exact: float = 1e-12) -> None:
        rng = np.random.default_rng(7)
        values = {str(number): array.astype(np.float64) for number, array in enumerate(arrays)}
        output = native(*map(_leaf, values.values()))
        weights = rng.normal(size=output.shape)
        vectors = {name: rng.normal(size=value.shape) for name, value in values.items()}

        def gradient(f: Callable[..., Any], at: Arrays) -> tuple[paddle.Tensor, Arrays]:
            leaves = {name: _leaf(value) for name, value in at.items()}
            y = f(*leaves.values())
            found = paddle.grad(_scalar(y, weights), list(leaves.values()), allow_unused=True)
            zeros = (np.zeros_like(value) for value in at.values())
            return y, {
                n: z if g is None else g.numpy() for (n, _), g, z in zip(leaves.items(), found, zeros, strict=True)
            }

        y, first = gradient(ours, values)
        y_native, first_native = gradient(native, values)
        np.testing.assert_allclose(y.numpy(), y_native.numpy(), rtol=exact, atol=exact)
        assert_close(first, first_native, max(exact, 1e-11))
        for count in range(1, len(values) + 1):
            for requested in combinations(values, count):
                moved = [
                    gradient(native, {n: v + s * STEP * vectors[n] * (n in requested) for n, v in values.items()})[1]
                    for s in (1, -1)
                ]
                expected = {name: (moved[0][name] - moved[1][name]) / (2 * STEP) for name in values}
                leaves = {name: _leaf(value) for name, value in values.items()}
                loss = _scalar(ours(*leaves.values()), weights)
                inner = grad(loss, {name: leaves[name] for name in requested}, create_graph=True, allow_unused=True)
                product = paddle.add_n([(inner[name] * paddle.to_tensor(vectors[name])).sum() for name in requested])
                outer = grad(product, leaves, allow_unused=True)
                assert_close({name: value.numpy() for name, value in outer.items()}, expected)

    return check


@pytest.fixture(scope="session")
def check_in_context(check_operator: Callable[..., None]) -> Callable[..., None]:
    """Gives a check of Paddle's own function, called within the context, against itself outside of it."""

    def check(function: Callable[..., Any], *arrays: np.ndarray, exact: float = 1e-12) -> None:
        def ours(*tensors: paddle.Tensor) -> paddle.Tensor:
            with twice_differentiable_operators():
                return function(*tensors)

        check_operator(ours, function, *arrays, exact=exact)

    return check


@pytest.fixture(scope="session")
def check_network() -> Callable[..., None]:
    """Gives a check of a network's Hessian-vector product, by all its parameters or those requested."""

    def check(
        network: nn.Layer,
        images: np.ndarray,
        loss: Callable[[paddle.Tensor], paddle.Tensor],
        requested: Sequence[str] | None = None,
        step: float = STEP,
    ) -> None:
        network.to(dtype="float64")
        rng = np.random.default_rng(3)
        for name, parameter in network.named_parameters():  # nothing at zero or one, where terms vanish
            if not parameter.stop_gradient and parameter.ndim == 1:
                parameter.set_value(rng.uniform(0.5, 1.5, parameter.shape) * (1 if "weight" in name else 0.3))
        values = {n: p.numpy() for n, p in network.named_parameters() if not p.stop_gradient}
        requested = list(values) if requested is None else requested
        vectors = {n: rng.normal(0, values[n].std(), values[n].shape) for n in requested}
        inputs = paddle.to_tensor(images)
        twice = twice_differentiable(network)

        def tensors(at: float) -> dict[str, paddle.Tensor]:
            return {name: _leaf(v + (at * vectors[name] if name in vectors else 0)) for name, v in values.items()}

        def gradient(at: float, f: nn.Layer) -> Arrays:
            leaves = tensors(at)
            found = grad(loss(functional_call(f, leaves, inputs)), leaves, allow_unused=True)
            return {name: value.numpy() for name, value in found.items()}

        assert_close(gradient(0, twice), gradient(0, network), 1e-7)  # Paddle takes epsilon as a float32
        above, below = gradient(step, network), gradient(-step, network)
        expected = {name: (above[name] - below[name]) / (2 * step) for name in values}
        leaves = tensors(0)
        inner = grad(loss(functional_call(twice, leaves, inputs)), {n: leaves[n] for n in requested}, create_graph=True)
        product = paddle.add_n([(inner[name] * paddle.to_tensor(vectors[name])).sum() for name in requested])
        outer = {name: value.numpy() for name, value in grad(product, leaves, allow_unused=True).items()}
        assert_close(outer, expected)

    return check


@pytest.fixture
def weights_of() -> Callable[[Mapping[str, np.ndarray]], dict[str, paddle.Tensor]]:
    return lambda arrays: {name: _leaf(np.asarray(value, dtype=np.float64)) for name, value in arrays.items()}
