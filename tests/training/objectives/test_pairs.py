"""Balanced pairs, and the losses on them against plain loops."""

import math
from collections.abc import Callable
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfsl.config import ContrastiveConfig, SiameseConfig
from ppfsl.errors import UserError
from ppfsl.randomness import generator
from ppfsl.training.objectives.pairs import Contrastive, Siamese, balanced_pairs

LABELS = generator(0, "labels").permutation(np.repeat(np.arange(6), (7, 4, 9, 5, 4, 8)))
LAYOUT = {"classes_per_batch": 3, "images_per_class": 4}
BATCH = np.repeat([4, 0, 2], 4)


def siamese(labels: np.ndarray = LABELS, dim: int = 3, seed: int = 0, **changes: Any) -> Any:
    return Siamese(SiameseConfig(name="siamese", **{**LAYOUT, **changes}), labels, dim, seed)


def contrastive(labels: np.ndarray = LABELS, seed: int = 0, **changes: Any) -> Any:
    return Contrastive(ContrastiveConfig(name="contrastive", **{**LAYOUT, **changes}), labels, seed)


def pairs_of(labels: np.ndarray, key: int = 0) -> list[tuple[int, int, bool]]:
    """The pairs of a batch whose random numbers have that key: left, right, same."""
    left, right, same = balanced_pairs(labels, generator(0, "chance", key))
    return list(zip(left.tolist(), right.tolist(), same.tolist(), strict=True))


