"""How recurrent networks see gradients: the paper's two numbers, for every magnitude; and their cells."""

import math

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfsl.methods.coordinate_lstm import lstm_cell, preprocessed

EDGE = math.exp(-10)


def found(*values: float, p: float = 10.0) -> list[list[float]]:
    return preprocessed(paddle.to_tensor(np.asarray(values, dtype=np.float64)), p).numpy().tolist()


def formula(value: float, p: float = 10.0) -> list[float]:
    """Appendix A of the paper."""
    if abs(value) >= math.exp(-p):
        return [math.log(abs(value)) / p, math.copysign(1, value)]
    return [-1.0, math.exp(p) * value]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, [-1, 0]),
        (1.0, [0, 1]),
        (-1.0, [0, -1]),
        (math.e, [0.1, 1]),
        (-math.exp(-5), [-0.5, -1]),
        (math.exp(30), [3, 1]),
        (-1e300, [math.log(1e300) / 10, -1]),
        (EDGE / 2, [-1, 0.5]),
        (-EDGE / 4, [-1, -0.25]),
        (1e-300, [-1, math.exp(10) * 1e-300]),
        (5e-324, [-1, 0]),
    ],
)
def test_numbers_of_the_formula(value: float, expected: list[float]) -> None:
    assert found(value)[0] == pytest.approx(expected, rel=1e-12, abs=1e-15)


@settings(deadline=None, max_examples=200)
@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([1.0, 3.0, 10.0]))
def test_every_number_equals_the_formula(value: float, p: float) -> None:
    assert found(value, p=p)[0] == pytest.approx(formula(value, p), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_both_branches_meet_where_numbers_become_small(sign: int) -> None:
    below, above = found(sign * EDGE * (1 - 1e-9), sign * EDGE * (1 + 1e-9))
    assert below == pytest.approx(above, abs=1e-8)
    assert above == pytest.approx([-1, sign], abs=1e-8)


def test_tensors_of_any_shape_are_seen_number_by_number() -> None:
    values = np.asarray([[[3.0, -1e-7], [0.0, 1e9]]], dtype=np.float32)
    seen = preprocessed(paddle.to_tensor(values))
    assert (seen.shape, seen.dtype) == ([1, 2, 2, 2], paddle.float32)
    expected = [formula(float(value)) for value in values.ravel()]
    np.testing.assert_allclose(seen.numpy().reshape(4, 2), expected, rtol=1e-5, atol=1e-7)
    assert preprocessed(paddle.to_tensor(3.0)).shape == [2]


def test_cells_start_without_biases_whatever_the_global_generator_says() -> None:
    for seed in (1, 2):
        paddle.seed(seed)
        cell = lstm_cell(2, 3)
        assert (cell.input_size, cell.hidden_size) == (2, 3)
        for bias in (cell.bias_ih, cell.bias_hh):
            assert bias.numpy().tolist() == [0] * 12
            assert not bias.stop_gradient
