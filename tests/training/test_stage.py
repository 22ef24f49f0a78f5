"""One stage of training: what changes, what stays bit by bit, and that it can be interrupted between epochs."""

from dataclasses import replace
from typing import Any

import numpy as np
import paddle
import pytest

from ppfsl.backbones.embedder import Architecture, Embedder, build_embedder
from ppfsl.backbones.weights import load_strictly, weights_of
from ppfsl.config import AugmentationConfig, StageConfig, ValidationConfig
from ppfsl.config.objectives import augments_tasks
from ppfsl.data.augmentation import augment, change_classes
from ppfsl.data.table import ImageTable
from ppfsl.errors import UserError
from ppfsl.methods.task_network import copies
from ppfsl.randomness import generator
from ppfsl.training.objectives.base import batch_classes
from ppfsl.training.stage import NonFiniteLossError, Stage, Step, base_labels
from ppfsl.training.validation import Validation

SIDE, CLASSES, EACH = 18, 5, 6
ARCHITECTURE = Architecture("conv4", 16, 3, 6, "unit", (("width", 4),))
CROSS_ENTROPY = {"name": "cross_entropy", "batch_size": 8}
TRIPLET = {"name": "triplet", "mining": "random", "classes_per_batch": 3, "images_per_class": 3}
EPISODES = {"way": 3, "shot": 1, "query": 2, "episodes_per_batch": 2}
MEMORY = {"slots": 6, "width": 4, "heads": 2, "episodes_per_batch": 2}
METHODS: dict[str, dict[str, Any]] = {  # with layers of their own
    "relation": {"name": "relation", "width": 4, "hidden": 3, **EPISODES},
    "full context": {"name": "matching", "context": "full", "processing_steps": 2, **EPISODES},
    "siamese": {"name": "siamese", "classes_per_batch": 3, "images_per_class": 3},
    "meta_baseline": {"name": "meta_baseline", **EPISODES},
    "anil": {"name": "anil", **EPISODES},
    "learned_optimizer": {"name": "learned_optimizer", "inner_steps": 2, "hidden": 3, **EPISODES},
    "memory_augmented": {"name": "memory_augmented", "way": 3, "instances": 3, "hidden": 5, **MEMORY},
}
TASKS: dict[str, dict[str, Any]] = {  # whose method adapts all of the network
    "maml": {"name": "maml", "first_order_epochs": 3, **EPISODES},
    "meta_sgd": {"name": "meta_sgd", "batch_norm": "support_statistics", **EPISODES},
    "reptile": {"name": "reptile", "inner_batch": 2, "inner_lr": 0.01, **EPISODES},
    "lstm_meta_learner": {"name": "lstm_meta_learner", "inner_steps": 2, "hidden": 3, **EPISODES},
}
Weights = dict[str, np.ndarray]

pytestmark = pytest.mark.usefixtures("as_in_a_run")


@pytest.fixture(scope="module")
def table() -> ImageTable:
    """Noise about a colour per class; labels 10, 20, ..., the rows shuffled."""
    rng = generator(0, "table")
    labels = rng.permutation(np.repeat(10 * np.arange(1, CLASSES + 1), EACH))
    colours = rng.integers(60, 200, (CLASSES + 1, 1, 1, 3))[labels // 10]
    images = colours + rng.integers(-50, 50, (len(labels), SIDE, SIDE, 3))
    return ImageTable(
        name="toy",
        images=images.astype(np.uint8),
        labels=labels,
        class_names={int(label): str(label) for label in labels},
        files=tuple(map(str, range(len(labels)))),
        lists={},
        hash="0" * 64,
    )


@pytest.fixture(scope="module")
def rows(table: ImageTable) -> np.ndarray:
    """The images of all classes but label 20."""
    return np.flatnonzero(table.labels != 20)


def config(**changes: Any) -> StageConfig:
    return StageConfig.model_validate({"objective": CROSS_ENTROPY, "epochs": 4, "steps_per_epoch": 2, **changes})


def stage_of(
    table: ImageTable, rows: np.ndarray, config: StageConfig, seed: int = 0, architecture: Architecture = ARCHITECTURE
) -> Stage:
    return Stage(config, build_embedder(architecture, 0), table, rows, seed)


def train(stage: Stage, epochs: range) -> list[Step]:
    return [step for epoch in epochs for step in stage.run_epoch(epoch)]


def all_weights(stage: Stage) -> Weights:
    head = stage.objective.head
    own = {} if head is None else {f"head.{name}": value.numpy().copy() for name, value in head.state_dict().items()}
    return {**weights_of(stage.embedder), **own}


def changed(before: Weights, after: Weights) -> set[str]:
    return {name for name, value in before.items() if not np.array_equal(value, after[name])}


def same(one: Weights, two: Weights) -> bool:
    return one.keys() == two.keys() and not changed(one, two)


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


def test_default_epoch_shows_every_image_about_once(table: ImageTable, rows: np.ndarray) -> None:
    stage = stage_of(table, rows, config(steps_per_epoch=None))
    assert stage.steps_per_epoch == len(rows) // 8
    assert len(list(stage.run_epoch(0))) == len(rows) // 8


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


# --- tasks


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


# --- interruption


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "momentum", "sgd"])
@pytest.mark.parametrize(
    ("objective", "trainable"),
    [
        (CROSS_ENTROPY, "all"),
        (CROSS_ENTROPY, "last_block"),
        (TRIPLET, "all"),
        (METHODS["relation"], "all"),
        (METHODS["full context"], "all"),
        (METHODS["siamese"], "projection"),
        (METHODS["anil"], "all"),
        (METHODS["learned_optimizer"], "all"),
        (METHODS["memory_augmented"], "all"),
        *((objective, "all") for objective in TASKS.values()),
    ],
    ids=[
        *("cross_entropy", "last_block", "triplet", "relation", "full context", "siamese", "anil"),
        *("learned_optimizer", "memory_augmented", *TASKS),
    ],
)
def test_continuation_is_bit_identical(
    table: ImageTable, rows: np.ndarray, optimizer: str, objective: dict[str, Any], trainable: str
) -> None:
    settings = config(
        objective=objective,
        trainable=trainable,
        optimizer={"name": optimizer, "lr": 0.01, "weight_decay": 0.01},
        schedule={"name": "cosine", "warmup_epochs": 1},
        augmentation={"crop": "random", "flip": True, "jitter": 0.2},
        clip_norm=1.0,
    )
    # As after an earlier stage of the same process, which gives Paddle's names other counters.
    straight = stage_of(table, rows, settings)
    train(straight, range(1))
    straight = Stage(settings, straight.embedder, table, rows, 3)
    train(straight, range(2))
    weights, state = weights_of(straight.embedder), straight.state()
    expected = [step.terms["loss"] for step in train(straight, range(2, 4))]

    embedder = build_embedder(ARCHITECTURE, 9)
    load_strictly(embedder, weights, "here")
    resumed = Stage(settings, embedder, table, rows, 3)
    resumed.load_state(state)
    assert [step.terms["loss"] for step in train(resumed, range(2, 4))] == expected
    assert same(all_weights(resumed), all_weights(straight))
    assert same(resumed.state(), straight.state())


