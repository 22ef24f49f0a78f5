"""What learns in a stage of training and what stays bit by bit, by which steps, and that no step follows a bad loss."""

from dataclasses import replace
from typing import Any

import numpy as np
import paddle
import pytest

from ppfsl.backbones.embedder import Embedder
from ppfsl.data.table import ImageTable
from ppfsl.training.stage import NonFiniteLossError, Stage, base_labels
from tests.training.stage.toy import ARCHITECTURE, METHODS, TRIPLET, all_weights, changed, config, same, stage_of, train

pytestmark = pytest.mark.usefixtures("as_in_a_run")


# --- what learns


@pytest.mark.parametrize("augmentation", [{}, {"crop": "random", "flip": True}], ids=["plain", "augmented"])
@pytest.mark.parametrize(
    ("trainable", "beginnings"),
    [
        ("all", ("backbone.", "projection.", "head.")),
        ("last_block", ("backbone.blocks.3.", "projection.", "head.")),
        ("projection", ("projection.", "head.")),
        ("head", ("head.",)),
    ],
)
def test_exactly_what_is_trainable_changes(
    table: ImageTable, rows: np.ndarray, trainable: str, beginnings: tuple[str, ...], augmentation: dict[str, Any]
) -> None:
    decay = {"name": "adamw", "lr": 0.01, "weight_decay": 0.1}
    stage = stage_of(table, rows, config(trainable=trainable, augmentation=augmentation, optimizer=decay))
    before = all_weights(stage)
    train(stage, range(2))
    expected = {name for name in before if name.startswith(beginnings)}
    assert changed(before, all_weights(stage)) == expected
    for name, parameter in stage.embedder.named_parameters():
        assert name in expected or parameter.grad is None  # no time is spent on what does not learn
    if trainable in ("all", "last_block"):
        assert any(name.endswith("_variance") for name in expected)


@pytest.mark.parametrize("trainable", ["all", "last_block"])
def test_backbone_without_projection_learns(table: ImageTable, rows: np.ndarray, trainable: str) -> None:
    stage = stage_of(table, rows, config(trainable=trainable), architecture=replace(ARCHITECTURE, projection=None))
    before = all_weights(stage)
    train(stage, range(1))
    start = "backbone." if trainable == "all" else "backbone.blocks.3."
    assert changed(before, all_weights(stage)) == {name for name in before if name.startswith((start, "head."))}


def test_objectives_without_head_train_the_embedder(table: ImageTable, rows: np.ndarray) -> None:
    stage = stage_of(table, rows, config(objective=TRIPLET))
    before = all_weights(stage)
    train(stage, range(1))
    assert {"projection.weight", "backbone.blocks.0.0.weight"} <= changed(before, all_weights(stage))
    assert not any(name.startswith("head.") for name in before)


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("trainable", ["all", "projection", "head"])
def test_what_a_method_learns_beside_the_embedder_is_trained(
    table: ImageTable, rows: np.ndarray, trainable: str, kind: str
) -> None:
    """A map of 4 x 4 pixels for the relation module, which has batch norm, where there is no projection."""
    relation = kind == "relation" and trainable != "projection"
    architecture = replace(ARCHITECTURE, projection=None if relation else 6, options=(("pools", 2), ("width", 4)))
    settings = config(objective=METHODS[kind], trainable=trainable, optimizer={"lr": 0.01})
    stage = stage_of(table, rows, settings, architecture=architecture)
    before = all_weights(stage)
    train(stage, range(2))
    beginnings = {"all": ("backbone.", "projection.", "head."), "projection": ("projection.", "head."), "head": "head."}
    expected = {name for name in before if name.startswith(beginnings[trainable])}
    assert changed(before, all_weights(stage)) == expected
    assert any(name.startswith("head.") for name in expected)
    if kind == "relation":
        assert {"head.norms.0._mean", "head.norms.1._variance"} <= expected


@pytest.mark.parametrize("kind", METHODS)
def test_a_methods_layer_is_in_training_mode_in_every_epoch(table: ImageTable, rows: np.ndarray, kind: str) -> None:
    stage = stage_of(table, rows, config(objective=METHODS[kind]))
    layer = stage.objective.head
    assert layer is not None
    for epoch in range(2):
        layer.eval()  # as a validation leaves it
        modes = []
        for _ in stage.run_epoch(epoch):
            modes += [part.training for part in layer.sublayers(include_self=True)]
        assert modes
        assert all(modes)


