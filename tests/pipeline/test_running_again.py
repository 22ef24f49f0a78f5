"""A run started again in its folder, after its end or a kill, does what is missing or has changed and no more."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ppfsl import files, pipeline, results
from ppfsl.config_file import load_config
from ppfsl.errors import UserError
from ppfsl.files import write_text
from ppfsl.training import pretrain
from tests.pipeline.runs import ADAPTATIONS, LABELS, Tree, changed, configured, contents, result_of, timeless


def test_running_again_repeats_nothing(
    finished: Path,
    run_again: Path,
    whole_tree: Tree,
    no_training: None,
    evaluated: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(results, "git_revision", lambda: result_of(finished)["git"])
    before = contents(run_again)
    pipeline.run(configured(whole_tree, run_again), "tiny")
    assert evaluated == []
    after = contents(run_again)
    for name in before:
        # The run's own path is in config.yaml, VisualDL's file is named after the time of its opening.
        if name != "config.yaml" and "vdlrecords" not in name:
            assert after[name] == before[name], name
    assert len(after) == len(before)


def test_other_episodes_are_evaluated_without_training(
    run_again: Path, whole_tree: Tree, no_training: None, evaluated: list[str]
) -> None:
    old = result_of(run_again)["evaluations"]
    pipeline.run(configured(changed(whole_tree, "evaluation.episodes", 11), run_again), "tiny")
    assert len(evaluated) == 2 * len(ADAPTATIONS)
    new = result_of(run_again)["evaluations"]
    assert [entry["episodes"] for entry in new] == [11, 11, 1] * len(ADAPTATIONS)
    assert new[2::3] == old[2::3], "the support set's rows stand"


def test_a_new_adaptation_alone_is_evaluated(
    run_again: Path, whole_tree: Tree, no_training: None, evaluated: list[str]
) -> None:
    old = result_of(run_again)["evaluations"]
    tree = {**whole_tree, "adaptations": [{"name": "class_mean", "label": "new", "scale": 5.0}, *ADAPTATIONS]}
    pipeline.run(configured(tree, run_again), "tiny")
    assert evaluated == ["new, 3-way 1-shot", "new, 3-way 5-shot", "new, support set"]
    assert result_of(run_again)["evaluations"][3:] == old


def test_a_new_shot_alone_is_evaluated(
    run_again: Path, whole_tree: Tree, no_training: None, evaluated: list[str]
) -> None:
    old = result_of(run_again)["evaluations"]
    pipeline.run(configured(changed(whole_tree, "evaluation.shot", [1, 5, 6]), run_again), "tiny")
    # The support set has as many shots as the largest episodes, hence is another one.
    assert evaluated == [f"{title}, {task}" for title in LABELS for task in ("3-way 6-shot", "support set")]
    new = result_of(run_again)["evaluations"]
    assert [entry for entry in new if entry["shot"] != 6] == [entry for entry in old if not entry["support_set"]]


def test_a_row_that_is_no_longer_asked_for_goes(
    run_again: Path, whole_tree: Tree, no_training: None, evaluated: list[str]
) -> None:
    old = result_of(run_again)["evaluations"]
    pipeline.run(configured({**whole_tree, "adaptations": ADAPTATIONS[:1]}, run_again), "tiny")
    assert evaluated == []
    assert result_of(run_again)["evaluations"] == old[:3]


def test_a_run_killed_while_it_evaluates_loses_no_row(
    run_again: Path, whole_tree: Tree, no_training: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = result_of(run_again)["evaluations"]
    really, left = results.evaluate, [2]

    def killed(*arguments: Any, **further: Any) -> Any:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return really(*arguments, **further)

    monkeypatch.setattr(results, "evaluate", killed)
    tree = {**whole_tree, "adaptations": [{"name": "class_mean", "label": "new"}, *ADAPTATIONS]}
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(configured(tree, run_again), "tiny")
    found = result_of(run_again)["evaluations"]
    assert [entry["adaptation"] for entry in found[:2]] == ["new", "new"]
    assert found[2:] == old
    left[0] = 1
    pipeline.run(configured(tree, run_again), "tiny")
    assert result_of(run_again)["evaluations"][:2] == found[:2]
    assert len(result_of(run_again)["evaluations"]) == len(old) + 3


def test_a_renamed_class_is_evaluated_under_its_new_name(
    tiny_tree: Callable[[], Tree], own_photographs: Path, tmp_path: Path, quiet: None
) -> None:
    config = configured(changed(tiny_tree(), "data.folder", str(own_photographs)), tmp_path / "run")
    pipeline.run(config, "tiny")
    names = {row["name"] for row in result_of(tmp_path / "run")["evaluations"][0]["per_class"]}
    for name in sorted(names):
        (own_photographs / name).rename(own_photographs / f"{name} renamed")  # the order stays
    pipeline.run(config, "tiny")
    for entry in result_of(tmp_path / "run")["evaluations"]:
        assert {row["name"] for row in entry["per_class"]} == {f"{name} renamed" for name in names}


def test_moved_images_are_the_same_images(
    tiny_tree: Callable[[], Tree], own_photographs: Path, tmp_path: Path, quiet: None, evaluated: list[str]
) -> None:
    tree = changed(tiny_tree(), "data.folder", str(own_photographs))
    pipeline.run(configured(tree, tmp_path / "run"), "tiny")
    evaluated.clear()
    own_photographs.rename(tmp_path / "moved")
    tree["data"] |= {"root": str(tmp_path), "folder": "moved", "cache_dir": str(tmp_path / "other cache")}
    pipeline.run(configured(tree, tmp_path / "run"), "tiny")
    assert evaluated == []


def test_weights_that_training_began_with_are_needed_no_longer(
    tiny_tree: Callable[[], Tree], run_again: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = shutil.copy(run_again / "checkpoints" / "best.safetensors", tmp_path / "weights.safetensors")
    config = configured(changed(tiny_tree(), "backbone.pretrained", str(weights)), tmp_path / "tuned")
    pipeline.run(config, "tiny")
    result = result_of(tmp_path / "tuned")
    assert result["pretrained"] == "weights.safetensors"
    Path(weights).unlink()
    pipeline.run(config, "tiny")
    assert result_of(tmp_path / "tuned") == {**result, "git": result_of(tmp_path / "tuned")["git"]}
    monkeypatch.setattr(pipeline, "open_data", None)  # what is missing is said before anything is decoded
    with pytest.raises(UserError, match="there is no weights file"):
        pipeline.run(config.model_copy(update={"output_dir": str(tmp_path / "fresh")}), "tiny")
    assert not (tmp_path / "fresh").exists()


def test_config_yaml_is_there_while_training_runs(
    tiny_tree: Callable[[], Tree], tmp_path: Path, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pretrain, "_run_epoch", killed)
    config = configured(tiny_tree(), tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(config, "tiny")
    assert load_config(tmp_path / "run" / "config.yaml") == config


def test_halves_of_files_that_a_kill_left_are_removed(
    tiny_tree: Callable[[], Tree], tmp_path: Path, quiet: None
) -> None:
    run = tmp_path / "run"
    config = configured({**tiny_tree(), "pretrain": []}, run)
    pipeline.run(config, "tiny")
    (run / ".somebody's.tmp").write_bytes(b"whole")
    (run / "pictures").mkdir()
    for checkpoint in (None, run / "checkpoints" / "best.safetensors"):
        if checkpoint is not None:
            config = configured({**tiny_tree(), "pretrain": []}, tmp_path / "evaluated")
            run = pipeline.run(config, "tiny", checkpoint)
        whole = sorted(run.rglob("*"))
        for place in (run, run / "checkpoints", run / "pictures"):
            if place.exists():
                os.utime(files._temporary_beside(place / "half"), times=(0, 0))
        written = files._temporary_beside(run / "now")  # by a tool that holds no lock
        pipeline.run(config, "tiny", checkpoint)
        assert written.exists()
        written.unlink()
        assert sorted(run.rglob("*")) == whole


def test_tuning_the_embedder_does_not_depend_on_what_the_last_stage_froze(
    tiny_tree: Callable[[], Tree], tmp_path: Path, quiet: None
) -> None:
    tree = changed(tiny_tree(), "pretrain.0.trainable", "projection")
    tree["adaptations"] = [{"name": "finetune", "trainable": "all", "steps": 3, "optimizer": {"lr": 0.1}}]
    config = configured(tree, tmp_path / "run")
    pipeline.run(config, "tiny")
    after_training = result_of(tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    pipeline.run(config, "tiny")
    assert timeless(result_of(tmp_path / "run")) == timeless(after_training)


@pytest.mark.parametrize("change", ["classes", "pixels"])
def test_the_threshold_is_chosen_anew_when_the_validation_images_are_others(
    tiny_tree: Callable[[], Tree], own_photographs: Path, tmp_path: Path, quiet: None, change: str
) -> None:
    """While the evaluated classes stay what they were, images included."""
    split = tmp_path / "own.json"

    def split_by(base: list[int], validation: list[int]) -> None:
        write_text(split, json.dumps({"base": base, "validation": validation, "novel": [10, 11, 12]}))

    tree = {**tiny_tree(), "pretrain": [], "verification": {"pairs": 40}}
    tree["data"] |= {"folder": str(own_photographs), "split": str(split)}
    split_by([1, 2, 3, 4, 5, 6], [7, 8, 9])
    trained = pipeline.run(configured(tree, tmp_path / "trained"), "tiny")

    def verified(folder: str) -> Tree:
        best = trained / "checkpoints" / "best.safetensors"
        return result_of(pipeline.run(configured(tree, tmp_path / folder), "tiny", best))["verification"]

    before = verified("evaluated")
    assert before == result_of(trained)["verification"]
    if change == "classes":
        split_by([7, 8, 9, 4, 5, 6], [1, 2, 3])
    else:
        for number in range(6):
            shutil.copy(own_photographs / "class00" / f"{number:02d}.png", own_photographs / "class07")
    after = verified("evaluated")
    assert after["threshold"] != before["threshold"]
    assert after == verified("fresh")
    assert after["roc_auc"] == before["roc_auc"]
