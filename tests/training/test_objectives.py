"""Objectives: which images make a batch, what the loss of one is, and when something is said to go wrong."""

import math
from typing import Any

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfsl.config import CosineConfig, CrossEntropyConfig, TripletConfig
from ppfsl.errors import UserError
from ppfsl.randomness import generator
from ppfsl.training.objectives import Objective, build_objective

LABELS = generator(0, "labels").permutation(np.repeat(np.arange(6), (7, 4, 9, 5, 4, 8)))


def cross_entropy(labels: np.ndarray = LABELS, dim: int = 3, seed: int = 0, **changes: Any) -> Any:
    return build_objective(CrossEntropyConfig(name="cross_entropy", **changes), labels, dim, seed)


def cosine(labels: np.ndarray = LABELS, seed: int = 0, **changes: Any) -> Any:
    return build_objective(CosineConfig(name="cosine", **changes), labels, 3, seed)


def triplet(labels: np.ndarray = LABELS, seed: int = 0, **changes: Any) -> Any:
    layout = {"classes_per_batch": 3, "images_per_class": 4}
    return build_objective(TripletConfig(name="triplet", **{**layout, **changes}), labels, 3, seed)


KINDS = {"cross_entropy": cross_entropy, "cosine": cosine, "triplet": triplet}


def projected(count: int, key: int = 0) -> np.ndarray:
    return generator(0, "projected", key).standard_normal((count, 3)).astype(np.float32)


def loss_of(objective: Objective, x: np.ndarray, labels: np.ndarray, key: int = 0) -> tuple[float, dict[str, float]]:
    loss, terms = objective.loss(paddle.to_tensor(x), paddle.to_tensor(labels), generator(0, "chance", key))
    return loss.item(), terms


# --- batches


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_pure_functions_of_seed_and_epoch(kind: str) -> None:
    def batches(epoch: int, seed: int = 0, steps: int = 5) -> list[list[int]]:
        changes = {"batch_size": 8} if kind == "cross_entropy" else {}
        return [batch.tolist() for batch in KINDS[kind](seed=seed, **changes).batches(epoch, steps)]

    assert batches(3) == batches(3)
    assert batches(3, steps=2) == batches(3)[:2]
    assert batches(3) != batches(4)
    assert batches(3) != batches(3, seed=1)
    objective = KINDS[kind](seed=0)
    consumed = [list(objective.batches(epoch, 2)) for epoch in (9, 3)]  # an earlier epoch leaves no trace
    again = list(KINDS[kind](seed=0).batches(3, 2))
    assert all(np.array_equal(a, b) for a, b in zip(consumed[1], again, strict=True))


@settings(deadline=None, max_examples=50)
@given(count=st.integers(4, 60), batch_size=st.integers(2, 70), steps=st.integers(1, 12), epoch=st.integers(0, 100))
def test_cross_entropy_shows_an_image_at_most_once_a_pass(count: int, batch_size: int, steps: int, epoch: int) -> None:
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


