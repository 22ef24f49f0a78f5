"""What a stage of training gives its network: which images, changed how, and features once where they stay."""

from typing import Any

import numpy as np
import pytest

from ppfsl.backbones.embedder import Architecture
from ppfsl.config import AugmentationConfig
from ppfsl.data.augmentation import augment
from ppfsl.data.table import ImageTable
from ppfsl.errors import UserError
from ppfsl.randomness import generator
from ppfsl.training.stage import base_labels
from tests.training.stage.toy import (
    CROSS_ENTROPY,
    EPISODES,
    METHODS,
    SIDE,
    TRIPLET,
    all_weights,
    changed,
    config,
    stage_of,
    train,
)

pytestmark = pytest.mark.usefixtures("as_in_a_run")


# --- images


def test_base_images_alone_are_seen() -> None:
    seen: list[int] = []

    class Images(np.ndarray):
        def __getitem__(self, key: Any) -> Any:
            if isinstance(key, np.ndarray):
                seen.extend(key.tolist())
            return super().__getitem__(key)

    labels = np.repeat([3, 1, 7, 5], 6)
    images = generator(0, "images").integers(0, 256, (24, SIDE, SIDE, 3)).astype(np.uint8)
    names = {int(label): str(label) for label in labels}
    table = ImageTable("toy", images.view(Images), labels, names, tuple(map(str, range(24))), {}, "0" * 64)
    base = np.flatnonzero(np.isin(labels, [3, 7]))
    objective = {"name": "cross_entropy", "batch_size": 4}
    train(stage_of(table, base, config(objective=objective, steps_per_epoch=3)), range(1))
    assert sorted(seen) == base.tolist()


def test_labels_are_numbered_in_their_order(table: ImageTable, rows: np.ndarray) -> None:
    labels = base_labels(table, rows)
    assert labels.dtype == np.int64
    numbers = {10: 0, 30: 1, 40: 2, 50: 3}
    assert labels.tolist() == [numbers[label] for label in table.labels[rows].tolist()]


def test_default_epoch_shows_every_image_about_once(table: ImageTable, rows: np.ndarray) -> None:
    stage = stage_of(table, rows, config(steps_per_epoch=None))
    assert stage.steps_per_epoch == len(rows) // 8
    assert len(list(stage.run_epoch(0))) == len(rows) // 8


def test_every_batch_has_chance_of_its_own(
    table: ImageTable, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[float] = []

    def remember(images: np.ndarray, size: int, config: AugmentationConfig, rng: np.random.Generator) -> np.ndarray:
        drawn.append(rng.random())
        return augment(images, size, config, rng)

    monkeypatch.setattr("ppfsl.training.stage.augment", remember)
    for seed in (0, 1):
        train(stage_of(table, rows, config(), seed), range(3))
    assert len(set(drawn)) == len(drawn) == 2 * 3 * 2


def test_training_images_may_have_a_size_of_their_own(table: ImageTable, rows: np.ndarray) -> None:
    architecture = Architecture("resnet12", 16, 3, 4, "unit")
    for size in (None, 18):
        stage = stage_of(table, rows, config(image_size=size), architecture=architecture)
        batch = next(stage._batches(0))
        assert batch.inputs.shape == (8, 3, size or 16, size or 16)
    before = all_weights(stage)
    train(stage, range(1))
    assert changed(before, all_weights(stage)) == set(before)


def test_images_are_turned_where_the_loss_asks_for_it(table: ImageTable, rows: np.ndarray) -> None:
    objective = {**CROSS_ENTROPY, "rotation_weight": 0.5}
    stage = stage_of(table, rows, config(objective=objective))
    plain = stage_of(table, rows, config())
    turned = 0
    for batch, upright in zip(stage._batches(0), plain._batches(0), strict=True):
        assert upright.quarters is None
        assert batch.quarters is not None
        for image, original, quarter in zip(batch.inputs, upright.inputs, batch.quarters, strict=True):
            assert np.array_equal(np.rot90(image, -quarter, axes=(1, 2)), original)
            turned += quarter > 0
    assert turned > 0
    steps = train(stage, range(1))
    assert all(step.terms.keys() == {"loss", "accuracy", "rotation_accuracy"} for step in steps)


def test_images_that_cannot_fill_batches_are_refused(table: ImageTable) -> None:
    with pytest.raises(UserError, match="training needs two base classes, not 1"):
        stage_of(table, np.flatnonzero(table.labels == 10), config())
    few = np.concatenate([np.flatnonzero(table.labels == label)[:2] for label in (10, 20, 30)])
    with pytest.raises(UserError, match="triplet batches need two base classes with 3 images or more"):
        stage_of(table, few, config(objective=TRIPLET))


# --- features


@pytest.mark.parametrize("trainable", ["projection", "head"])
def test_features_computed_once_equal_live_ones(table: ImageTable, rows: np.ndarray, trainable: str) -> None:
    ends, losses = [], []
    for live in (False, True):
        stage = stage_of(table, rows, config(trainable=trainable, optimizer={"name": "sgd", "lr": 0.1}))
        assert stage._features is not None
        assert stage._features.shape == (len(rows), 4)
        if live:
            stage._features = None
        losses.append([step.terms["loss"] for step in train(stage, range(4))])
        ends.append(all_weights(stage))
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    for name, value in ends[0].items():
        np.testing.assert_allclose(value, ends[1][name], rtol=1e-4, atol=1e-5)


def test_episodes_on_a_frozen_backbone_use_features_computed_once(table: ImageTable, rows: np.ndarray) -> None:
    objective = {"name": "prototypical", **EPISODES}
    ends, losses = [], []
    for live in (False, True):
        settings = config(objective=objective, trainable="projection", optimizer={"name": "sgd", "lr": 0.1})
        stage = stage_of(table, rows, settings)
        assert stage._features is not None
        if live:
            stage._features = None
        else:
            stage._table = None  # type: ignore[assignment]  # no image is looked at again
        before = all_weights(stage)
        losses.append([step.terms["loss"] for step in train(stage, range(4))])
        assert changed(before, all_weights(stage)) == {"projection.weight", "projection.bias"}
        ends.append(all_weights(stage))
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    np.testing.assert_allclose(ends[0]["projection.weight"], ends[1]["projection.weight"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("trainable", "augmentation"), [("all", {}), ("last_block", {}), ("projection", {"flip": True})]
)
def test_features_that_change_are_not_kept(
    table: ImageTable, rows: np.ndarray, trainable: str, augmentation: dict[str, Any]
) -> None:
    assert stage_of(table, rows, config(trainable=trainable, augmentation=augmentation))._features is None


@pytest.mark.parametrize("kind", ["prototypical", "memory_augmented"])
def test_features_of_classes_that_change_are_not_kept(table: ImageTable, rows: np.ndarray, kind: str) -> None:
    known = {"prototypical": {"name": "prototypical", **EPISODES}, **METHODS}[kind]
    objective = {**known, "task_augmentation": {"flip": True}}
    assert stage_of(table, rows, config(objective=objective, trainable="projection"))._features is None
