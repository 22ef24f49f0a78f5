"""A run that was killed and started again equals one that never was: weights bit by bit, log, curves, results."""

import contextlib
import copy
import functools
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import yaml

from ppfsl import pipeline
from ppfsl.backbones.embedder import Embedder
from ppfsl.config import Config
from ppfsl.config_file import parse_config
from ppfsl.inference import cache
from ppfsl.methods import relation
from ppfsl.training import pretrain, validation
from ppfsl.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

Tree = dict[str, Any]
TRAIN = Path(__file__).parents[2] / "tools" / "train.py"
STAGES: list[Tree] = [
    {
        "objective": {"name": "cross_entropy", "batch_size": 24, "rotation_weight": 0.5},
        "epochs": 40,  # patience ends it much earlier
        "patience": 2,
        "optimizer": {"name": "adam", "lr": 0.003, "weight_decay": 1e-4},
        "schedule": {"name": "cosine", "warmup_epochs": 2},
        "augmentation": {"crop": "random", "flip": True, "jitter": 0.3},
    },
    {
        "objective": {"name": "cosine", "triples": 8},
        "epochs": 3,
        "optimizer": {"name": "momentum", "lr": 0.05},
        "schedule": {"name": "constant"},
        "augmentation": {"crop": "resized", "flip": True},
        "clip_norm": 1.0,
        "keep_start": 0.4,
    },
]
FROZEN: Tree = {
    "objective": {"name": "triplet", "mining": "random", "classes_per_batch": 3, "images_per_class": 3},
    "epochs": 2,
    "trainable": "projection",
    "optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.1},
}

EPISODES: Tree = {"way": 3, "shot": 1, "query": 3}
METHODS: list[Tree] = [  # with layers of their own; the relation module's has batch norm
    {
        "objective": {"name": "siamese", "hidden": [5], "classes_per_batch": 3, "images_per_class": 4},
        "epochs": 2,
        "steps_per_epoch": 2,
        "optimizer": {"name": "adam", "lr": 0.01, "weight_decay": 1e-3},
    },
    {
        "objective": {"name": "matching", "context": "full", "processing_steps": 2, **EPISODES},
        "epochs": 2,
        "steps_per_epoch": 2,
        "optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.1},
        "augmentation": {"crop": "random"},
        "clip_norm": 1.0,
    },
    {
        "objective": {"name": "relation", "width": 4, "episodes_per_batch": 2, **EPISODES},
        "epochs": 3,
        "steps_per_epoch": 2,
        "optimizer": {"name": "momentum", "lr": 0.1},
    },
]
TASKS: list[Tree] = [  # whose methods adapt networks by gradient
    {
        "objective": {"name": "maml", "first_order_epochs": 1, "episodes_per_batch": 2, **EPISODES},
        "epochs": 2,
        "steps_per_epoch": 2,
        "augmentation": {"crop": "random", "flip": True},
    },
    {
        "objective": {"name": "anil", "inner_steps": 2, **EPISODES},
        "epochs": 2,
        "steps_per_epoch": 2,
        "optimizer": {"name": "momentum", "lr": 0.1},
    },
    {
        "objective": {"name": "reptile", "inner_batch": 2, "inner_lr": 0.01, **EPISODES},
        "epochs": 2,
        "steps_per_epoch": 2,
        "optimizer": {"name": "sgd", "lr": 0.5},
    },
    {
        "objective": {"name": "meta_sgd", "batch_norm": "support_statistics", **EPISODES},
        "epochs": 2,
        "steps_per_epoch": 2,
        "optimizer": {"name": "adam", "lr": 0.01, "weight_decay": 1e-3},
    },
]
RECURRENT: list[Tree] = [  # whose layers are recurrent networks
    {
        "objective": {"name": "lstm_meta_learner", "inner_steps": 2, "hidden": 3, **EPISODES},
        "epochs": 2,
        "steps_per_epoch": 2,
    },
    {
        "objective": {"name": "learned_optimizer", "inner_steps": 2, "hidden": 3, **EPISODES},
        "epochs": 2,
        "steps_per_epoch": 2,
        "augmentation": {"crop": "random"},
    },
    {
        "objective": {"name": "memory_augmented", "way": 3, "instances": 3, "hidden": 5, "slots": 6, "width": 4},
        "epochs": 2,
        "steps_per_epoch": 2,
        "clip_norm": 1.0,
    },
]


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def tree(tiny_tree: Callable[[], Tree]) -> Tree:
    return {**tiny_tree(), "pretrain": copy.deepcopy([*STAGES, FROZEN])}


