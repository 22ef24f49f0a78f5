"""What a run refuses, in which words, and that neither a refusal nor a failed training spoils a folder."""

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from ppfsl import pipeline
from ppfsl.config_file import load_config
from ppfsl.errors import UserError
from ppfsl.files import only_one, write_text
from ppfsl.training import pretrain
from ppfsl.training.checkpoint import load_checkpoint, save_checkpoint
from tests.pipeline.runs import ADAPTATIONS, STAGES, Tree, changed, configured, contents, result_of, timeless


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 1),
        ("data.split_seed", 1),
        ("data.image_size", 20),
        ("backbone.width", 5),
        ("validation.episodes", 11),
        ("pretrain.0.optimizer", {"lr": 0.5}),
        ("pretrain.0.schedule.milestones", [1, 2]),
        ("pretrain.1.epochs", 3),
        ("pretrain", STAGES[:2]),
        ("pretrain", [*STAGES, STAGES[0]]),
        ("onednn", False),
    ],
)
def test_another_training_in_the_same_folder_is_refused_and_changes_nothing(
    run_again: Path, whole_tree: Tree, key: str, value: Any
) -> None:
    before = contents(run_again)
    with pytest.raises(UserError) as caught:
        pipeline.run(configured(changed(whole_tree, key, value), run_again), "tiny")
    message = str(caught.value)
    assert message.startswith(f"{run_again} holds a run with ")
    assert "choose another output_dir" in message
    assert "\n" not in message
    if key == "pretrain":
        assert f"with stages = 3, this one has {len(value)}" in message
    elif isinstance(value, int):
        assert f"with {key} = " in message
        assert f"this one has {value}" in message
    assert contents(run_again) == before


def test_other_images_in_the_same_folder_are_refused(
    tiny_tree: Callable[[], Tree], own_photographs: Path, tmp_path: Path, quiet: None
) -> None:
    config = configured(changed(tiny_tree(), "data.folder", str(own_photographs)), tmp_path / "run")
    pipeline.run(config, "tiny")
    shutil.copy(own_photographs / "class00" / "00.png", own_photographs / "class00" / "01.png")
    with pytest.raises(UserError, match="holds a run with other images or labels; choose another output_dir"):
        pipeline.run(config, "tiny")


def test_a_split_file_that_has_changed_is_refused(tiny_tree: Callable[[], Tree], tmp_path: Path, quiet: None) -> None:
    split = tmp_path / "own.json"
    parts = {"base": [1, 2, 3, 4, 5, 6], "validation": [7, 8, 9], "novel": [10, 11, 12]}
    split.write_text(json.dumps(parts), encoding="utf-8")
    config = configured(changed(tiny_tree(), "data.split", str(split)), tmp_path / "run")
    pipeline.run(config, "tiny")
    assert result_of(tmp_path / "run")["split"] == "own"
    assert {row["label"] for row in result_of(tmp_path / "run")["evaluations"][0]["per_class"]} == {10, 11, 12}
    split.write_text(json.dumps({**parts, "base": [1, 2, 3, 10, 11, 12], "novel": [4, 5, 6]}), encoding="utf-8")
    with pytest.raises(UserError, match=r"holds a run with data\.split\.sha256"):
        pipeline.run(config, "tiny")


@pytest.mark.parametrize(
    ("key", "value"), [("keep_start", 0.4), ("decayed", "head"), ("objective.rotation_weight", 1.0)]
)
def test_a_run_of_before_a_key_was_there_did_without_it(
    tiny_tree: Callable[[], Tree], tmp_path: Path, quiet: None, key: str, value: Any
) -> None:
    tree = tiny_tree()
    first = tree["pretrain"][0]
    tree["pretrain"] = [first, {**copy.deepcopy(first), "optimizer": {"weight_decay": 0.1}}]
    folder = pipeline.run(configured(tree, tmp_path / "run"), "tiny")
    last = folder / "checkpoints" / "last.safetensors"
    checkpoint = load_checkpoint(last)
    trained_on = {name: fact for name, fact in checkpoint.facts["trained_on"].items() if not name.endswith(key)}
    assert len(trained_on) < len(checkpoint.facts["trained_on"])
    save_checkpoint(replace(checkpoint, facts={**checkpoint.facts, "trained_on": trained_on}), last)
    pipeline.run(configured(tree, folder), "tiny")
    other = changed(tree, f"pretrain.1.{key}", value)
    with pytest.raises(UserError, match=f"holds a run with pretrain.1.{key} = "):
        pipeline.run(configured(other, folder), "tiny")


