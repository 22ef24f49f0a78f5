"""What holds for every method that works on vectors: symmetries and purity."""

from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from ppfsl.config import BaselineConfig
from ppfsl.methods.base import Method, Support
from ppfsl.methods.baseline import Baseline
from tests.methods.properties.methods import EPISODES, INPUTS, LABELS, METHODS, QUERIES, QUERY, WAY, baseline, every

NUMBERS = np.asarray([5, 0, 9])


def support_of(
    inputs: np.ndarray, labels: np.ndarray, numbers: np.ndarray, unlabelled: np.ndarray | None = None
) -> Support:
    queries = None if unlabelled is None else paddle.to_tensor(unlabelled)
    return Support(paddle.to_tensor(inputs), paddle.to_tensor(labels), int(labels.max()) + 1, numbers, queries)


def logits(
    method: Method,
    inputs: np.ndarray = INPUTS,
    labels: np.ndarray = LABELS,
    query: np.ndarray = QUERY,
    numbers: np.ndarray = NUMBERS,
) -> np.ndarray:
    unlabelled = query if method.transductive else None
    return method.adapt(support_of(inputs, labels, numbers, unlabelled))(paddle.to_tensor(query)).numpy()


# --- symmetries


@every
def test_logits_are_one_number_per_query_and_class(name: str) -> None:
    found = logits(METHODS[name]())
    assert (found.shape, found.dtype) == ((EPISODES, QUERIES, WAY), np.float32)
    assert np.isfinite(found).all()
    assert np.ptp(found) > 1e-3


IN_MINIBATCHES: dict[str, Callable[[], Any]] = {
    f"{name}, mini-batches": lambda name=name: baseline(name=name, batch_size=4) for name in ("baseline", "baseline++")
}


@pytest.mark.parametrize("order", [[5, 4, 3, 2, 1, 0], [2, 0, 5, 1, 3, 4]], ids=str)
@pytest.mark.parametrize("name", [*METHODS, *IN_MINIBATCHES])
def test_order_of_the_support_set_matters_to_full_context_and_mini_batches_alone(name: str, order: list[int]) -> None:
    method = (METHODS | IN_MINIBATCHES)[name]()
    shuffled = logits(method, INPUTS[:, order], LABELS[order])
    ordered = name == "matching, full context" or name in IN_MINIBATCHES
    assert np.allclose(shuffled, logits(method), atol=1e-5) != ordered


def test_mini_batches_are_what_the_shipped_configurations_fit_by() -> None:
    assert all(BaselineConfig(name=name).batch_size == 4 for name in ("baseline", "baseline++"))


class Renamed(Baseline):
    """Starts where `Baseline` starts when class k is called order[k]."""

    order = np.asarray([2, 0, 1])

    def _first_weights(self, support: Support) -> np.ndarray:
        return super()._first_weights(support)[:, np.argsort(self.order)]


@every
def test_renaming_the_classes_permutes_the_logits(name: str) -> None:
    method = METHODS[name]()
    renamed = Renamed(method.config) if isinstance(method, Baseline) else method
    found = logits(renamed, labels=Renamed.order[LABELS])
    np.testing.assert_allclose(found[:, :, Renamed.order], logits(method), atol=2e-5)


@every
def test_many_episodes_equal_one_at_a_time(name: str) -> None:
    method = METHODS[name]()
    together = logits(method)
    for e in range(EPISODES):
        one = slice(e, e + 1)
        alone = logits(method, INPUTS[one], query=QUERY[one], numbers=NUMBERS[one])
        np.testing.assert_allclose(together[one], alone, atol=1e-5)


@every
def test_each_query_is_answered_alone(name: str) -> None:
    method = METHODS[name]()
    classify = method.adapt(support_of(INPUTS, LABELS, NUMBERS, QUERY if method.transductive else None))
    together = classify(paddle.to_tensor(QUERY)).numpy()
    for q in range(QUERIES):
        alone = classify(paddle.to_tensor(QUERY[:, q : q + 1])).numpy()
        np.testing.assert_allclose(together[:, q : q + 1], alone, atol=1e-5)


# --- purity


def state_of(layer: nn.Layer | None) -> dict[str, Any]:
    if layer is None:
        return {}
    values = {name: (tensor.numpy().tolist(), tensor.stop_gradient) for name, tensor in layer.state_dict().items()}
    gradients = {name: parameter.grad is None for name, parameter in layer.named_parameters()}
    modes = [one.training for one in layer.sublayers(include_self=True)]
    return {"values": values, "gradients": gradients, "modes": modes}


@every
def test_adapting_changes_neither_method_nor_support_set(name: str) -> None:
    method = METHODS[name]()
    support = support_of(INPUTS, LABELS, NUMBERS.copy(), QUERY if method.transductive else None)
    before, query = state_of(getattr(method, "layer", None)), paddle.to_tensor(QUERY)
    classify = method.adapt(support)
    first = classify(query).numpy()
    method.adapt(support_of(2 - INPUTS, LABELS, NUMBERS, -QUERY if method.transductive else None))(query)
    assert np.array_equal(classify(query).numpy(), first)
    assert np.array_equal(method.adapt(support)(query).numpy(), first)
    assert state_of(getattr(method, "layer", None)) == before
    assert np.array_equal(support.inputs.numpy(), INPUTS)
    assert support.inputs.stop_gradient
    assert support.inputs.grad is None
    assert support.labels.numpy().tolist() == LABELS.tolist()
    assert support.numbers.tolist() == NUMBERS.tolist()
    assert np.array_equal(query.numpy(), QUERY)