@pytest.fixture
def method_tree(tiny_tree: Callable[[], Tree]) -> Tree:
    """Stages of methods with layers of their own, on maps of 4 x 4 pixels."""
    backbone = {"name": "conv4", "width": 4, "pools": 2, "projection": "none"}
    return {**tiny_tree(), "backbone": backbone, "pretrain": copy.deepcopy(METHODS)}


@pytest.fixture
def task_tree(tiny_tree: Callable[[], Tree]) -> Tree:
    """Stages of methods that adapt networks by gradient."""
    tree = {**tiny_tree(), "pretrain": copy.deepcopy(TASKS)}
    tree["validation"]["episodes"] = 3
    return tree


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validates without exporting the embedder, which takes longer than all else here."""

    def embed(
        embedder: Embedder, images: np.ndarray, rows: np.ndarray, output: str, *_: object, **__: object
    ) -> np.ndarray:
        embedder.eval()
        pixels = paddle.to_tensor(images[rows].transpose(0, 3, 1, 2).astype(np.float32))
        with paddle.no_grad():
            return (embedder.projected(pixels) if output == "projected" else embedder.features(pixels)).numpy()

    monkeypatch.setattr(validation, "embed", embed)
    monkeypatch.setattr(cache, "embed", embed)


@pytest.fixture
def kill_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Call it to have training killed after so many more checkpoints."""
    left = [-1]

    def killing(checkpoint: Checkpoint, path: Path) -> None:
        save_checkpoint(checkpoint, path)
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    monkeypatch.setattr(pretrain, "save_checkpoint", killing)
    return functools.partial(left.__setitem__, 0)


@pytest.fixture
def scenes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], list[Path]]:
    """Gives what a kill before each checkpoint of the run in `whole` would have left: copies of its directory."""
    found: list[Path] = []

    def copying(checkpoint: Checkpoint, path: Path) -> None:
        if path.is_relative_to(tmp_path / "whole"):
            scene = tmp_path / f"killed {len(found)}"
            if (tmp_path / "whole").exists():
                shutil.copytree(tmp_path / "whole", scene)
            (scene / "checkpoints").mkdir(parents=True, exist_ok=True)
            (scene / "checkpoints" / f".{path.name}.abc.tmp").write_bytes(b"half a checkpoint")
            found.append(scene)
        save_checkpoint(checkpoint, path)

    monkeypatch.setattr(pretrain, "save_checkpoint", copying)
    return lambda: found


def configured(tree: Tree, folder: Path) -> Config:
    return parse_config({**tree, "output_dir": str(folder)}, "a test")


def train(tree: Tree, folder: Path) -> dict[str, np.ndarray]:
    """Train in a folder as far as it goes; the weights of the embedder and of what the method learned beside it."""
    config = configured(tree, folder)
    embedder, layer = pipeline.trained_embedder(config, pipeline.open_data(config), folder)
    own = {} if layer is None else {f"layer.{name}": value.numpy() for name, value in layer.state_dict().items()}
    return {**{name: value.numpy() for name, value in embedder.state_dict().items()}, **own}


