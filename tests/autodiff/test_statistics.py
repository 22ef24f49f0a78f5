"""Batch norm over the first rows: whose statistics, exact derivatives, and where the context ends."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from ppfsl.autodiff import first_rows_statistics, grad, twice_differentiable_operators

ROWS = 4
KINDS: dict[str, tuple[Callable[..., nn.Layer], tuple[int, ...]]] = {
    "maps": (lambda: nn.BatchNorm2D(3), (7, 3, 5, 4)),
    "maps, channels last": (lambda: nn.BatchNorm2D(3, data_format="NHWC"), (7, 5, 4, 3)),
    "maps, old layer": (lambda: nn.BatchNorm(3), (7, 3, 5, 4)),
    "vectors": (lambda: nn.BatchNorm1D(3), (7, 3)),
    "sequences": (lambda: nn.BatchNorm1D(3), (7, 3, 6)),
    "volumes": (lambda: nn.BatchNorm3D(3), (7, 3, 2, 3, 2)),
    "without weight and bias": (lambda: nn.BatchNorm2D(3, weight_attr=False, bias_attr=False), (7, 3, 5, 4)),
    "another momentum and epsilon": (lambda: nn.BatchNorm2D(3, momentum=0.5, epsilon=0.1), (7, 3, 5, 4)),
}
every = pytest.mark.parametrize("kind", KINDS)


def layer_of(kind: str) -> Any:
    """In float64, with weights and running statistics that are neither zero nor one."""
    layer = KINDS[kind][0]().to(dtype="float64")
    rng = np.random.default_rng(1)
    for parameter in layer.parameters():
        parameter.set_value(rng.uniform(0.5, 1.5, parameter.shape))
    return layer


def draw(kind: str, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1, 2, KINDS[kind][1])


def within(layer: Any, x: np.ndarray, rows: int = ROWS) -> np.ndarray:
    with first_rows_statistics(rows):
        return layer(paddle.to_tensor(x)).numpy()


def running(layer: Any) -> list[np.ndarray]:
    return [layer._mean.numpy().copy(), layer._variance.numpy().copy()]


# --- whose statistics


@every
def test_the_first_rows_get_what_batch_norm_gives_them_alone(kind: str) -> None:
    x, ours, paddles = draw(kind), layer_of(kind), layer_of(kind)
    expected = paddles(paddle.to_tensor(x[:ROWS])).numpy()
    np.testing.assert_allclose(within(ours, x)[:ROWS], expected, rtol=1e-6, atol=1e-9)  # epsilon is a float32
    for found, wanted in zip(running(ours), running(paddles), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert not np.allclose(running(ours)[0], running(layer_of(kind))[0])


@every
def test_the_other_rows_are_normalised_by_the_first_ones_alone(kind: str) -> None:
    x = draw(kind)
    found = within(layer_of(kind), x)
    copied = x.copy()
    copied[ROWS:] = x[: len(x) - ROWS]  # then they are answered as the first ones are
    again = within(layer_of(kind), copied)
    np.testing.assert_allclose(again[ROWS:], found[: len(x) - ROWS], rtol=1e-12)
    changed = x.copy()
    changed[ROWS:-1] += 3
    np.testing.assert_allclose(within(layer_of(kind), changed)[-1], found[-1], rtol=1e-12)
    changed[0] += 3
    assert not np.allclose(within(layer_of(kind), changed)[-1], found[-1])


@every
def test_all_rows_make_it_batch_norm(kind: str) -> None:
    x = draw(kind)
    expected = layer_of(kind)(paddle.to_tensor(x)).numpy()
    np.testing.assert_allclose(within(layer_of(kind), x, len(x)), expected, rtol=1e-6, atol=1e-9)


@every
def test_evaluation_mode_is_left_to_paddle(kind: str) -> None:
    x, layer = draw(kind), layer_of(kind)
    layer.eval()
    before = running(layer)
    expected = layer(paddle.to_tensor(x)).numpy()
    assert np.array_equal(within(layer, x), expected)
    for found, wanted in zip(running(layer), before, strict=True):
        assert np.array_equal(found, wanted)


def test_global_statistics_in_training_mode_are_left_to_paddle() -> None:
    layer = nn.BatchNorm2D(3, use_global_stats=True)
    layer._mean.set_value(paddle.to_tensor([1.0, 2.0, 3.0]))
    x = draw("maps").astype(np.float32)
    assert np.array_equal(within(layer, x), layer(paddle.to_tensor(x)).numpy())


# --- derivatives


@every
def test_exact_first_and_second_derivatives(kind: str, check_operator: Callable[..., None]) -> None:
    """Against differences of those of batch norm on the first rows, composed of Paddle's plainest operators."""
    layer = layer_of(kind)
    parameters = [p for p in (layer.weight, layer.bias) if p is not None]
    last = kind == "maps, channels last" or kind == "vectors"

    def ours(x: paddle.Tensor, *own: paddle.Tensor) -> paddle.Tensor:
        held = dict(zip(("weight", "bias"), own, strict=False))
        for name, value in held.items():
            layer._parameters[name] = value
        with first_rows_statistics(ROWS):
            return layer(x)

    def composed(x: paddle.Tensor, *own: paddle.Tensor) -> paddle.Tensor:
        x = x if last else x.transpose([0, *range(2, x.ndim), 1])
        first = x[:ROWS].reshape([-1, 3])
        mean = first.sum(0) / len(first)
        variance = ((first - mean) * (first - mean)).sum(0) / len(first)
        y = (x - mean) / (variance + layer._epsilon) ** 0.5
        if own:
            y = y * own[0] + own[1]
        return y if last else y.transpose([0, y.ndim - 1, *range(1, y.ndim - 1)])

    arrays = [parameter.numpy() for parameter in parameters]
    check_operator(ours, composed, draw(kind), *arrays, exact=1e-7)


