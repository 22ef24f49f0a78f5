"""Cross-entropy over the base classes: shuffled passes, and either classifier by plain arithmetic."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfsl.config import CrossEntropyConfig
from ppfsl.randomness import generator
from ppfsl.training.objectives.cross_entropy import CrossEntropy

LABELS = generator(0, "labels").permutation(np.repeat(np.arange(6), (7, 4, 9, 5, 4, 8)))


def cross_entropy(labels: np.ndarray = LABELS, dim: int = 3, seed: int = 0, **changes: Any) -> Any:
    return CrossEntropy(CrossEntropyConfig(name="cross_entropy", **changes), labels, dim, seed)


@settings(deadline=None, max_examples=50)
@given(count=st.integers(4, 60), batch_size=st.integers(2, 70), steps=st.integers(1, 12), epoch=st.integers(0, 100))
def test_an_image_is_shown_at_most_once_a_pass(count: int, batch_size: int, steps: int, epoch: int) -> None:
    objective = cross_entropy(np.arange(count) % 2, batch_size=batch_size)
    size = min(batch_size, count)
    assert objective.steps == max(count // batch_size, 1)
    batches = list(objective.batches(epoch, steps))
    assert [len(batch) for batch in batches] == [size] * steps
    per_pass = count // size
    for start in range(0, steps, per_pass):
        seen = np.concatenate(batches[start : start + per_pass]).tolist()
        assert len(set(seen)) == len(seen)
        assert set(seen) <= set(range(count))
    if steps >= per_pass and count % size == 0:
        assert len(set(np.concatenate(batches[:per_pass]).tolist())) == count


def test_passes_of_one_epoch_are_shuffled_anew() -> None:
    batches = list(cross_entropy(batch_size=len(LABELS)).batches(0, 3))
    assert len({batch.tobytes() for batch in batches}) == 3


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_linear_classifier(vectors: Callable[..., Any], loss_of: Callable[..., Any], smoothing: float) -> None:
    objective = cross_entropy(label_smoothing=smoothing)
    assert objective.head.weight.shape == [3, 6]
    x, labels = vectors(8), LABELS[:8]
    objective.head.bias.set_value(np.arange(6, dtype=np.float32))
    logits = x.astype(np.float64) @ objective.head.weight.numpy() + np.arange(6)
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    target = np.full((8, 6), smoothing / 6)
    target[np.arange(8), labels] += 1 - smoothing
    loss, terms = loss_of(objective, x, labels)
    assert loss == pytest.approx(-(target * log_probabilities).sum(1).mean(), rel=1e-5)
    assert terms == {"accuracy": pytest.approx((logits.argmax(1) == labels).mean())}


@pytest.mark.parametrize("scale", [None, 4.0])
def test_cosine_classifier(vectors: Callable[..., Any], loss_of: Callable[..., Any], scale: float | None) -> None:
    objective = cross_entropy(classifier="cosine", scale=scale)
    assert list(objective.head.state_dict()) == ["weight"]
    x, labels = vectors(8), LABELS[:8]
    weight = objective.head.weight.numpy().astype(np.float64)
    logits = np.empty((8, 6))
    for i in range(8):
        for k in range(6):
            cosine_of = x[i] @ weight[:, k] / math.sqrt((x[i] ** 2).sum() * (weight[:, k] ** 2).sum())
            logits[i, k] = (scale or 16.0) * cosine_of
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    loss, terms = loss_of(objective, x, labels)
    assert loss == pytest.approx(-log_probabilities[np.arange(8), labels].mean(), rel=1e-5)
    assert terms == {"accuracy": pytest.approx((logits.argmax(1) == labels).mean())}
    assert loss_of(objective, 7 * x, labels)[0] == pytest.approx(loss, rel=1e-5)  # length does not matter


def test_classifier_is_a_pure_function_of_the_seed() -> None:
    one, two, other = (cross_entropy(seed=seed).head.weight.numpy() for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("classifier", ["linear", "cosine"])
def test_rotation_loss(vectors: Callable[..., Any], classifier: str) -> None:
    objective = cross_entropy(classifier=classifier, rotation_weight=0.5, label_smoothing=0.2)
    assert objective.turns
    assert objective.head.weight.shape == [3, 10]
    x, labels, quarters = vectors(8), LABELS[:8], np.asarray([0, 3, 1, 0, 2, 0, 3, 1])
    weight, points = objective.head.weight.numpy().astype(np.float64), x.astype(np.float64)
    if classifier == "cosine":
        weight, points = weight / np.linalg.norm(weight, axis=0), points / np.linalg.norm(points, axis=1)[:, None]
    logits = (16 if classifier == "cosine" else 1) * (points @ weight)

    def mean_loss(part: np.ndarray, truth: np.ndarray, smoothing: float) -> float:
        log_p = part - np.log(np.exp(part).sum(1, keepdims=True))
        target = np.full(part.shape, smoothing / part.shape[1])
        target[np.arange(8), truth] += 1 - smoothing
        return float(-(target * log_p).sum(1).mean())

    found, terms = objective.loss(
        paddle.to_tensor(x), paddle.to_tensor(labels), generator(0), paddle.to_tensor(quarters)
    )
    expected = mean_loss(logits[:, :6], labels, 0.2) + 0.5 * mean_loss(logits[:, 6:], quarters, 0)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert terms == {
        "accuracy": pytest.approx((logits[:, :6].argmax(1) == labels).mean()),
        "rotation_accuracy": pytest.approx((logits[:, 6:].argmax(1) == quarters).mean()),
    }


def test_without_rotation_loss_there_is_nothing_to_turn() -> None:
    assert not cross_entropy().turns
    assert cross_entropy().head.weight.shape == [3, 6]
