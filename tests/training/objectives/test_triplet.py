"""The triplet loss as an objective, and what it says of a collapsed embedder."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ppfsl.config import TripletConfig
from ppfsl.errors import UserError
from ppfsl.randomness import generator
from ppfsl.training.objectives.triplet import Triplet

LABELS = generator(0, "labels").permutation(np.repeat(np.arange(6), (7, 4, 9, 5, 4, 8)))


def triplet(labels: np.ndarray = LABELS, seed: int = 0, **changes: Any) -> Any:
    layout = {"classes_per_batch": 3, "images_per_class": 4}
    return Triplet(TripletConfig(name="triplet", **{**layout, **changes}), labels, seed)


def test_batches_are_of_classes_with_so_many_images() -> None:
    objective = triplet(classes_per_batch=2, images_per_class=7)
    assert objective.steps == len(LABELS) // 14
    for batch in objective.batches(0, 10):
        labels = LABELS[batch].reshape(2, 7)
        assert (labels == labels[:, :1]).all()
        assert labels[0, 0] != labels[1, 0]
        assert set(batch.tolist()) <= set(np.flatnonzero(np.isin(LABELS, [0, 2, 5])).tolist())


def test_loss_is_of_embeddings_of_length_one(vectors: Callable[..., Any], loss_of: Callable[..., Any]) -> None:
    x, labels = vectors(12), np.repeat([0, 1, 2], 4)
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


def test_random_triplets_depend_on_the_batchs_numbers_alone(
    vectors: Callable[..., Any], loss_of: Callable[..., Any]
) -> None:
    x, labels = vectors(12), np.repeat([0, 1, 2], 4)
    objective = triplet(mining="random", margin=1.0)
    losses = [loss_of(objective, x, labels, key)[0] for key in (0, 0, 1, 2)]
    assert losses[0] == losses[1]
    assert len(set(losses)) > 1


# --- complaints


@pytest.mark.parametrize("mining", ["random", "batch_all", "batch_hard", "semi_hard"])
@pytest.mark.parametrize("margin", [0.2, 1.0])
def test_collapsed_embeddings_are_complained_about(
    vectors: Callable[..., Any], loss_of: Callable[..., Any], mining: str, margin: float
) -> None:
    objective = triplet(mining=mining, margin=margin)
    x, labels = np.tile(vectors(1), (12, 1)), np.repeat([0, 1, 2], 4)
    loss, terms = loss_of(objective, x + 1e-4 * vectors(12, 1), labels)
    complaint = objective.complaint({"loss": loss, **terms})
    assert complaint is not None
    assert f"the triplet loss sits at the margin ({margin}): all embeddings have collapsed" in complaint
    assert "semi_hard or batch_all" in complaint


@pytest.mark.parametrize(("loss", "active"), [(0.1, 1.0), (0.2, 0.9), (0.25, 1.0), (0.0, 0.0), (0.19, 1.0)])
def test_training_that_is_not_at_the_margin_is_not_complained_about(loss: float, active: float) -> None:
    assert triplet(margin=0.2).complaint({"loss": loss, "active_triplets": active}) is None


def test_spread_embeddings_are_not_complained_about(vectors: Callable[..., Any], loss_of: Callable[..., Any]) -> None:
    for mining in ("random", "batch_all", "batch_hard", "semi_hard"):
        objective = triplet(mining=mining)
        loss, terms = loss_of(objective, vectors(12), np.repeat([0, 1, 2], 4))
        assert objective.complaint({"loss": loss, **terms}) is None


# --- refusals


def test_base_classes_that_cannot_fill_batches_are_refused() -> None:
    with pytest.raises(UserError, match="triplet batches need two base classes with 4 images or more"):
        triplet(np.asarray([0, 0, 0, 0, 1]))
    with pytest.raises(UserError, match="classes_per_batch is 4, but only 3 base classes have 7 images; lower it"):
        triplet(classes_per_batch=4, images_per_class=7)