@pytest.mark.parametrize("key", ["onednn", "amp"])
def test_a_run_that_does_not_tell_a_fact_is_gone_on_with(
    run_again: Path, whole_tree: Tree, no_training: None, key: str
) -> None:
    last = run_again / "checkpoints" / "last.safetensors"
    checkpoint = load_checkpoint(last)
    trained_on = dict(checkpoint.facts["trained_on"])
    assert trained_on.pop(key) == {"onednn": True, "amp": "none"}[key]
    save_checkpoint(replace(checkpoint, facts={**checkpoint.facts, "trained_on": trained_on}), last)
    pipeline.run(configured(whole_tree, run_again), "tiny")


@pytest.mark.parametrize(("key", "value"), [("onednn", False), ("validation.episodes", 9)])
def test_where_nothing_is_trained_what_concerns_training_may_change(
    tiny_tree: Callable[[], Tree], tmp_path: Path, quiet: None, key: str, value: Any
) -> None:
    tree = {**tiny_tree(), "pretrain": []}
    folder = pipeline.run(configured(tree, tmp_path / "run"), "tiny")
    pipeline.run(configured(changed(tree, key, value), folder), "tiny")


def test_keys_of_the_data_that_nothing_reads_may_change(run_again: Path, whole_tree: Tree, no_training: None) -> None:
    pipeline.run(configured(changed(whole_tree, "data.synthetic.seed", 3), run_again), "tiny")
    with pytest.raises(UserError, match=r"holds a run with data\.split_seed = "):
        pipeline.run(configured(changed(whole_tree, "data.split_seed", 3), run_again), "tiny")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"evaluation.way": 4}, "4-way episodes need 4 classes"),
        ({"evaluation.shot": [1, 10]}, "12 images"),
        ({"evaluation.support_set": {"way": 4}}, "4-way support set"),
        ({"evaluation.support_set": {"classes": [1, 5, 99]}}, "class 99"),
        ({"evaluation.part": "validation", "data.split_ratio": [0.5, 0, 0.5]}, "there are 0 validation classes"),
        ({"validation.query": 20}, "lower validation.query, or add images"),
        ({"validation.way": 4}, "validation: 4-way"),
        ({"data.split_ratio": [0, 0.5, 0.5]}, "needs two base classes, not 0"),
        ({"data.split_ratio": [0.1, 0.4, 0.5]}, "needs two base classes, not 1"),
        ({"pretrain.2.objective.classes_per_batch": 9}, "3_triplet: classes_per_batch is 9"),
        ({"pretrain.2.objective.images_per_class": 13}, "3_triplet: "),
        ({"backbone.name": "resnet12", "backbone.width": None, "backbone.pretrained": "absent.safetensors"}, "absent"),
        ({"backbone.pretrained": "imagenet"}, "no ImageNet weights for conv4"),
        ({"device": "gpu:7"}, "device: gpu:7"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    whole_tree: Tree, tmp_path: Path, quiet: None, changes: Tree, words: str
) -> None:
    tree = whole_tree
    for key, value in changes.items():
        tree = changed(tree, key, value)
    with pytest.raises(UserError) as caught:
        pipeline.run(configured(tree, tmp_path / "run"), "tiny")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_split_that_is_not_to_be_had_is_named_before_anything_is_decoded(
    tiny_tree: Callable[[], Tree], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoded(*_: object) -> None:
        raise AssertionError("images are decoded")

    monkeypatch.setattr(pipeline, "open_table", decoded)
    (tmp_path / "half.json").write_text('{"base": [1, 2]}', encoding="utf-8")
    for split, words in (("vinylas", "has no split 'vinylas'"), (str(tmp_path / "half.json"), "no key 'validation'")):
        config = configured(changed(tiny_tree(), "data.split", split), tmp_path / "run")
        with pytest.raises(UserError, match=words):
            pipeline.run(config, "tiny")


@pytest.mark.parametrize("text", ["{}", '{"evaluations": [{}]}', '{"evaluations": 3}', "[", ""])
def test_a_damaged_result_is_named(run_again: Path, whole_tree: Tree, text: str) -> None:
    write_text(run_again / "result.json", text)
    with pytest.raises(UserError, match=r"result\.json cannot be used"):
        pipeline.run(configured(whole_tree, run_again), "tiny")


def test_finishing_that_lacks_base_classes_is_refused_before_config_yaml_is_written(
    tiny_tree: Callable[[], Tree], tmp_path: Path, quiet: None
) -> None:
    tree = {**changed(tiny_tree(), "data.split_ratio", [0, 0, 1]), "pretrain": []}
    folder = pipeline.run(configured(tree, tmp_path / "run"), "tiny")
    before = contents(folder)
    with pytest.raises(UserError, match=r"^embedding\.center: base needs base classes, but split ratio has none"):
        pipeline.run(configured({**tree, "embedding": {"center": "base"}}, folder), "tiny")
    assert contents(folder) == before


def test_two_processes_do_not_write_in_one_folder(tiny_tree: Callable[[], Tree], tmp_path: Path, quiet: None) -> None:
    config = configured(tiny_tree(), tmp_path / "run")
    pipeline.run(config, "tiny")
    before = contents(tmp_path / "run")
    with only_one(tmp_path / "run"), pytest.raises(UserError) as caught:
        pipeline.run(config, "tiny")
    assert str(caught.value).startswith(f"another process is at work in {tmp_path / 'run'}; wait")
    assert contents(tmp_path / "run") == before
    pipeline.run(config, "tiny")


@pytest.mark.parametrize("tool", ["train", "eval"])
def test_a_run_holds_its_folder_until_its_results_are_shown(
    tool: str, run_again: Path, whole_tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = run_again / "checkpoints" / "best.safetensors"
    folder, checkpoint = (run_again, None) if tool == "train" else (tmp_path / "evaluated", best)
    said = []

    def another_comes(where: Path, *_: object) -> None:
        with pytest.raises(UserError) as caught, only_one(where):
            pass
        said.append(str(caught.value))

    monkeypatch.setattr(pipeline, "show_run", another_comes)
    pipeline.run(configured({**whole_tree, "adaptations": ADAPTATIONS[:1]}, folder), "tiny", checkpoint)
    assert said == [f"another process is at work in {folder}; wait until it ends, or choose another output_dir"]
    with only_one(folder):
        before = contents(folder)
        with pytest.raises(UserError, match="another process is at work"):
            pipeline.run(configured(whole_tree, folder), "tiny", checkpoint)
        assert contents(folder) == before


def test_a_run_that_never_finished_an_epoch_binds_nobody(
    tiny_tree: Callable[[], Tree], tmp_path: Path, quiet: None
) -> None:
    wrong = changed(tiny_tree(), "pretrain.0.optimizer", {"name": "sgd", "lr": 1e30})
    with pytest.raises(UserError, match="not finite at step 2 of epoch 1"):
        pipeline.run(configured(wrong, tmp_path / "run"), "tiny")
    config = configured(tiny_tree(), tmp_path / "run")
    pipeline.run(config, "tiny")
    pipeline.run(configured(tiny_tree(), tmp_path / "fresh"), "tiny")
    assert load_config(tmp_path / "run" / "config.yaml") == config
    assert timeless(result_of(tmp_path / "run")) == timeless(result_of(tmp_path / "fresh"))


def test_numbers_that_are_not_finite_reach_no_checkpoint(
    tiny_tree: Callable[[], Tree], tmp_path: Path, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here a statistic of a batch norm, in which the loss of a training step would not show."""
    really = pretrain.Stage.run_epoch

    def spoiling(self: Any, epoch: int) -> Any:
        yield from really(self, epoch)
        if epoch == 1:
            variance = next(v for name, v in self.embedder.state_dict().items() if name.endswith("_variance"))
            variance.set_value(paddle.full_like(variance, float("inf")))

    monkeypatch.setattr(pretrain.Stage, "run_epoch", spoiling)
    config = configured(changed(tiny_tree(), "pretrain.0.epochs", 3), tmp_path / "run")
    with pytest.raises(UserError, match="the loss is not finite at the end of epoch 2; the last good checkpoint is"):
        pipeline.run(config, "tiny")
    for name in ("last", "best"):
        checkpoint = load_checkpoint(tmp_path / "run" / "checkpoints" / f"{name}.safetensors")
        assert checkpoint.facts["progress"]["epochs"] == 1
        assert all(np.isfinite(array).all() for array in checkpoint.weights.values())
