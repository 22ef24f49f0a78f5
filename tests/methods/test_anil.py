"""ANIL: the gradient of the head written out, against numpy and against autograd, first and second order."""

from typing import Any

import numpy as np
import paddle
import pytest

from ppfsl.autodiff import cross_entropy, grad
from ppfsl.errors import UserError
from ppfsl.methods.anil import Anil
from ppfsl.methods.base import Support
from ppfsl.methods.inner_loop import sgd
from ppfsl.methods.task_network import TaskHead
from ppfsl.randomness import generator

EPISODES, WAY, DIM, LR = 3, 3, 4, 0.6
Vectors = tuple[paddle.Tensor, np.ndarray, paddle.Tensor, np.ndarray]


def anil(steps: int) -> Anil:
    """With random first weights, in float64."""
    layer = TaskHead("anil", DIM, WAY, steps, LR, "running")
    layer.to(dtype="float64")
    layer.linear.weight.set_value(generator(0, "weight").normal(size=(DIM, WAY)))
    layer.linear.bias.set_value(generator(0, "bias").normal(size=WAY))
    return Anil(layer, steps, LR)


def vectors(shot: int, query: int = 5) -> Vectors:
    """Support sets and queries of some episodes with their labels."""
    found: list[Any] = []
    for name, count in (("support", shot), ("query", query)):
        labels = np.repeat(np.arange(WAY), count)
        x = generator(0, name, shot).normal(size=(EPISODES, len(labels), DIM))
        found += [paddle.to_tensor(x, stop_gradient=False), labels]
    return found[0], found[1], found[2], found[3]


def answers(method: Anil, x: paddle.Tensor, labels: np.ndarray, queries: paddle.Tensor) -> paddle.Tensor:
    return method.adapt(Support(x, paddle.to_tensor(labels), WAY, np.arange(len(x))))(queries)


def training_loss(method: Anil, x: paddle.Tensor, labels: np.ndarray, queries: paddle.Tensor, truth: Any) -> Any:
    return method.loss(answers(method, x, labels, queries), paddle.to_tensor(np.tile(truth, (len(x), 1))))


shots = pytest.mark.parametrize("shot", [1, 4])
steps = pytest.mark.parametrize("steps", [1, 2, 5])


@shots
@steps
def test_logits_loss_and_meta_gradient_by_hand(softmax_regression: Any, steps: int, shot: int) -> None:
    method, (x, labels, queries, truth) = anil(steps), vectors(shot)
    found = answers(method, x, labels, queries).numpy()
    loss = training_loss(method, x, labels, queries, truth)
    loss.backward()
    start = np.vstack([method.layer.linear.weight.numpy(), method.layer.linear.bias.numpy()])
    losses, meta_gradients = [], []
    for e in range(EPISODES):
        support, asked = (
            softmax_regression(vectors.numpy()[e], of, WAY) for vectors, of in ((x, labels), (queries, truth))
        )
        path = support.descent(start, LR, steps)
        np.testing.assert_allclose(found[e], asked.x @ path[-1], rtol=1e-9)
        losses.append(asked.loss(path[-1]))
        meta_gradients.append(support.meta_gradient(path, LR, asked.gradient(path[-1]))[0])
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-10)
    expected = np.mean(meta_gradients, axis=0)
    np.testing.assert_allclose(method.layer.linear.weight.grad.numpy(), expected[:-1], rtol=1e-9)
    np.testing.assert_allclose(method.layer.linear.bias.grad.numpy(), expected[-1], rtol=1e-9)


@shots
@steps
def test_the_written_out_steps_and_all_their_derivatives_equal_autograds(steps: int, shot: int) -> None:
    """By the head's first weights, by the support vectors and by the queries."""
    method, (x, labels, queries, truth) = anil(steps), vectors(shot)
    own = {"weight": method.layer.linear.weight, "bias": method.layer.linear.bias}
    inputs = {**own, "support": x, "queries": queries}
    found = grad(training_loss(method, x, labels, queries, truth), inputs)
    losses = []
    for e in range(EPISODES):

        def loss(weights: Any, e: int = e) -> Any:
            return cross_entropy(x[e] @ weights["weight"] + weights["bias"], paddle.to_tensor(labels))

        adapted = sgd(loss, own, steps, LR, True)
        losses.append(cross_entropy(queries[e] @ adapted["weight"] + adapted["bias"], paddle.to_tensor(truth)))
    expected = grad(paddle.add_n(losses) / EPISODES, inputs)
    for name, gradient in found.items():
        assert np.abs(gradient.numpy()).max() > 1e-4
        np.testing.assert_allclose(gradient.numpy(), expected[name].numpy(), rtol=1e-8, atol=1e-14)


def test_second_order_differs_from_first() -> None:
    """Which takes the gradient by the adapted head for that by the first one."""
    method, (x, labels, queries, truth) = anil(3), vectors(2)
    own = [method.layer.linear.weight, method.layer.linear.bias]
    second = paddle.grad(training_loss(method, x, labels, queries, truth), own)
    gradients = []
    for e in range(EPISODES):
        adapted = sgd(
            lambda weights, e=e: cross_entropy(x[e] @ weights["0"] + weights["1"], paddle.to_tensor(labels)),
            {"0": own[0], "1": own[1]},
            3,
            LR,
            False,
        )
        loss = cross_entropy(queries[e] @ adapted["0"] + adapted["1"], paddle.to_tensor(truth))
        gradients.append(grad(loss, adapted)["0"].numpy())
    assert np.abs(second[0].numpy() - np.mean(gradients, axis=0)).max() > 0.05 * np.abs(second[0].numpy()).max()


def test_a_batch_of_episodes_gets_the_mean_of_their_own_gradients() -> None:
    method, (x, labels, queries, truth) = anil(3), vectors(2)
    weight = method.layer.linear.weight
    together = paddle.grad(training_loss(method, x, labels, queries, truth), [weight, x])
    alone = []
    for e in range(EPISODES):
        one = slice(e, e + 1)
        alone.append(paddle.grad(training_loss(method, x[one], labels, queries[one], truth), [weight])[0].numpy())
        (by_support,) = paddle.grad(training_loss(method, x[one], labels, queries[one], truth), [x])
        np.testing.assert_allclose(together[1].numpy()[e], by_support.numpy()[e] / EPISODES, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(together[0].numpy(), np.mean(alone, axis=0), rtol=1e-9, atol=1e-14)


def test_steps_and_rate_are_the_methods_not_the_layers() -> None:
    layer = anil(5).layer
    x, labels, queries, _ = vectors(2)
    default = answers(Anil(layer, 5, LR), x, labels, queries).numpy()
    for steps, lr in ((4, LR), (5, 0.5)):
        assert not np.allclose(answers(Anil(layer, steps, lr), x, labels, queries).numpy(), default)


def test_it_does_not_look_at_the_queries_while_it_adapts() -> None:
    method = anil(1)
    assert not method.transductive
    assert method.inputs == "projected"


def test_episodes_of_another_way_are_refused() -> None:
    x = paddle.zeros([1, 2, DIM], "float64")
    with pytest.raises(UserError) as caught:
        anil(1).adapt(Support(x, paddle.to_tensor([0, 1]), 2, np.arange(1)))
    assert str(caught.value) == (
        "anil was trained 3-way and serves no 2-way episodes; "
        "evaluate with 3 classes, in evaluation.way and in the support set"
    )