def unit(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


# --- pairs


@settings(deadline=None)
@given(labels=st.lists(st.integers(0, 5), min_size=2, max_size=14), key=st.integers(0, 2**40))
def test_pairs_are_all_of_one_class_and_as_many_of_two(labels: list[int], key: int) -> None:
    left, right, same = balanced_pairs(np.asarray(labels), generator(key))
    assert left.shape == right.shape == same.shape
    assert (left.dtype, right.dtype, same.dtype) == (np.int64, np.int64, np.bool_)
    every = {True: set(), False: set()}
    for one, other in combinations(range(len(labels)), 2):
        every[labels[one] == labels[other]].add(frozenset((one, other)))
    found = [frozenset(pair) for pair in zip(left.tolist(), right.tolist(), strict=True)]
    assert all(len(pair) == 2 for pair in found)
    assert len(set(found)) == len(found), "a pair is there twice"
    of_one = {pair for pair, equal in zip(found, same.tolist(), strict=True) if equal}
    of_two = {pair for pair, equal in zip(found, same.tolist(), strict=True) if not equal}
    assert of_one == every[True]
    assert of_two <= every[False]
    assert len(of_two) == min(len(every[True]), len(every[False]))


def test_pairs_of_two_classes_and_sides_are_by_chance() -> None:
    labels = np.repeat([0, 1, 2], 2)  # 3 pairs of one class, 12 of two
    counts: dict[tuple[int, int], int] = {}
    for key in range(1000):
        for left, right, _ in pairs_of(labels, key):
            counts[left, right] = counts.get((left, right), 0) + 1
    assert len(counts) == 30, "every pair comes, either way round"
    for (left, right), count in counts.items():
        expected, deviation = (500, 16) if labels[left] == labels[right] else (125, 10.5)
        assert abs(count - expected) < 5 * deviation


def test_pairs_depend_on_the_random_numbers_alone() -> None:
    assert pairs_of(BATCH) == pairs_of(BATCH)
    assert pairs_of(BATCH) != pairs_of(BATCH, key=1)


@pytest.mark.parametrize("build", [siamese, contrastive])
def test_batches_are_of_classes_with_so_many_images(build: Callable[..., Any]) -> None:
    objective = build(classes_per_batch=2, images_per_class=7)
    assert objective.steps == len(LABELS) // 14
    batches = list(objective.batches(0, 10))
    assert len(batches) == 10
    for batch in batches:
        labels = LABELS[batch].reshape(2, 7)
        assert (labels == labels[:, :1]).all()
        assert labels[0, 0] != labels[1, 0]
        assert len(set(batch.tolist())) == 14


# --- losses


@pytest.mark.parametrize(
    ("merge", "hidden"),
    [
        ("absolute_difference", ()),
        ("absolute_difference", (5, 2)),
        ("concatenation", (5,)),
        ("concatenation", (5, 2)),
    ],
)
def test_siamese_loss_is_binary_cross_entropy(
    vectors: Callable[..., Any], loss_of: Callable[..., Any], merge: str, hidden: tuple[int, ...]
) -> None:
    objective = siamese(merge=merge, hidden=hidden)
    sizes = [3 if merge == "absolute_difference" else 6, *hidden, 1]
    layers = []
    for number, (before, after) in enumerate(pairwise(sizes)):
        linear = objective.head.linears[number]
        assert linear.weight.shape == [before, after]
        linear.bias.set_value(generator(0, "bias", number).normal(0, 0.3, after).astype(np.float32))
        layers.append((linear.weight.numpy().astype(np.float64), linear.bias.numpy().astype(np.float64)))
    x = 2 * vectors(12)

    def log_odds(merged: np.ndarray) -> float:
        for place, (weight, bias) in enumerate(layers):
            merged = merged @ weight + bias
            if place < len(layers) - 1:
                merged = np.maximum(merged, 0)
        return float(merged[0])

    losses, right_side = [], []
    for left, right, same in pairs_of(BATCH):
        a, b = x[left].astype(np.float64), x[right].astype(np.float64)
        if merge == "absolute_difference":
            z = log_odds(abs(a - b))
        else:
            z = (log_odds(np.concatenate([a, b])) + log_odds(np.concatenate([b, a]))) / 2
        probability = 1 / (1 + math.exp(-z))
        losses.append(-math.log(probability if same else 1 - probability))
        right_side.append((probability > 0.5) == same)
    loss, terms = loss_of(objective, x, BATCH)
    assert loss == pytest.approx(np.mean(losses), rel=1e-4)
    assert terms == {"pair_accuracy": pytest.approx(np.mean(right_side))}
    assert len(losses) == 2 * 3 * 6


def test_siamese_vectors_are_not_normalised(vectors: Callable[..., Any], loss_of: Callable[..., Any]) -> None:
    objective = siamese()
    assert loss_of(objective, 5 * vectors(12), BATCH)[0] != pytest.approx(loss_of(objective, vectors(12), BATCH)[0])


@pytest.mark.parametrize("margin", [0.5, 1.0, 2.0])
def test_contrastive_loss_is_of_embeddings_of_length_one(
    vectors: Callable[..., Any], loss_of: Callable[..., Any], margin: float
) -> None:
    x = vectors(12)
    embeddings = unit(x)
    losses: list[float] = []
    distances: dict[bool, list[float]] = {True: [], False: []}
    for left, right, same in pairs_of(BATCH):
        distance = math.dist(embeddings[left], embeddings[right])
        distances[same].append(distance)
        losses.append(distance**2 / 2 if same else max(0.0, margin - distance) ** 2 / 2)
    loss, terms = loss_of(contrastive(margin=margin), x, BATCH)
    assert loss == pytest.approx(np.mean(losses), rel=1e-4)
    assert terms == {
        "distance_same": pytest.approx(np.mean(distances[True]), rel=1e-4),
        "distance_other": pytest.approx(np.mean(distances[False]), rel=1e-4),
    }
    assert loss_of(contrastive(margin=margin), 7 * x, BATCH)[0] == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("build", [siamese, contrastive])
@pytest.mark.parametrize("equal", [(0, 1), (0, 4), tuple(range(12))], ids=["same class", "two classes", "all"])
def test_equal_images_give_gradients_that_are_numbers(
    build: Callable[..., Any], vectors: Callable[..., Any], equal: tuple[int, ...]
) -> None:
    x = vectors(12)
    x[list(equal)] = x[0]
    for key in range(5):  # so that the pair of two classes is among them
        tensor = paddle.to_tensor(x)
        tensor.stop_gradient = False
        loss, _ = build().loss(tensor, paddle.to_tensor(BATCH), generator(0, "chance", key))
        loss.backward()
        assert np.isfinite(tensor.grad.numpy()).all()
    together = {pair[:2] for key in range(5) for pair in pairs_of(BATCH, key)}
    assert any({left, right} <= set(equal) for left, right in together)


# --- complaints


def test_pairs_that_are_not_told_apart_are_complained_about() -> None:
    complaint = siamese().complaint({"loss": 0.69, "pair_accuracy": 0.503})
    assert complaint is not None
    assert complaint.startswith("50 % of the pairs are told apart, no more than by guessing; ")
    assert "learning rate" in complaint
    for accuracy in (0.53, 0.8, 1.0):
        assert siamese().complaint({"loss": 0.69, "pair_accuracy": accuracy}) is None


@pytest.mark.parametrize("margin", [0.5, 1.0])
def test_collapsed_embeddings_are_complained_about(
    vectors: Callable[..., Any], loss_of: Callable[..., Any], margin: float
) -> None:
    objective = contrastive(margin=margin)
    x = np.tile(vectors(1), (12, 1))
    loss, terms = loss_of(objective, x + 1e-4 * vectors(12, 1), BATCH)
    complaint = objective.complaint({"loss": loss, **terms})
    assert complaint is not None
    assert complaint.startswith("the embeddings of all classes have collapsed to one point; try ")
    loss, terms = loss_of(objective, vectors(12), BATCH)
    assert objective.complaint({"loss": loss, **terms}) is None
    assert objective.complaint({"distance_same": 0.0, "distance_other": 0.03 * margin}) is None


# --- refusals


@pytest.mark.parametrize(("build", "what"), [(siamese, "Siamese"), (contrastive, "contrastive")])
def test_base_classes_that_cannot_fill_batches_are_refused(build: Callable[..., Any], what: str) -> None:
    with pytest.raises(UserError, match=f"^{what} batches need two base classes with 4 images or more; add"):
        build(np.asarray([0, 0, 0, 0, 1]))
    with pytest.raises(UserError, match="classes_per_batch is 4, but only 3 base classes have 7 images; lower it"):
        build(classes_per_batch=4, images_per_class=7)
