"""Gradients of gradients within the context: refused by name, or Paddle's own."""

from contextlib import ExitStack

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from ppfsl.autodiff import grad, twice_differentiable_operators
from ppfsl.onednn import fast_operators
from tests.onednn.native.maps import MAPS, VECTOR, WEIGHT, float32, normalised

RNG = np.random.default_rng(1)
LABELS = paddle.to_tensor([0, 1])

OPERATORS = {
    "a convolution": lambda x: F.conv2d(x, float32(WEIGHT)),
    "a max pooling": lambda x: F.max_pool2d(x, 2),
    "a batch norm": lambda x: normalised(x, float32(VECTOR), float32(VECTOR)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_graphs_of_gradients_are_refused_by_name(name):
    x = float32(MAPS)
    with fast_operators():
        loss = OPERATORS[name](x).square().sum()
    # Paddle wraps what a `PyLayer` raises.
    with pytest.raises((NotImplementedError, OSError), match=f"NotImplementedError: {name} within fast_operators"):
        paddle.grad([loss], [x], create_graph=True)


def test_paddles_own_may_be_differentiated_twice_in_the_context():
    x = float32(VECTOR)
    with fast_operators():
        loss = (F.relu(x) ** 3).sum()
    first = paddle.grad([loss], [x], create_graph=True)[0]
    np.testing.assert_allclose(paddle.grad([first.sum()], [x])[0].numpy(), 6 * VECTOR, rtol=1e-5)


ORDERS = [
    (fast_operators, twice_differentiable_operators),
    (twice_differentiable_operators, fast_operators),
    (fast_operators, twice_differentiable_operators, fast_operators),
]


@pytest.mark.parametrize("contexts", ORDERS, ids=["fast first", "twice first", "fast twice"])
def test_second_derivatives_are_right_in_both_contexts(calls, near, contexts):
    vectors = {"maps": RNG.normal(size=MAPS.shape), "weight": RNG.normal(size=WEIGHT.shape)}

    def products(dtype, *contexts):
        leaves = {
            name: paddle.to_tensor(value.astype(dtype), stop_gradient=False)
            for name, value in {"maps": MAPS, "weight": WEIGHT * 0.2}.items()
        }
        with ExitStack() as stack:
            for context in contexts:
                stack.enter_context(context())
            maps = F.conv2d(leaves["maps"], leaves["weight"], padding=1)
            scale = paddle.to_tensor(VECTOR.astype(dtype))
            maps = F.relu6(paddle.add(F.max_pool2d(normalised(maps, scale, scale), 3, 2), paddle.ones([1], dtype)))
            loss = F.cross_entropy(F.conv2d(maps, leaves["weight"][:, :1], padding=1, groups=4).flatten(1), LABELS)
        first = grad(loss, leaves, create_graph=True)
        product = paddle.add_n([(first[n] * paddle.to_tensor(vectors[n].astype(dtype))).sum() for n in leaves])
        return {name: value.numpy() for name, value in grad(product, leaves).items()}

    near(products("float32", *contexts), products("float64", twice_differentiable_operators), 2e-4)
    assert not calls


@pytest.mark.parametrize("contexts", ORDERS[:2], ids=["fast first", "twice first"])
def test_what_has_no_gradient_is_fast_in_both_contexts(calls, contexts):
    with contexts[0](), contexts[1](), paddle.no_grad():
        F.max_pool2d(F.conv2d(float32(MAPS), float32(WEIGHT)), 2)
    assert calls == {"convolution": 1, "max_pooling": 1}