def test_later_stage_thaws_what_an_earlier_one_froze(table: ImageTable, rows: np.ndarray) -> None:
    first = stage_of(table, rows, config(trainable="head"))
    train(first, range(1))
    second = Stage(config(), first.embedder, table, rows, 1)
    before = all_weights(second)
    train(second, range(1))
    assert changed(before, all_weights(second)) == set(before)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_the_decay_may_concern_the_objectives_layers_alone(table: ImageTable, rows: np.ndarray, name: str) -> None:
    ends, before = [], {}
    for decay, decayed in ((0.0, "all"), (0.5, "all"), (0.5, "head")):
        optimizer = {"name": name, "lr": 0.1, "weight_decay": decay}
        keys = {"steps_per_epoch": 1, "epochs": 1, "schedule": {"name": "constant"}, "decayed": decayed}
        stage = stage_of(table, rows, config(optimizer=optimizer, **keys))
        before = all_weights(stage)
        train(stage, range(1))
        ends.append(all_weights(stage))
    plain, everywhere, head = ends
    assert {"head.weight", "projection.weight", "backbone.blocks.0.0.weight"} <= changed(plain, everywhere)
    assert changed(plain, head) == {"head.weight"}
    np.testing.assert_allclose(head["head.weight"], plain["head.weight"] - 0.05 * before["head.weight"], atol=1e-6)


# --- steps


def test_steps_say_what_they_did(table: ImageTable, rows: np.ndarray) -> None:
    schedule = {"name": "step", "milestones": [1], "gamma": 0.1}
    stage = stage_of(table, rows, config(schedule=schedule, optimizer={"name": "sgd", "lr": 0.5}))
    assert stage.steps_per_epoch == 2
    steps = train(stage, range(2))
    assert [step.learning_rate for step in steps] == pytest.approx([0.5, 0.5, 0.05, 0.05])
    assert [step.images for step in steps] == [8] * 4
    assert all(step.terms.keys() == {"loss", "accuracy"} for step in steps)


def test_rate_of_a_step_is_the_one_applied(table: ImageTable, rows: np.ndarray) -> None:
    # The bias of a linear classifier moves by the rate times the mean of (target - probability).
    settings = config(trainable="head", optimizer={"name": "sgd", "lr": 0.5}, schedule={"warmup_epochs": 1})
    stage = stage_of(table, rows, settings)
    head = stage.objective.head
    assert isinstance(head, paddle.nn.Linear)
    head.weight.set_value(paddle.zeros_like(head.weight))
    step = next(stage.run_epoch(0))
    assert step.learning_rate == pytest.approx(0.5 / 3)
    batch = next(iter(stage.objective.batches(0, 1)))
    target = np.bincount(base_labels(table, rows)[batch], minlength=4) / 8
    np.testing.assert_allclose(head.bias.numpy(), step.learning_rate * (target - 1 / 4), atol=1e-6)
    assert step.terms["loss"] == pytest.approx(np.log(4), rel=1e-5)


def test_loss_falls(table: ImageTable, rows: np.ndarray) -> None:
    stage = stage_of(table, rows, config(epochs=15, optimizer={"name": "adam", "lr": 0.01}))
    losses = [step.terms["loss"] for step in train(stage, range(15))]
    assert np.mean(losses[-4:]) < 0.5 * np.mean(losses[:4])


def test_training_is_a_pure_function_of_the_seed(table: ImageTable, rows: np.ndarray) -> None:
    ends = []
    for seed in (0, 0, 1):
        stage = stage_of(table, rows, config(augmentation={"crop": "resized", "jitter": 0.3}), seed)
        train(stage, range(2))
        ends.append(all_weights(stage))
        paddle.seed(seed + 5)
    assert same(ends[0], ends[1])
    assert not same(ends[0], ends[2])


# --- what goes wrong


def poison(embedder: Embedder) -> None:
    embedder.projection.bias.set_value(paddle.full_like(embedder.projection.bias, float("nan")))


def test_loss_that_is_not_finite_stops_before_the_step(table: ImageTable, rows: np.ndarray) -> None:
    stage = stage_of(table, rows, config())
    train(stage, range(1))
    poison(stage.embedder)
    before = all_weights(stage)
    with pytest.raises(NonFiniteLossError, match=r"^step 1 of epoch 2$"):
        train(stage, range(1, 2))
    after = all_weights(stage)
    assert np.array_equal(before["head.weight"], after["head.weight"])


def test_finite_looks_at_weights_and_statistics(table: ImageTable, rows: np.ndarray) -> None:
    stage = stage_of(table, rows, config())
    assert stage.finite()
    poison(stage.embedder)
    assert not stage.finite()
    stage = stage_of(table, rows, config())
    variance = next(value for name, value in stage.embedder.state_dict().items() if name.endswith("_variance"))
    variance.set_value(paddle.full_like(variance, float("inf")))
    assert not stage.finite()