def log_of(folder: Path) -> list[Tree]:
    """The rows of metrics.jsonl; how fast training was is no matter."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{**row, "value": 0} if row["name"].endswith(("per_second", "waiting")) else row for row in rows]


def checkpoint_facts(checkpoint: Checkpoint) -> Tree:
    """What a checkpoint says, without the length of the log, which depends on the digits of the speed."""
    return {**checkpoint.facts, "progress": {**checkpoint.facts["progress"], "metrics_bytes": 0}}


def assert_same_training(first: Path, second: Path) -> None:
    names = [{path.name for path in (folder / "checkpoints").glob("*.safetensors")} for folder in (first, second)]
    assert names[0] == names[1]
    stages = [name for name in names[0] if name[0].isdecimal()]
    assert len(stages) >= 2
    assert names[0] == {"last.safetensors", "best.safetensors", *stages}
    for name in sorted(names[0]):
        one, two = (load_checkpoint(folder / "checkpoints" / name) for folder in (first, second))
        for kind in ("weights", "layer_weights", "training"):
            arrays, others = getattr(one, kind), getattr(two, kind)
            assert set(arrays) == set(others)
            differing = [key for key in arrays if arrays[key].tobytes() != others[key].tobytes()]
            assert not differing, (name, differing)
        assert one.layer == two.layer
        assert checkpoint_facts(one) == checkpoint_facts(two)
    assert log_of(first) == log_of(second)


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> steps and values of what VisualDL shows."""
    visualdl = pytest.importorskip("visualdl")
    (file,) = (folder / "vdl").glob("vdlrecords.*")
    reader = visualdl.LogReader(file_path=str(file))
    return {tag: [(p.id, p.value) for p in reader.get_data("scalar", tag)] for tag in reader.get_tags()["scalar"]}


def assert_each_step_is_shown_once(folder: Path) -> None:
    expected: dict[str, list[tuple[int, float]]] = {}
    for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        value = float(np.float32(row["value"]))
        expected.setdefault(f"{row['split']}/{row['name']}", []).append((row["step"], value))
    assert curves(folder) == expected
    assert all(len({step for step, _ in points}) == len(points) for points in expected.values())


def epochs_of(folder: Path, stage: str) -> list[int]:
    return sorted({row["epoch"] for row in log_of(folder) if row["name"].startswith(f"{stage}/")})


def test_killed_before_any_checkpoint_a_run_ends_like_an_uninterrupted_one(
    tree: Tree, tmp_path: Path, eager: None, scenes: Callable[[], list[Path]]
) -> None:
    tree["pretrain"][0]["patience"] = 1
    weights = train(tree, tmp_path / "whole")
    assert 2 <= len(epochs_of(tmp_path / "whole", "1_cross_entropy")) < 40, "the first stage is to stop early"
    assert len(scenes()) >= 16
    for scene in scenes():
        again = train(tree, scene)
        assert_same_training(tmp_path / "whole", scene)
        assert all(again[name].tobytes() == weights[name].tobytes() for name in weights)


def test_killed_after_each_checkpoint_in_turn_a_run_ends_like_an_uninterrupted_one(
    tree: Tree, tmp_path: Path, eager: None, kill_after: Callable[[int], None]
) -> None:
    weights = train(tree, tmp_path / "whole")
    for kills in range(100):
        kill_after(2 if kills else 1)  # one alone could be the best one again and again
        with contextlib.suppress(Killed):
            again = train(tree, tmp_path / "killed")
            break
    assert kills >= 10
    assert_same_training(tmp_path / "whole", tmp_path / "killed")
    assert_each_step_is_shown_once(tmp_path / "killed")
    assert all(again[name].tobytes() == weights[name].tobytes() for name in weights)


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("steps", [1, 2])
def test_killed_inside_an_epoch_a_run_repeats_that_epoch(
    tree: Tree, tmp_path: Path, eager: None, monkeypatch: pytest.MonkeyPatch, stage: int, steps: int
) -> None:
    tree = {**tree, "pretrain": [{**config, "epochs": 2} for config in tree["pretrain"]]}
    train(tree, tmp_path / "whole")
    really = pretrain.Stage.run_epoch
    name = ("cross_entropy", "cosine", "triplet")[stage]

    def killed(self: Any, epoch: int) -> Iterator[Any]:
        for number, step in enumerate(really(self, epoch)):
            if self.config.objective.name == name and epoch == 1 and number == steps:
                raise Killed
            yield step

    with monkeypatch.context() as patch:
        patch.setattr(pretrain.Stage, "run_epoch", killed)
        with pytest.raises(Killed):
            train(tree, tmp_path / "killed")
    train(tree, tmp_path / "killed")
    assert_same_training(tmp_path / "whole", tmp_path / "killed")
    assert_each_step_is_shown_once(tmp_path / "killed")