@settings(deadline=None, max_examples=50)
@given(sizes=st.lists(st.integers(1, 6), min_size=3, max_size=6), triples=st.integers(1, 9), epoch=st.integers(0, 9))
def test_triples_are_anchor_positive_and_negative(sizes: list[int], triples: int, epoch: int) -> None:
    sizes = [*sizes, 2, 3]  # two classes that can give an anchor and a positive
    labels = generator(0, "labels", *sizes).permutation(np.repeat(np.arange(len(sizes)), sizes))
    objective = cosine(labels, triples=triples)
    assert objective.steps == max(len(labels) // (3 * triples), 1)
    for batch in objective.batches(epoch, 3):
        assert batch.shape == (3 * triples,)
        for anchor, positive, negative in batch.reshape(3, triples).T:
            assert anchor != positive
            assert labels[anchor] == labels[positive]
            assert labels[anchor] != labels[negative]


def test_triples_reach_every_class_and_pair_of_classes() -> None:
    batch = next(iter(cosine(triples=2000).batches(0, 1))).reshape(3, -1)
    anchors, negatives = LABELS[batch[0]], LABELS[batch[2]]
    counts = np.zeros((6, 6))
    np.add.at(counts, (anchors, negatives), 1)
    assert (np.diag(counts) == 0).all()
    off = counts[~np.eye(6, dtype=bool)]
    assert np.abs(off - 2000 / 30).max() < 45  # 5.5 standard deviations
    assert set(batch[0]) == set(range(len(LABELS)))


@settings(deadline=None, max_examples=50)
@given(classes=st.integers(2, 6), images=st.integers(2, 4), epoch=st.integers(0, 9))
def test_triplet_batches_are_distinct_images_class_by_class(classes: int, images: int, epoch: int) -> None:
    objective = triplet(classes_per_batch=classes, images_per_class=images)
    assert objective.steps == max(len(LABELS) // (classes * images), 1)
    for batch in objective.batches(epoch, 3):
        assert len(set(batch.tolist())) == len(batch) == classes * images
        labels = LABELS[batch].reshape(classes, images)
        assert (labels == labels[:, :1]).all()
        assert len(set(labels[:, 0].tolist())) == classes


def test_classes_that_are_too_small_stay_out_of_triplet_batches() -> None:
    for batch in triplet(images_per_class=7, classes_per_batch=3).batches(0, 10):
        assert set(LABELS[batch].tolist()) == {0, 2, 5}


# --- losses


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_linear_classifier(smoothing: float) -> None:
    objective = cross_entropy(label_smoothing=smoothing)
    assert objective.head.weight.shape == [3, 6]
    x, labels = projected(8), LABELS[:8]
    objective.head.bias.set_value(np.arange(6, dtype=np.float32))
    logits = x.astype(np.float64) @ objective.head.weight.numpy() + np.arange(6)
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    target = np.full((8, 6), smoothing / 6)
    target[np.arange(8), labels] += 1 - smoothing
    loss, terms = loss_of(objective, x, labels)
    assert loss == pytest.approx(-(target * log_probabilities).sum(1).mean(), rel=1e-5)
    assert terms == {"accuracy": pytest.approx((logits.argmax(1) == labels).mean())}


@pytest.mark.parametrize("scale", [None, 4.0])
def test_cosine_classifier(scale: float | None) -> None:
    objective = cross_entropy(classifier="cosine", scale=scale)
    assert list(objective.head.state_dict()) == ["weight"]
    x, labels = projected(8), LABELS[:8]
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


def test_cosine_pairs() -> None:
    x = projected(6).astype(np.float64)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    similar = [float(unit[i] @ unit[2 + i]) for i in range(2)]
    different = [float(unit[i] @ unit[4 + i]) for i in range(2)]
    expected = (sum((s - 1) ** 2 for s in similar) + sum(s**2 for s in different)) / 4
    loss, terms = loss_of(cosine(triples=2), x.astype(np.float32), np.asarray([0, 1, 0, 1, 1, 0]))
    assert loss == pytest.approx(expected, rel=1e-5)
    assert terms == {
        "similarity_same": pytest.approx(sum(similar) / 2, rel=1e-5),
        "similarity_other": pytest.approx(sum(different) / 2, rel=1e-5),
    }


def test_triplet_loss_is_of_embeddings_of_length_one() -> None:
    x, labels = projected(12), np.repeat([0, 1, 2], 4)
    objective = triplet(mining="batch_hard", margin=0.5)
    unit = x.astype(np.float64) / np.linalg.norm(x, axis=1, keepdims=True)
    distance = ((unit[:, None] - unit[None]) ** 2).sum(-1)
    each = [
        max(0, max(distance[a][labels == labels[a]]) + 0.5 - min(distance[a][labels != labels[a]])) for a in range(12)
    ]
    loss, terms = loss_of(objective, x, labels)
    assert loss == pytest.approx(np.mean(each), rel=1e-4)
    assert terms == {"active_triplets": pytest.approx(np.mean(np.asarray(each) > 0))}
    assert loss_of(objective, 5 * x, labels)[0] == pytest.approx(loss, rel=1e-4)


def test_random_triplets_depend_on_the_batchs_numbers_alone() -> None:
    x, labels = projected(12), np.repeat([0, 1, 2], 4)
    objective = triplet(mining="random", margin=1.0)
    losses = [loss_of(objective, x, labels, key)[0] for key in (0, 0, 1, 2)]
    assert losses[0] == losses[1]
    assert len(set(losses)) > 1


# --- complaints


@pytest.mark.parametrize("mining", ["random", "batch_all", "batch_hard", "semi_hard"])
@pytest.mark.parametrize("margin", [0.2, 1.0])
def test_collapsed_embeddings_are_complained_about(mining: str, margin: float) -> None:
    objective = triplet(mining=mining, margin=margin)
    x, labels = np.tile(projected(1), (12, 1)), np.repeat([0, 1, 2], 4)
    loss, terms = loss_of(objective, x + 1e-4 * projected(12, 1), labels)
    complaint = objective.complaint({"loss": loss, **terms})
    assert complaint is not None
    assert f"the triplet loss sits at the margin ({margin}): all embeddings have collapsed" in complaint
    assert "semi_hard or batch_all" in complaint


@pytest.mark.parametrize(("loss", "active"), [(0.1, 1.0), (0.2, 0.9), (0.25, 1.0), (0.0, 0.0), (0.19, 1.0)])
def test_training_that_is_not_at_the_margin_is_not_complained_about(loss: float, active: float) -> None:
    assert triplet(margin=0.2).complaint({"loss": loss, "active_triplets": active}) is None


def test_spread_embeddings_are_not_complained_about() -> None:
    for mining in ("random", "batch_all", "batch_hard", "semi_hard"):
        objective = triplet(mining=mining)
        loss, terms = loss_of(objective, projected(12), np.repeat([0, 1, 2], 4))
        assert objective.complaint({"loss": loss, **terms}) is None


def test_other_objectives_do_not_complain() -> None:
    assert cross_entropy().complaint({"loss": 99.0, "accuracy": 0.0}) is None
    assert cosine().complaint({"loss": 99.0}) is None
    assert cosine().head is triplet().head is None


# --- refusals


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: cosine(np.asarray([0, 0, 1])), "cosine triples need two base classes with 2 images or more; add"),
        (lambda: triplet(np.asarray([0, 0, 0, 0, 1])), "triplet batches need two base classes with 4 images or more"),
        (
            lambda: triplet(classes_per_batch=4, images_per_class=7),
            "classes_per_batch is 4, but only 3 base classes have 7 images; lower it",
        ),
        (lambda: cross_entropy(np.zeros(5, dtype=np.int64)), "training needs two base classes, but there are 1"),
    ],
)
def test_base_classes_that_cannot_fill_batches_are_refused(build: Any, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        build()
    assert sentence in str(caught.value)
