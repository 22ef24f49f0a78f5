"""Which weights are the best of a chain of stages, killed or not, and what a method learned that goes with them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from ppfsl import pipeline
from ppfsl.backbones.embedder import Embedder
from ppfsl.methods import relation
from ppfsl.training import pretrain, validation
from ppfsl.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tests.training.resume.runs import EPISODES, METHODS, STAGES, Tree, assert_same_training, configured, log_of, train


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
        layer = pretrain.pretrain(*pipeline.prepared_training(config, pipeline.open_data(config), tmp_path / "run"))
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
