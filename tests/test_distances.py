"""Distances and similarities against plain loops in float64."""

import math
from collections.abc import Callable

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfsl.distances import cosine, squared_euclidean
from ppfsl.randomness import generator

Measure = Callable[[paddle.Tensor, paddle.Tensor], paddle.Tensor]


def draw(*shape: int, key: str = "x") -> np.ndarray:
    return generator(0, "distances", key, *shape).standard_normal(shape)


def plain(measure: Measure, left: np.ndarray, right: np.ndarray) -> float:
    """Of two vectors, coordinate by coordinate."""
    pairs = list(zip(left.tolist(), right.tolist(), strict=True))
    if measure is squared_euclidean:
        return sum((a - b) ** 2 for a, b in pairs)
    return sum(a * b for a, b in pairs) / math.sqrt(sum(a * a for a, _ in pairs) * sum(b * b for _, b in pairs))


def run(measure: Measure, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return measure(paddle.to_tensor(left), paddle.to_tensor(right)).numpy()


both = pytest.mark.parametrize("measure", [squared_euclidean, cosine])


@both
@settings(deadline=None, max_examples=25)
@given(episodes=st.integers(1, 3), n=st.integers(1, 5), m=st.integers(1, 5), dim=st.integers(1, 6), key=st.text("ab"))
def test_many_episodes_match_plain_loops(measure: Measure, episodes: int, n: int, m: int, dim: int, key: str) -> None:
    left, right = draw(episodes, n, dim, key=f"left{key}"), draw(episodes, m, dim, key=f"right{key}")
    found = run(measure, left, right)
    assert (found.shape, found.dtype) == ((episodes, n, m), np.float64)
    for e, i, j in np.ndindex(episodes, n, m):
        assert found[e, i, j] == pytest.approx(plain(measure, left[e, i], right[e, j]), rel=1e-9, abs=1e-9)


@both
def test_leading_dimensions_may_be_none_many_or_broadcast(measure: Measure) -> None:
    left, right = draw(2, 3, 4, 5), draw(2, 3, 6, 5, key="right")
    whole = run(measure, left, right)
    assert whole.shape == (2, 3, 4, 6)
    for a, b in np.ndindex(2, 3):
        np.testing.assert_allclose(run(measure, left[a, b], right[a, b]), whole[a, b], atol=1e-12)
    np.testing.assert_allclose(
        run(measure, left, right[:1, :1])[1, 2], run(measure, left[1, 2], right[0, 0]), atol=1e-12
    )


@both
def test_exchanging_both_sides_transposes(measure: Measure) -> None:
    left, right = draw(2, 4, 3), draw(2, 5, 3, key="right")
    transposed = run(measure, right, left).transpose(0, 2, 1)
    np.testing.assert_allclose(run(measure, left, right), transposed, atol=1e-12)


def test_example_by_hand() -> None:
    left, right = np.asarray([[3.0, 4], [0, 0]]), np.asarray([[3.0, 4], [-4, 3], [0, 1]])
    np.testing.assert_allclose(run(squared_euclidean, left, right), [[0, 50, 18], [25, 25, 1]], atol=1e-12)
    # The vector without a direction is like none.
    np.testing.assert_allclose(run(cosine, left, right), [[1, 0, 0.8], [0, 0, 0]], atol=1e-12)


def test_distances_are_never_negative() -> None:
    x = (1e3 + 1e-3 * draw(30, 8)).astype(np.float32)  # where |a|^2 + |b|^2 - 2ab cancels badly
    assert run(squared_euclidean, x, x).min() == 0


def test_length_does_not_matter_to_the_cosine() -> None:
    left, right = draw(4, 3), draw(5, 3, key="right")
    lengths = np.asarray([1e-3, 1, 7, 1e4])[:, None]
    np.testing.assert_allclose(run(cosine, lengths * left, 5 * right), run(cosine, left, right), atol=1e-9)
    np.testing.assert_allclose(np.diag(run(cosine, left, lengths * left)), 1, atol=1e-9)
    assert np.abs(run(cosine, left.astype(np.float32), right.astype(np.float32))).max() <= 1 + 1e-6


@both
def test_gradients_match_finite_differences(measure: Measure) -> None:
    values = [draw(2, 3, 4), draw(2, 2, 4, key="right")]
    weights = paddle.to_tensor(draw(2, 3, 2, key="weights"))
    tensors = [paddle.to_tensor(value, stop_gradient=False) for value in values]
    (measure(*tensors) * weights).sum().backward()
    for side, tensor in enumerate(tensors):
        expected = np.empty_like(values[side])
        for place in np.ndindex(*expected.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = [value.copy() for value in values]
                moved[side][place] += step
                ends.append(float((run(measure, *moved) * weights.numpy()).sum()))
            expected[place] = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(tensor.grad.numpy(), expected, atol=1e-7)
