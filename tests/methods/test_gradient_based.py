"""What holds for all methods that adapt a network by gradient: purity, symmetries, and on whom an answer depends."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from ppfsl.autodiff import functional_call
from ppfsl.errors import UserError
from ppfsl.methods.base import Support
from ppfsl.methods.task_network import copies
from ppfsl.randomness import generator

SHOT, QUERIES = 2, 5
KEYS: dict[str, dict[str, Any]] = {
    "maml": {"name": "maml", "inner_steps": 2},
    "meta_sgd": {"name": "meta_sgd", "inner_steps": 2},
    "lstm_meta_learner": {"name": "lstm_meta_learner", "inner_steps": 2},
    "reptile": {"name": "reptile", "inner_steps": 3, "inner_lr": 0.01, "inner_batch": 4},
    "reptile, whole batches": {"name": "reptile", "inner_steps": 3, "inner_lr": 0.01, "inner_batch": 100},
}
MODES = ("transductive", "support_statistics", "running")
every = pytest.mark.parametrize("kind", KEYS)
modes = pytest.mark.parametrize("batch_norm", MODES)
LABELS = np.asarray([1, 0, 2, 2, 1, 0])


@pytest.fixture
def method(convolutional: Callable[..., Any], kind: str, batch_norm: str) -> Any:
    """As after training: running statistics of some images, everything frozen."""
    found = convolutional(**KEYS[kind], batch_norm=batch_norm)
    for key in range(20):
        found.network(paddle.to_tensor(images(12, "training", key)))
    for layer in (found.network, found.layer):
        layer.eval()
        for parameter in layer.parameters():
            parameter.stop_gradient = True
    return found


def images(count: int, *key: int | str) -> np.ndarray:
    return generator(0, "images", *key).uniform(0, 255, (count, 1, 16, 16))


SUPPORT = np.stack([images(6, "support", e) for e in range(3)])
QUERY = np.stack([images(QUERIES, "query", e) for e in range(3)])
NUMBERS = np.asarray([5, 0, 9])


def adapt(
    method: Any, support: np.ndarray = SUPPORT, labels: np.ndarray = LABELS, numbers: np.ndarray = NUMBERS
) -> Callable[[np.ndarray], np.ndarray]:
    classify = method.adapt(Support(paddle.to_tensor(support), paddle.to_tensor(labels), 3, numbers))
    return lambda query: classify(paddle.to_tensor(query)).numpy()


def state(method: Any) -> Iterator[Any]:
    for layer in (method.network, method.layer):
        for name, tensor in (*layer.named_parameters(), *layer.named_buffers()):
            yield name, tensor.numpy().tolist(), tensor.stop_gradient, tensor.grad is None
        yield [part.training for part in layer.sublayers(include_self=True)]


# --- purity


@every
@modes
def test_adapting_changes_nothing(method: Any) -> None:
    blocks = method.network.embedder.backbone.blocks
    blocks[1].train()  # whatever modes they are in
    before = list(state(method))
    classify = adapt(method)
    assert list(state(method)) == before
    first = classify(QUERY)
    assert list(state(method)) == before
    assert first.shape == (3, QUERIES, 3)
    assert np.isfinite(first).all()
    adapt(method, 255 - SUPPORT)(255 - QUERY)
    assert np.array_equal(classify(QUERY), first)
    assert np.array_equal(adapt(method)(QUERY), first)
    assert list(state(method)) == before


@every
@modes
def test_an_exception_changes_nothing(method: Any) -> None:
    blocks = method.network.embedder.backbone.blocks
    blocks[1].train()
    before = list(state(method))
    classify = adapt(method)
    coloured = np.zeros((3, 6, 3, 16, 16))
    for call in (lambda: adapt(method, coloured), lambda: classify(coloured)):
        with pytest.raises(ValueError, match=r"(?i)channel|shape|dimension"):
            call()
        assert list(state(method)) == before


@every
@modes
def test_adapting_needs_no_gradients_to_be_switched_on_around_it(method: Any) -> None:
    expected = adapt(method)(QUERY)
    with paddle.no_grad():
        found = adapt(method)(QUERY)
        assert not paddle.is_grad_enabled()
    assert np.array_equal(found, expected)


@every
@modes
def test_episodes_do_not_influence_each_other(method: Any) -> None:
    together = adapt(method)(QUERY)
    for e in range(3):
        one = slice(e, e + 1)
        alone = adapt(method, SUPPORT[one], numbers=NUMBERS[one])(QUERY[one])
        assert np.array_equal(alone, together[one])


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("batch_norm", ["running"])
def test_chance_is_keyed_by_the_seed_and_the_number_of_the_episode(method: Any, kind: str) -> None:
    by_chance = kind == "reptile"
    same = np.repeat(SUPPORT[:1], 2, axis=0), np.repeat(QUERY[:1], 2, axis=0)
    one, other = adapt(method, same[0], numbers=np.asarray([3, 4]))(same[1])
    assert np.allclose(one, other, atol=1e-9) != by_chance
    again = adapt(replace(method, seed=1), same[0], numbers=np.asarray([3, 4]))(same[1])
    assert np.allclose(again[0], one, atol=1e-9) != by_chance


# --- symmetries


@every
@modes
def test_order_of_the_support_set_matters_to_minibatches_alone(method: Any, kind: str) -> None:
    order = [2, 0, 5, 1, 3, 4]
    found = adapt(method, SUPPORT[:, order], LABELS[order])(QUERY)
    assert np.allclose(found, adapt(method)(QUERY), atol=1e-5) == (kind != "reptile")


@every
@modes
def test_renaming_the_classes_permutes_the_answers_of_a_permuted_head(method: Any) -> None:
    order = np.asarray([2, 0, 1])
    expected = adapt(method)(QUERY)
    linear = method.network.linear
    columns = np.argsort(order)
    for parameter in (linear.weight, linear.bias):
        parameter.set_value(parameter.numpy()[..., columns])
    found = adapt(method, labels=order[LABELS])(QUERY)
    np.testing.assert_allclose(found[:, :, order], expected, atol=1e-6)
    assert not np.allclose(found, expected, atol=0.01)


@every
@modes
def test_renaming_the_classes_permutes_the_answers_of_a_head_that_prefers_none(method: Any) -> None:
    order = np.asarray([2, 0, 1])
    linear = method.network.linear
    for parameter in (linear.weight, linear.bias):
        parameter.set_value(np.broadcast_to(parameter.numpy()[..., :1], parameter.shape))
    found = adapt(method, labels=order[LABELS])(QUERY)
    np.testing.assert_allclose(found[:, :, order], adapt(method)(QUERY), atol=1e-6)
    assert np.ptp(found, axis=-1).min() > 1e-4


# --- on whom an answer depends


@every
@modes
def test_an_answer_depends_on_the_other_queries_where_the_flag_says_so(method: Any, batch_norm: str) -> None:
    assert method.transductive == (batch_norm == "transductive")
    classify, others = adapt(method), QUERY.copy()
    others[:, 1:] = 255 - others[:, 1:]
    first, second = classify(QUERY)[:, 0], classify(others)[:, 0]
    assert np.allclose(first, second, atol=1e-9) != method.transductive
    alone = classify(QUERY[:, :1])
    assert np.isfinite(alone).all()
    assert np.allclose(alone[:, 0], first, atol=1e-9) != method.transductive


@every
@pytest.mark.parametrize("batch_norm", ["transductive"])
def test_order_of_the_queries_permutes_the_answers(method: Any) -> None:
    classify, order = adapt(method), [3, 0, 4, 1, 2]
    np.testing.assert_allclose(classify(QUERY[:, order]), classify(QUERY)[:, order], rtol=1e-6)


@every
@modes
def test_running_statistics_of_training_count_where_the_mode_says_so(method: Any, batch_norm: str) -> None:
    expected = adapt(method)(QUERY)
    for name, parameter in method.network.named_parameters():
        if name.endswith("_mean"):
            parameter.set_value(parameter + 0.5)
    assert np.allclose(adapt(method)(QUERY), expected, atol=1e-9) == (batch_norm != "running")


@pytest.mark.parametrize("kind", ["maml"])
@pytest.mark.parametrize("batch_norm", ["running"])
def test_running_statistics_normalise_the_support_images_of_the_inner_step_too(method: Any) -> None:
    """A step by hand, on the network in evaluation mode."""
    weights = copies(method.network.weights())
    logits = functional_call(method.network, weights, paddle.to_tensor(SUPPORT[0]))
    F.cross_entropy(logits, paddle.to_tensor(LABELS)).backward()
    stepped = {name: weight.detach() - 0.4 * weight.grad for name, weight in weights.items()}
    expected = functional_call(method.network, stepped, paddle.to_tensor(QUERY[0])).numpy()
    found = adapt(replace(method, steps=1, lr=0.4))(QUERY)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


# --- adaptation


@every
@modes
def test_adapting_lowers_the_loss_of_the_support_set(method: Any) -> None:
    def loss(steps: int) -> float:
        logits = adapt(replace(method, steps=steps))(SUPPORT)
        odds = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        return float(-np.log(odds[:, np.arange(6), LABELS]).mean())

    assert loss(12) < loss(1) - 0.01


@every
@modes
def test_steps_and_rate_are_the_methods_not_the_layers(method: Any, kind: str) -> None:
    expected = adapt(method)(QUERY)
    assert not np.allclose(adapt(replace(method, steps=method.steps + 1))(QUERY), expected, atol=1e-5)
    slower = adapt(replace(method, lr=method.lr / 2))(QUERY)
    assert np.allclose(slower, expected, atol=1e-5) == (kind in ("meta_sgd", "lstm_meta_learner"))  # learned sizes


@every
@pytest.mark.parametrize("batch_norm", ["transductive"])
def test_episodes_of_another_way_are_refused(method: Any, kind: str) -> None:
    with pytest.raises(UserError) as caught:
        method.adapt(Support(paddle.to_tensor(SUPPORT), paddle.to_tensor([0, 0, 0, 1, 1, 1]), 2, NUMBERS))
    assert str(caught.value) == (
        f"{KEYS[kind]['name']} was trained 3-way and serves no 2-way episodes; "
        "evaluate with 3 classes, in evaluation.way and in the support set"
    )