def test_exact_second_derivatives_among_operators_that_have_them(check_in_context: Callable[..., None]) -> None:
    """Whichever context was entered first."""
    layer = layer_of("maps")

    def function(x: paddle.Tensor) -> paddle.Tensor:
        with first_rows_statistics(ROWS):
            return nn.functional.max_pool2d(layer(x), 2)

    check_in_context(function, draw("maps"), exact=1e-7)


def test_evaluation_mode_keeps_second_derivatives_where_both_contexts_hold() -> None:
    layer = layer_of("maps")
    layer.eval()

    def second(first_rows: bool) -> np.ndarray:
        x = paddle.to_tensor(draw("maps"), stop_gradient=False)
        with twice_differentiable_operators():
            if first_rows:
                with first_rows_statistics(ROWS):
                    y = layer(x)
            else:
                y = layer(x)
        (inner,) = grad((y**3).sum(), {"x": x}, create_graph=True).values()
        return grad((inner**2).sum(), {"x": x})["x"].numpy()

    np.testing.assert_allclose(second(True), second(False), rtol=1e-12)


# --- where the context ends


def test_the_innermost_of_nested_contexts_counts_and_the_outer_one_comes_back() -> None:
    x = draw("maps")
    expected = {rows: within(layer_of("maps"), x, rows) for rows in (2, 5)}
    tensor = paddle.to_tensor(x)
    with first_rows_statistics(5):
        with first_rows_statistics(2):
            assert np.array_equal(layer_of("maps")(tensor).numpy(), expected[2])
        assert np.array_equal(layer_of("maps")(tensor).numpy(), expected[5])
        with pytest.raises(KeyError), first_rows_statistics(2):
            raise KeyError
        assert np.array_equal(layer_of("maps")(tensor).numpy(), expected[5])


def test_afterwards_paddles_own_is_back_even_when_an_exception_passes() -> None:
    x = paddle.to_tensor(draw("maps"))
    before, operator = layer_of("maps")(x).numpy(), paddle._C_ops.batch_norm
    with first_rows_statistics(2):
        assert not np.allclose(layer_of("maps")(x).numpy(), before)
    assert np.array_equal(layer_of("maps")(x).numpy(), before)
    with pytest.raises(KeyError), first_rows_statistics(2):
        raise KeyError
    assert np.array_equal(layer_of("maps")(x).numpy(), before)
    assert paddle._C_ops.batch_norm is operator


def test_other_threads_are_not_affected_and_have_contexts_of_their_own() -> None:
    x = draw("maps")
    expected = {rows: within(layer_of("maps"), x, rows) for rows in (2, 5, 7)}
    found: dict[str, np.ndarray] = {}

    entered, leave = threading.Event(), threading.Event()

    def work() -> None:
        found["without"] = layer_of("maps")(paddle.to_tensor(x)).numpy()
        with first_rows_statistics(5):
            entered.set()
            leave.wait(60)
            found["with"] = layer_of("maps")(paddle.to_tensor(x)).numpy()

    with first_rows_statistics(2):
        thread = threading.Thread(target=work)
        thread.start()
        assert entered.wait(60)
        here = layer_of("maps")(paddle.to_tensor(x)).numpy()
        leave.set()
        thread.join()
    assert np.array_equal(here, expected[2])
    assert np.array_equal(found["with"], expected[5])
    np.testing.assert_allclose(found["without"], expected[7], rtol=1e-6)