def test_state_is_a_copy(table: ImageTable, rows: np.ndarray) -> None:
    stage = stage_of(table, rows, config())
    train(stage, range(1))
    state = stage.state()
    kept = {name: value.copy() for name, value in state.items()}
    train(stage, range(1, 3))
    assert same(state, kept)
    assert {"head.weight", "head.bias"} <= set(state)
    assert any(name.startswith("optimizer.") for name in state)


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


def test_images_that_cannot_fill_batches_are_refused(table: ImageTable) -> None:
    with pytest.raises(UserError, match="training needs two base classes, but there are 1"):
        stage_of(table, np.flatnonzero(table.labels == 10), config())
    few = np.concatenate([np.flatnonzero(table.labels == label)[:2] for label in (10, 20, 30)])
    with pytest.raises(UserError, match="triplet batches need two base classes with 3 images or more"):
        stage_of(table, few, config(objective=TRIPLET))


# --- sizes, turns, and weights that are kept


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


def test_kept_weights_are_mixed_in_where_the_embedder_is_judged_alone(table: ImageTable, rows: np.ndarray) -> None:
    stage = stage_of(table, rows, config(keep_start=0.25))
    before = weights_of(stage.embedder)
    train(stage, range(1))
    trained = weights_of(stage.embedder)
    with stage.as_judged():
        judged = weights_of(stage.embedder)
    assert same(weights_of(stage.embedder), trained)
    for name, value in judged.items():
        kept = 0.25 if name.startswith("backbone.") else 0
        np.testing.assert_allclose(value, (1 - kept) * trained[name] + kept * before[name], atol=1e-6)
    assert changed(trained, judged) == {name for name in trained if name.startswith("backbone.")}


def test_trained_weights_come_back_when_judging_fails(table: ImageTable, rows: np.ndarray) -> None:
    stage = stage_of(table, rows, config(keep_start=0.25))
    train(stage, range(1))
    trained = weights_of(stage.embedder)
    with pytest.raises(KeyError), stage.as_judged():
        raise KeyError
    assert same(weights_of(stage.embedder), trained)


def test_kept_weights_are_those_of_the_stages_beginning_after_an_interruption(
    table: ImageTable, rows: np.ndarray
) -> None:
    whole = stage_of(table, rows, config(keep_start=0.25))
    train(whole, range(1))
    state, embedder = whole.state(), build_embedder(ARCHITECTURE, 0)
    load_strictly(embedder, weights_of(whole.embedder), "a test")  # as a run does before it makes the stage
    resumed = Stage(config(keep_start=0.25), embedder, table, rows, 0)
    resumed.load_state(state)
    for stage in (whole, resumed):
        train(stage, range(1, 2))
    with whole.as_judged(), resumed.as_judged():
        assert same(weights_of(whole.embedder), weights_of(resumed.embedder))


def test_without_kept_weights_the_embedder_is_judged_as_it_is(table: ImageTable, rows: np.ndarray) -> None:
    stage = stage_of(table, rows, config())
    train(stage, range(1))
    trained = weights_of(stage.embedder)
    with stage.as_judged():
        assert same(weights_of(stage.embedder), trained)
    assert not any(name.startswith("start.") for name in stage.state())


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
