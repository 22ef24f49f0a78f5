"""Training killed and started again equals training that never was: weights bit by bit, log and curves."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from ppfsl.training.checkpoint import load_checkpoint
from tests.training.resume.runs import (
    METHODS,
    RECURRENT,
    STAGES,
    TASKS,
    Killed,
    Tree,
    assert_each_step_is_shown_once,
    assert_same_training,
    epochs_of,
    killing_inside_an_epoch,
    train,
)


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
    tree: Tree, tmp_path: Path, eager: None, stage: int, steps: int
) -> None:
    tree = {**tree, "pretrain": [{**config, "epochs": 2} for config in tree["pretrain"]]}
    train(tree, tmp_path / "whole")
    name = ("cross_entropy", "cosine", "triplet")[stage]
    with killing_inside_an_epoch(name, steps), pytest.raises(Killed):
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
    task_tree: Tree, tmp_path: Path, eager: None, stage: int
) -> None:
    stages = [*TASKS, *RECURRENT]
    task_tree["pretrain"] = [stages[stage], stages[(stage + 1) % 7]]
    weights = train(task_tree, tmp_path / "whole")
    with killing_inside_an_epoch(stages[stage]["objective"]["name"], 1), pytest.raises(Killed):
        train(task_tree, tmp_path / "killed")
    again = train(task_tree, tmp_path / "killed")
    assert_same_training(tmp_path / "whole", tmp_path / "killed")
    assert all(again[name].tobytes() == weights[name].tobytes() for name in weights)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_methods_layers_survive_a_kill_inside_an_epoch(
    method_tree: Tree, tmp_path: Path, eager: None, stage: int
) -> None:
    weights = train(method_tree, tmp_path / "whole")
    with killing_inside_an_epoch(METHODS[stage]["objective"]["name"], 1), pytest.raises(Killed):
        train(method_tree, tmp_path / "killed")
    again = train(method_tree, tmp_path / "killed")
    assert_same_training(tmp_path / "whole", tmp_path / "killed")
    assert all(again[name].tobytes() == weights[name].tobytes() for name in weights)


# --- without validation, without stages


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


def test_a_run_without_stages_survives_a_kill_between_its_two_checkpoints(
    tree: Tree, tmp_path: Path, kill_after: Callable[[int], None]
) -> None:
    tree["pretrain"] = []
    kill_after(1)
    with pytest.raises(Killed):
        train(tree, tmp_path / "killed")
    killed, whole = train(tree, tmp_path / "killed"), train(tree, tmp_path / "whole")
    assert all(killed[name].tobytes() == whole[name].tobytes() for name in whole)
