"""Stages whose batches are tasks: their classes changed, all of the network trained, novel classes learned better."""

from typing import Any

import numpy as np
import paddle
import pytest

from ppfsl.backbones.embedder import Architecture
from ppfsl.config import ValidationConfig
from ppfsl.config.objectives import augments_tasks
from ppfsl.data.augmentation import change_classes
from ppfsl.data.table import ImageTable
from ppfsl.methods.task_network import copies
from ppfsl.randomness import generator
from ppfsl.training.objectives.base import batch_classes
from ppfsl.training.stage import Stage
from ppfsl.training.validation import Validation
from tests.training.stage.toy import METHODS, TASKS, all_weights, changed, config, same, stage_of, train

pytestmark = pytest.mark.usefixtures("as_in_a_run")


@pytest.mark.parametrize("kind", ["relation", "memory_augmented", "maml"])
def test_tasks_see_their_classes_changed(
    table: ImageTable, rows: np.ndarray, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pixels that the network is given, against the change of the batch's classes by the batch's own chance."""
    changes = {"turn": True, "flip": True, "color": 0.3}
    objective = {**METHODS, **TASKS}[kind] | {"task_augmentation": changes}
    stage = stage_of(table, rows, config(objective=objective))
    batch = next(stage.objective.batches(0, 1))
    seen = stage._pixels(batch, generator(0, "chance"))
    keys = stage.config.objective
    assert augments_tasks(keys)
    expected = change_classes(
        table.images[rows[batch]], batch_classes(keys), keys.task_augmentation, generator(0, "chance")
    )
    assert np.array_equal(seen, expected[:, 1:17, 1:17].transpose(0, 3, 1, 2).astype(np.float32))
    given = []
    monkeypatch.setattr(stage, "_pixels", lambda *arguments: given.append(True) or Stage._pixels(stage, *arguments))
    train(stage, range(1))
    assert given == [True, True]


@pytest.mark.parametrize("kind", TASKS)
def test_tasks_train_all_of_the_network(table: ImageTable, rows: np.ndarray, kind: str) -> None:
    stage = stage_of(table, rows, config(objective=TASKS[kind], optimizer={"lr": 0.01}))
    before = all_weights(stage)
    steps = train(stage, range(4))
    assert changed(before, all_weights(stage)) == set(before)
    assert {"head.linear.weight", "backbone.blocks.0.1._mean", "projection.bias"} <= set(before)
    assert ("head.rates.0" in before) == (kind == "meta_sgd")
    assert [step.images for step in steps] == [2 * 3 * (1 + 2)] * 8
    assert all(step.terms.keys() == {"loss", "accuracy"} for step in steps)
    assert all(0 <= step.terms["accuracy"] <= 1 < 3 * step.terms["loss"] for step in steps)


@pytest.mark.parametrize("kind", TASKS)
def test_training_on_tasks_is_a_pure_function_of_the_seed(table: ImageTable, rows: np.ndarray, kind: str) -> None:
    ends = []
    for seed in (0, 0, 1):
        stage = stage_of(table, rows, config(objective=TASKS[kind], augmentation={"flip": True, "jitter": 0.3}), seed)
        train(stage, range(2))
        ends.append(all_weights(stage))
        paddle.seed(seed + 5)
    assert same(ends[0], ends[1])
    assert not same(ends[0], ends[2])


def test_reptile_by_gradient_descent_moves_towards_the_mean_of_the_adapted_weights(
    table: ImageTable, rows: np.ndarray
) -> None:
    settings = config(objective=TASKS["reptile"], optimizer={"name": "sgd", "lr": 0.25}, schedule={"name": "constant"})
    stage = stage_of(table, rows, settings)
    method: Any = stage.objective.method
    start = {name: weight.numpy().copy() for name, weight in method.network.weights().items()}
    (batch,) = list(stage.objective.batches(0, 2))[:1]
    pixels = paddle.to_tensor(table.images[rows[batch]][:, 1:17, 1:17].transpose(0, 3, 1, 2).astype(np.float32))
    ends, labels = [], paddle.to_tensor([0, 1, 2])
    for part, chance in zip(pixels.split(2), generator(0, "batch", 0, 0).spawn(2), strict=True):
        ends.append(method.adapted(copies(method.network.weights()), part[:3], labels, False, chance))
    next(stage.run_epoch(0))
    for name, weight in method.network.weights().items():
        mean = np.mean([end[name].numpy() for end in ends], axis=0)
        assert np.abs(mean - start[name]).max() > 1e-3
        np.testing.assert_allclose(weight.numpy(), start[name] + 0.25 * (mean - start[name]), atol=1e-6)


@pytest.fixture(scope="module")
def waves() -> ImageTable:
    """Noisy grey waves of any phase, a direction for each of 18 classes."""
    rng, labels = generator(0, "waves"), np.repeat(np.arange(18), 12)
    y, x = np.mgrid[:16, :16]
    angle, phase = (np.pi / 18 * labels)[:, None, None], rng.uniform(0, 2 * np.pi, (len(labels), 1, 1))
    images = 128 + 70 * np.sin(1.4 * (np.cos(angle) * x + np.sin(angle) * y) + phase)
    images = (images + rng.normal(0, 40, images.shape)).clip(0, 255).astype(np.uint8)
    names = {label: str(label) for label in range(18)}
    return ImageTable("waves", images[..., None], labels, names, tuple(map(str, range(len(labels)))), {}, "0" * 64)


@pytest.mark.parametrize(
    ("objective", "optimizer", "steps"),
    [
        ({"name": "maml", "episodes_per_batch": 4}, {"name": "adam", "lr": 0.01}, 30),
        (
            {"name": "maml", "order": 1, "episodes_per_batch": 4, "inner_steps": 2, "inner_lr": 0.1},
            {"name": "adam", "lr": 0.01},
            15,
        ),
        (
            {"name": "meta_sgd", "episodes_per_batch": 4, "batch_norm": "support_statistics"},
            {"name": "adam", "lr": 0.01},
            20,
        ),
        (
            {"name": "reptile", "shot": 6, "episodes_per_batch": 2, "inner_batch": 6, "inner_lr": 0.02},
            {"name": "sgd", "lr": 1.0},
            15,
        ),
        ({"name": "anil", "episodes_per_batch": 4, "inner_lr": 0.5}, {"name": "adam", "lr": 0.01}, 30),
        (
            {"name": "lstm_meta_learner", "episodes_per_batch": 4, "inner_steps": 2, "inner_lr": 0.2},
            {"name": "adam", "lr": 0.01},
            20,
        ),
    ],
    ids=["maml", "first order", "meta_sgd", "reptile", "anil", "lstm_meta_learner"],
)
def test_novel_classes_are_learned_after_training_far_better_than_before(
    waves: ImageTable, objective: dict[str, Any], optimizer: dict[str, Any], steps: int
) -> None:
    settings = config(
        objective={"way": 3, "shot": 2, "query": 4, **objective},
        optimizer=optimizer,
        schedule={"name": "constant"},
        steps_per_epoch=steps,
    )
    novel = waves.labels % 3 == 0
    architecture = Architecture("conv4", 16, 1, None, "unit", (("pools", 2), ("width", 8)))
    stage = stage_of(waves, np.flatnonzero(~novel), settings, architecture=architecture)
    judged = Validation(waves, np.flatnonzero(novel), ValidationConfig(way=3, shot=2, query=4, episodes=30), 0)
    before = judged.score(stage.embedder, False, stage.objective.method)
    train(stage, range(1))
    after = judged.score(stage.embedder, False, stage.objective.method)
    assert after > max(0.7, before + 0.2)
