"""The inner loops on functions whose steps can be worked out, and the images of minibatches."""

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfsl.autodiff import grad
from ppfsl.methods.inner_loop import adam, minibatches, sgd
from ppfsl.methods.task_network import Weights
from ppfsl.randomness import generator

RATES = {"a": np.asarray([0.1, -0.2, 0.3]), "b": np.asarray([[0.5], [0.05]])}
START = {"a": np.asarray([1.0, -2.0, 3.0]), "b": np.asarray([[0.5], [4.0]])}
CURVATURE = {"a": 2.0, "b": 0.5}


def leaves(values: dict[str, np.ndarray]) -> Weights:
    return {name: paddle.to_tensor(value, stop_gradient=False) for name, value in values.items()}


def quadratic(weights: Weights) -> paddle.Tensor:
    """Half the sum of curvature x weight^2, whose gradient is curvature x weight."""
    return paddle.add_n([(CURVATURE[name] * weight**2).sum() / 2 for name, weight in weights.items()])


# --- gradient descent


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_descent_on_a_quadratic_function_by_hand(steps: int, create_graph: bool) -> None:
    """Every step multiplies a weight by 1 - rate x curvature."""
    for rates in (0.1, leaves(RATES)):
        end = sgd(quadratic, leaves(START), steps, rates, create_graph)
        for name, weight in end.items():
            shrink = 1 - (0.1 if isinstance(rates, float) else RATES[name]) * CURVATURE[name]
            np.testing.assert_allclose(weight.numpy(), START[name] * shrink**steps, rtol=1e-12)


@pytest.mark.parametrize("steps", [1, 4])
def test_derivatives_of_descent_on_a_quadratic_function_by_hand(steps: int) -> None:
    start, rates = leaves(START), leaves(RATES)
    end = sgd(quadratic, start, steps, rates, True)
    total = paddle.add_n([weight.sum() for weight in end.values()])
    by_start, by_rates = grad(total, start), grad(total, rates)
    for name in START:
        shrink = 1 - RATES[name] * CURVATURE[name]
        np.testing.assert_allclose(by_start[name].numpy(), shrink**steps * np.ones_like(START[name]), rtol=1e-12)
        expected = -START[name] * steps * CURVATURE[name] * shrink ** (steps - 1)
        np.testing.assert_allclose(by_rates[name].numpy(), expected, rtol=1e-12)


def test_without_a_graph_the_end_is_leaves_that_know_nothing_of_the_start() -> None:
    start = leaves(START)
    for end in (
        sgd(quadratic, start, 2, leaves(RATES), False),
        adam(lambda weights, _: quadratic(weights), start, 2, 0.1),
    ):
        assert all(weight.is_leaf and not weight.stop_gradient for weight in end.values())
        quadratic(end).backward()
        assert all(weight.grad is not None for weight in end.values())
    assert all(weight.grad is None for weight in start.values())
    assert all(np.array_equal(weight.numpy(), START[name]) for name, weight in start.items())


# --- Adam


@pytest.mark.parametrize("steps", [1, 6])
def test_adam_equals_paddles_with_beta1_zero(steps: int) -> None:
    start = leaves(START)
    optimizer = paddle.optimizer.Adam(0.05, beta1=0.0, beta2=0.999, epsilon=1e-8, parameters=list(start.values()))
    end = adam(lambda weights, step: (step + 1) * quadratic(weights), leaves(START), steps, 0.05)
    for step in range(steps):
        ((step + 1) * quadratic(start)).backward()
        optimizer.step()
        optimizer.clear_grad()
    for name, weight in end.items():
        np.testing.assert_allclose(weight.numpy(), start[name].numpy(), rtol=1e-6)


def test_the_first_step_of_adam_has_the_size_of_the_rate() -> None:
    end = adam(lambda weights, _: quadratic(weights), leaves(START), 1, 0.05)
    for name, weight in end.items():
        np.testing.assert_allclose(weight.numpy(), START[name] - 0.05 * np.sign(START[name]), rtol=1e-6)


def test_adam_keeps_squares_for_as_long_as_the_decay_says() -> None:
    """With no memory at all every step has the size of the rate."""
    end = adam(lambda weights, _: quadratic(weights), leaves(START), 4, 0.05, decay=0.0)
    for name, weight in end.items():
        np.testing.assert_allclose(weight.numpy(), START[name] - 4 * 0.05 * np.sign(START[name]), rtol=1e-6)


# --- minibatches


layouts = given(st.integers(1, 30), st.integers(1, 40), st.integers(1, 20), st.integers(0, 2**32))
many = settings(deadline=None, max_examples=100)


@many
@layouts
def test_steps_go_through_all_images_before_any_comes_again(images: int, size: int, steps: int, seed: int) -> None:
    found = minibatches(images, size, steps, generator(seed))
    assert found.shape == (steps, min(size, images))
    order = found.ravel()
    for start in range(0, len(order), images):
        one_round = order[start : start + images].tolist()
        assert len(set(one_round)) == len(one_round)
        assert set(one_round) <= set(range(images))


def test_minibatches_are_a_pure_function_of_chance() -> None:
    first, again, other = (minibatches(25, 10, 4, generator(key)).tolist() for key in (0, 0, 1))
    assert first == again != other


def test_every_round_has_an_order_of_its_own() -> None:
    first, second = minibatches(20, 20, 2, generator(0)).tolist()
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second != sorted(second)