def test_the_count_of_epochs_without_a_better_one_survives(
    tree: Tree, tmp_path: Path, eager: None, scenes: Callable[[], list[Path]]
) -> None:
    """One epoch before early stopping is where a forgotten count would add epochs."""
    tree["pretrain"] = STAGES
    train(tree, tmp_path / "whole")
    expected = epochs_of(tmp_path / "whole", "1_cross_entropy")
    for scene in scenes()[2:]:
        progress = load_checkpoint(scene / "checkpoints" / "last.safetensors").facts["progress"]
        if (progress["stage"], progress["epoch"], progress["waited"]) == (0, len(expected) - 1, 1):
            train(tree, scene)
            assert epochs_of(scene, "1_cross_entropy") == expected
            return
    pytest.fail("no checkpoint was written one epoch before early stopping")


def test_every_stage_counts_its_own_epochs_without_a_better_one(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later stages are worse than the first from their start on, and still have their chance."""
    stages = [[0.5, 0.6, 0.55, 0.6], [0.3, 0.4, 0.35, 0.4], [0.2, 0.1, 0.15]]
    scores = [score for stage in stages for score in stage]
    coming = iter(scores)
    monkeypatch.setattr(validation.Validation, "score", lambda *_: next(coming))
    tree["pretrain"] = [{**STAGES[1], "epochs": 9, "patience": 2, "keep_start": 0.0}] * 3
    train(tree, tmp_path / "run")
    rows = [row for row in log_of(tmp_path / "run") if row["split"] == "validation"]
    assert [row["value"] for row in rows] == scores
    assert [row["name"][0] for row in rows] == list("11112222333")
    best = load_checkpoint(tmp_path / "run" / "checkpoints" / "best.safetensors").facts["progress"]
    assert (best["best"], best["epochs"]) == (0.6, 2)


# --- methods with layers of their own


def test_methods_layers_survive_a_kill_before_any_checkpoint(
    method_tree: Tree, tmp_path: Path, eager: None, scenes: Callable[[], list[Path]]
) -> None:
    weights = train(method_tree, tmp_path / "whole")
    assert any(name.startswith("layer.norms.") for name in weights)
    assert len(scenes()) >= 2 + 7 + 3 + 6, "first two, an epoch, best ones, ends of stages"
    for scene in scenes():
        again = train(method_tree, scene)
        assert_same_training(tmp_path / "whole", scene)
        assert again.keys() == weights.keys()
        assert all(again[name].tobytes() == weights[name].tobytes() for name in weights)


def test_methods_that_adapt_by_gradient_survive_a_kill_before_any_checkpoint(
    task_tree: Tree, tmp_path: Path, eager: None, scenes: Callable[[], list[Path]]
) -> None:
    weights = train(task_tree, tmp_path / "whole")
    assert {"layer.linear.weight", "layer.rates.0", "layer.rates.15"} <= weights.keys()
    assert len(scenes()) >= 2 + 2 * 4 + 4 + 2 * 4, "first two, an epoch, best ones, ends of stages"
    for scene in scenes()[3::5]:  # in every stage
        again = train(task_tree, scene)
        assert_same_training(tmp_path / "whole", scene)
        assert again.keys() == weights.keys()
        assert all(again[name].tobytes() == weights[name].tobytes() for name in weights)


@pytest.mark.parametrize("stage", range(7))
def test_methods_that_adapt_by_gradient_or_recurrence_survive_a_kill_inside_an_epoch(
    task_tree: Tree, tmp_path: Path, eager: None, monkeypatch: pytest.MonkeyPatch, stage: int
) -> None:
    stages = [*TASKS, *RECURRENT]
    task_tree["pretrain"] = [stages[stage], stages[(stage + 1) % 7]]
    weights = train(task_tree, tmp_path / "whole")
    really = pretrain.Stage.run_epoch

    def killed(self: Any, epoch: int) -> Iterator[Any]:
        for number, step in enumerate(really(self, epoch)):
            if self.config.objective.name == stages[stage]["objective"]["name"] and (epoch, number) == (1, 1):
                raise Killed
            yield step

    with monkeypatch.context() as patch:
        patch.setattr(pretrain.Stage, "run_epoch", killed)
        with pytest.raises(Killed):
            train(task_tree, tmp_path / "killed")
    again = train(task_tree, tmp_path / "killed")
    assert_same_training(tmp_path / "whole", tmp_path / "killed")
    assert all(again[name].tobytes() == weights[name].tobytes() for name in weights)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_methods_layers_survive_a_kill_inside_an_epoch(
    method_tree: Tree, tmp_path: Path, eager: None, monkeypatch: pytest.MonkeyPatch, stage: int
) -> None:
    weights = train(method_tree, tmp_path / "whole")
    really = pretrain.Stage.run_epoch

    def killed(self: Any, epoch: int) -> Iterator[Any]:
        for number, step in enumerate(really(self, epoch)):
            if self.config.objective.name == METHODS[stage]["objective"]["name"] and (epoch, number) == (1, 1):
                raise Killed
            yield step

    with monkeypatch.context() as patch:
        patch.setattr(pretrain.Stage, "run_epoch", killed)
        with pytest.raises(Killed):
            train(method_tree, tmp_path / "killed")
    again = train(method_tree, tmp_path / "killed")
    assert_same_training(tmp_path / "whole", tmp_path / "killed")
    assert all(again[name].tobytes() == weights[name].tobytes() for name in weights)


def test_last_and_best_hold_what_the_method_of_the_moment_learned(
    method_tree: Tree, tmp_path: Path, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every checkpoint as it is written: last and best of one epoch hold one layer; without a method there is none."""
    found: list[tuple[str, int, str | None, bytes]] = []

    def looking(checkpoint: Checkpoint, path: Path) -> None:
        save_checkpoint(checkpoint, path)
        read = load_checkpoint(path)
        progress = read.facts["progress"]
        content = b"".join(value.tobytes() for _, value in sorted(read.layer_weights.items()))
        assert (read.layer is None) == (content == b"")
        found.append((path.stem, progress["epochs"], read.layer["name"] if read.layer else None, content))
        if path.stem == "last" and progress["epoch"]:
            own = {name[5:]: value for name, value in read.training.items() if name.startswith("head.")}
            assert set(own) == set(read.layer_weights) or read.layer is None
            assert all(np.array_equal(own[name], value) for name, value in read.layer_weights.items())

    monkeypatch.setattr(pretrain, "save_checkpoint", looking)
    scores = iter([0.5, 0.6, 0.3, 0.4, 0.2, 0.1])
    monkeypatch.setattr(validation.Validation, "score", lambda *_: next(scores))
    plain = {"objective": {"name": "cross_entropy", "batch_size": 16}, "epochs": 2, "steps_per_epoch": 1}
    method_tree["pretrain"] = [plain, {**METHODS[2], "epochs": 2}, {**METHODS[0], "epochs": 2}]
    weights = train(method_tree, tmp_path / "run")
    assert [row[:3] for row in found] == [
        ("best", 0, None), ("last", 0, None),
        ("best", 1, None), ("last", 1, None), ("best", 2, None), ("last", 2, None),
        ("1_cross_entropy", 2, None), ("last", 2, None),
        ("best", 3, "relation"), ("last", 3, "relation"), ("best", 4, "relation"), ("last", 4, "relation"),
        ("2_relation", 4, "relation"), ("last", 4, "relation"),
        ("best", 5, "siamese"), ("last", 5, "siamese"), ("last", 6, "siamese"),
        ("3_siamese", 6, "siamese"), ("last", 6, "siamese"),
    ]  # fmt: skip
    of = {(name, epochs, place): content for place, (name, epochs, _, content) in enumerate(found)}
    assert of["best", 3, 8] == of["last", 3, 9]
    assert of["best", 4, 10] == of["last", 4, 11] == of["2_relation", 4, 12] == of["last", 4, 13]
    assert of["best", 3, 8] != of["best", 4, 10], "the module is to learn in an epoch"
    assert of["best", 5, 14] == of["last", 5, 15] == of["3_siamese", 6, 17] == of["last", 6, 18], "the first was best"
    assert of["last", 6, 16] != of["best", 5, 14]
    best = load_checkpoint(tmp_path / "run" / "checkpoints" / "best.safetensors")
    for name, value in best.layer_weights.items():
        assert weights[f"layer.{name}"].tobytes() == value.tobytes()
    for name, value in best.weights.items():
        assert weights[name].tobytes() == value.tobytes()


def test_training_ends_with_a_layer_that_nothing_changes(method_tree: Tree, tmp_path: Path, eager: None) -> None:
    config = configured({**method_tree, "pretrain": [METHODS[2]]}, tmp_path / "run")
    for _ in range(2):  # trained, then loaded
        _, layer = pipeline.trained_embedder(config, pipeline.open_data(config), tmp_path / "run")
        assert layer is not None
        assert not any(part.training for part in layer.sublayers(include_self=True))
        assert all(parameter.stop_gradient for parameter in layer.parameters())


def test_a_methods_layer_learns_in_epochs_and_is_in_evaluation_mode_in_validation(
    method_tree: Tree, tmp_path: Path, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: dict[str, set[bool]] = {"loss": set(), "validation": set()}
    calls: list[str] = []
    really = relation.RelationModule.forward

    def watched(self: Any, *arguments: Any) -> Any:
        calls.append("validation" if not paddle.is_grad_enabled() else "loss")
        modes[calls[-1]] |= {part.training for part in self.sublayers(include_self=True)}
        return really(self, *arguments)

    monkeypatch.setattr(relation.RelationModule, "forward", watched)
    method_tree["pretrain"] = [METHODS[2]]
    train(method_tree, tmp_path / "run")
    assert modes == {"loss": {True}, "validation": {False}}
    assert calls == ["loss", "loss", "validation"] * 3


def scores_by_stage(monkeypatch: pytest.MonkeyPatch, first: float, second: float) -> None:
    """Validation finds about these accuracies in the two stages; how epochs differ is up to the weights."""
    about = [first]
    really = pretrain._run_stage

    def score(self: Any, embedder: Embedder, *_: Any) -> float:
        weight = embedder.state_dict()["backbone.blocks.0.0.weight"].numpy()
        return about[0] + float(abs(weight).sum()) % 0.01

    def run_stage(job: Any, embedder: Any, progress: Any, *arguments: Any) -> Any:
        about[0] = (first, second)[progress.stage]
        return really(job, embedder, progress, *arguments)

    monkeypatch.setattr(validation.Validation, "score", score)
    monkeypatch.setattr(pretrain, "_run_stage", run_stage)


CROSS_ENTROPY: Tree = {"name": "cross_entropy", "batch_size": 16}
PROTOTYPICAL: Tree = {"name": "prototypical", **EPISODES}
CHAINS: dict[str, tuple[Tree, Tree, bool]] = {
    "class means, class means": (CROSS_ENTROPY, {"name": "cosine", "triples": 4}, True),
    "class means, method": (CROSS_ENTROPY, PROTOTYPICAL, False),
    "method, class means": (PROTOTYPICAL, CROSS_ENTROPY, False),
    "method, method": (PROTOTYPICAL, {"name": "matching", **EPISODES}, False),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_accuracies_of_another_method_are_not_compared(
    method_tree: Tree,
    tmp_path: Path,
    eager: None,
    monkeypatch: pytest.MonkeyPatch,
    scenes: Callable[[], list[Path]],
    chain: str,
) -> None:
    """The second stage finds less than the first; killed anywhere, the run comes to the same end."""
    first, second, compared = CHAINS[chain]
    scores_by_stage(monkeypatch, 0.9, 0.3)
    stages = [{"objective": objective, "epochs": 3, "steps_per_epoch": 2} for objective in (first, second)]
    method_tree["pretrain"] = stages
    weights = train(method_tree, tmp_path / "whole")
    checkpoints = tmp_path / "whole" / "checkpoints"
    best = load_checkpoint(checkpoints / "best.safetensors")
    rows = [row["value"] for row in log_of(tmp_path / "whole") if row["split"] == "validation"]
    assert len(rows) == 6
    assert min(rows[:3]) > 0.8 > max(rows[3:])
    kept = rows[:3] if compared else rows[3:]
    progress = best.facts["progress"]
    assert progress["best"] == max(kept)
    assert progress["epochs"] == rows.index(max(kept)) + 1
    assert progress["stage"] == (0 if compared else 1)
    assert all(weights[name].tobytes() == value.tobytes() for name, value in best.weights.items())
    ends = [
        load_checkpoint(checkpoints / f"{number}_{stage['objective']['name']}.safetensors").weights
        for number, stage in enumerate(stages, 1)
    ]
    same = all(np.array_equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert same == compared
    for scene in scenes():
        train(method_tree, scene)
        assert_same_training(tmp_path / "whole", scene)


def test_a_method_without_layers_leaves_none(method_tree: Tree, tmp_path: Path, eager: None) -> None:
    """A relation module does not outlive the next stage, which compares anew."""
    method_tree["pretrain"] = [METHODS[2], {"objective": PROTOTYPICAL, "epochs": 1, "steps_per_epoch": 1}]
    weights = train(method_tree, tmp_path / "run")
    assert not any(name.startswith("layer.") for name in weights)
    for name, layer in (("1_relation", "relation"), ("2_prototypical", None), ("best", None), ("last", None)):
        found = load_checkpoint(tmp_path / "run" / "checkpoints" / f"{name}.safetensors").layer
        assert (found["name"] if found else None) == layer


# --- without validation, without stages, without warning


def test_without_validation_the_last_weights_are_the_best_after_a_kill_too(
    tree: Tree, tmp_path: Path, scenes: Callable[[], list[Path]]
) -> None:
    tree["pretrain"] = [{**stage, "epochs": 2, "patience": None} for stage in STAGES[:2]]
    tree["data"]["split_ratio"] = [0.75, 0, 0.25]
    train(tree, tmp_path / "whole")
    assert load_checkpoint(tmp_path / "whole" / "checkpoints" / "best.safetensors").facts["progress"]["epochs"] == 4
    for scene in scenes():
        train(tree, scene)
        assert_same_training(tmp_path / "whole", scene)


def test_without_validation_the_last_layer_is_the_best(method_tree: Tree, tmp_path: Path) -> None:
    method_tree["pretrain"] = METHODS[2:]
    method_tree["data"]["split_ratio"] = [0.75, 0, 0.25]
    weights = train(method_tree, tmp_path / "run")
    best = load_checkpoint(tmp_path / "run" / "checkpoints" / "best.safetensors")
    assert best.facts["progress"]["epochs"] == 3
    assert best.layer is not None
    assert {f"layer.{name}" for name in best.layer_weights} <= set(weights)
    other = train({**method_tree, "pretrain": [{**METHODS[2], "epochs": 2}]}, tmp_path / "shorter")
    assert not np.array_equal(weights["layer.second.weight"], other["layer.second.weight"])


def test_a_run_without_stages_survives_a_kill_between_its_two_checkpoints(
    tree: Tree, tmp_path: Path, kill_after: Callable[[int], None]
) -> None:
    tree["pretrain"] = []
    kill_after(1)
    with pytest.raises(Killed):
        train(tree, tmp_path / "killed")
    killed, whole = train(tree, tmp_path / "killed"), train(tree, tmp_path / "whole")
    assert all(killed[name].tobytes() == whole[name].tobytes() for name in whole)


@pytest.mark.slow
def test_killed_processes_end_like_an_uninterrupted_one(tree: Tree, tmp_path: Path) -> None:
    """`tools/train.py`, six times killed without warning, then left to end."""
    seed = int(time.time())
    chance = random.Random(seed)
    moments = chance.sample(["write", "write", "row", "epoch"], 4)
    print(f"random seed {seed}: {moments}")  # pytest shows it when the test fails
    tree = {**tree, "pretrain": STAGES, "adaptations": [{"name": "class_mean"}, {"name": "finetune", "steps": 20}]}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert finish(tree, whole) == 0
    for moment in moments:
        kill_at(moment, chance.randint(1, 6), chance.uniform(0, 0.03), tree, killed)
    kill_at("stage", 1, chance.uniform(0, 0.5), tree, killed)
    kill_at("result", 1, chance.uniform(0, 0.1), tree, killed)
    assert finish(tree, killed) == 0
    assert_same_training(whole, killed)
    assert_each_step_is_shown_once(killed)
    first, second = (timeless(folder / "result.json") for folder in (whole, killed))
    assert first == second
    assert (whole / "support_set.json").read_bytes() == (killed / "support_set.json").read_bytes()
    assert (killed / "report.html").is_file()


def timeless(path: Path) -> Tree:
    result = json.loads(path.read_text(encoding="utf-8"))
    # Files of the checkout may change between two runs, if not their results.
    return {**result, "git": "", "evaluations": [{**entry, "seconds": 0} for entry in result["evaluations"]]}


def start(tree: Tree, folder: Path) -> "subprocess.Popen[bytes]":
    config = folder.with_name("tiny.yaml")
    config.write_text(yaml.safe_dump(tree), encoding="utf-8")
    command = [sys.executable, str(TRAIN), "-c", str(config), "-o", f"output_dir={folder}"]
    with folder.with_name(f"{folder.name}.stderr").open("ab") as stream:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stream)


def finish(tree: Tree, folder: Path) -> int:
    status = start(tree, folder).wait(timeout=600)
    print(folder.with_name(f"{folder.name}.stderr").read_text(encoding="utf-8"))
    return status


def kill_at(moment: str, times: int, delay: float, tree: Tree, folder: Path) -> None:
    """Start the tool, wait for some changes in its folder, kill it; it may have ended before."""
    before = seen(moment, folder)
    process = start(tree, folder)
    try:
        while process.poll() is None and times:
            time.sleep(0.0005)
            if (now := seen(moment, folder)) != before:
                before, times = now, times - 1
        if moment != "write":  # a write lasts a few milliseconds only
            time.sleep(delay)
    finally:
        process.kill()
        status = process.wait()
    print(f"{moment}, {times} more, {delay:.3f} s: {'killed' if status == -signal.SIGKILL else f'ended with {status}'}")
    assert status in (0, -signal.SIGKILL)


def seen(moment: str, folder: Path) -> Any:
    """What changes at the moment: temporary files of checkpoints, the log, or a file that is written then."""
    try:
        if moment == "write":
            return sorted(path.name for path in (folder / "checkpoints").glob(".*.tmp"))
        name = {
            "row": "metrics.jsonl",
            "epoch": "checkpoints/last.safetensors",
            "stage": "checkpoints/1_cross_entropy.safetensors",
            "result": "result.json",
        }[moment]
        found = (folder / name).stat()
        return found.st_mtime_ns, found.st_size
    except OSError:
        return None if moment != "write" else []
