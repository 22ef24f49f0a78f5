"""Whole runs, from a folder of pictures to the report, on a network of a few hundred weights."""

import copy
import json
import os
import runpy
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import yaml

from ppfsl import pipeline, results
from ppfsl.config import Config
from ppfsl.config_file import load_config, parse_config, run_folder
from ppfsl.data.class_split import load_split
from ppfsl.data.support_set import as_episode, load_support_set
from ppfsl.errors import UserError
from ppfsl.files import only_one, write_text
from ppfsl.inference.engine import embed
from ppfsl.onednn import native
from ppfsl.training import pretrain
from ppfsl.training.checkpoint import load_checkpoint, load_embedder, save_checkpoint

Tree = dict[str, Any]
STAGES: list[Tree] = [
    {
        "objective": {"name": "cross_entropy", "batch_size": 16},
        "epochs": 2,
        "schedule": {"name": "step", "milestones": [1]},
        "augmentation": {"crop": "random", "flip": True, "jitter": 0.2},
    },
    {"objective": {"name": "cosine", "triples": 4}, "epochs": 2, "optimizer": {"name": "momentum", "lr": 0.01}},
    {
        "objective": {"name": "triplet", "classes_per_batch": 4, "images_per_class": 3},
        "epochs": 2,
        "trainable": "projection",
    },
]
ADAPTATIONS: list[Tree] = [
    {"name": "class_mean"},
    {"name": "finetune", "label": "inductive", "steps": 5, "optimizer": {"lr": 0.05}},
    {"name": "finetune", "label": "transductive", "entropy": "query", "steps": 5, "optimizer": {"lr": 0.05}},
    {
        "name": "finetune",
        "label": "random",
        "initialization": "random",
        "similarity": "inner_product",
        "entropy": "none",
        "steps": 20,
        "optimizer": {"lr": 0.05},
    },
    {"name": "finetune", "label": "everything", "trainable": "all", "steps": 2, "optimizer": {"lr": 0.05}},
]

LABELS = ("class_mean", "inductive", "transductive", "random", "everything")


@pytest.fixture(scope="module")
def whole_tree(tiny_tree: Callable[[], Tree]) -> Tree:
    return {**tiny_tree(), "pretrain": STAGES, "adaptations": ADAPTATIONS}


@pytest.fixture(scope="module")
def finished(whole_tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a whole run; to be read only."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert pipeline.run(configured(whole_tree, folder), "tiny") == folder
    return folder


@pytest.fixture
def run_again(finished: Path, tmp_path: Path, quiet: None) -> Path:
    """A copy of that directory, for a test to run in again; without pictures, which take seconds."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without tables, pictures and report."""
    monkeypatch.setattr(pipeline, "show_run", lambda *_: None)


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a stage is trained")

    monkeypatch.setattr(pretrain, "_run_stage", fail)


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The titles of the evaluations that are really carried out, as they are."""
    titles: list[str] = []
    really = results.evaluate

    def counted(method: Any, gather: Any, episodes: Any, classes: Any, title: str, **further: Any) -> Any:
        titles.append(title)
        return really(method, gather, episodes, classes, title, **further)

    monkeypatch.setattr(results, "evaluate", counted)
    return titles


def configured(tree: Tree, folder: Path) -> Config:
    return parse_config({**tree, "output_dir": str(folder)}, "a test")


def changed(tree: Tree, key: str, value: Any) -> Tree:
    """A copy with one value replaced; the key is dotted, numbers count into lists."""
    tree = copy.deepcopy(tree)
    *path, last = (int(part) if part.isdecimal() else part for part in key.split("."))
    node: Any = tree
    for part in path:
        node = node[part] if isinstance(part, int) else node.setdefault(part, {})
    node[last] = value
    return tree


def result_of(folder: Path) -> Tree:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def timeless(result: Tree) -> Tree:
    """A result without how long it took; files of the checkout may change between two runs, if not their results."""
    return {**result, "git": "", "evaluations": [{**entry, "seconds": 0} for entry in result["evaluations"]]}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_keeps_the_contract(finished: Path, departures: Callable[[Path], list[str]]) -> None:
    assert departures(finished) == []
    assert sorted(path.name for path in (finished / "checkpoints").iterdir()) == [
        "1_cross_entropy.safetensors",
        "2_cosine.safetensors",
        "3_triplet.safetensors",
        "best.safetensors",
        "last.safetensors",
    ]
    assert not list(finished.rglob("*.tmp"))
    result = result_of(finished)
    assert (result["schema"], result["name"], result["dataset"], result["split"]) == (1, "tiny", "folder", "ratio")
    assert (result["backbone"], result["pretrained"], result["seed"]) == ("conv4", None, 0)
    assert {"paddle", "ppfsl"} <= set(result["versions"])
    page = (finished / "report.html").read_text(encoding="utf-8")
    for text in ("everything", "class05", "transductive", "data:image/png;base64"):
        assert text in page


def test_every_adaptation_is_scored_on_every_shot_and_on_the_support_set(finished: Path) -> None:
    found = [
        (entry["adaptation"], entry["shot"], entry["episodes"], entry["support_set"])
        for entry in result_of(finished)["evaluations"]
    ]
    assert found == [
        (label, *row) for label in LABELS for row in ((1, 10, False), (5, 10, False), (5, 1, True))
    ]  # fmt: skip


def test_only_rows_that_saw_the_queries_are_called_transductive(finished: Path) -> None:
    flags = {(entry["adaptation"], entry["transductive"]) for entry in result_of(finished)["evaluations"]}
    assert flags == {
        ("class_mean", False),
        ("inductive", False),
        ("transductive", True),
        ("random", False),
        ("everything", False),
    }


def test_metrics_name_every_stage_and_count_steps_and_epochs_over_all_of_them(finished: Path) -> None:
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
    for stage, epochs in (("1_cross_entropy", {1, 2}), ("2_cosine", {3, 4}), ("3_triplet", {5, 6})):
        for name in (f"{stage}/loss", f"{stage}/learning_rate", f"{stage}/accuracy_3way_1shot"):
            assert {row["epoch"] for row in rows if row["name"] == name} == epochs, name
    # 72 base images: 4 batches of 16, 6 of 3 x 4, 6 of 4 x 3.
    assert rows[-1]["step"] == 2 * (4 + 6 + 6)
    rates = [row["value"] for row in rows if row["name"] == "1_cross_entropy/learning_rate"]
    np.testing.assert_allclose(rates, [1e-3, 1e-4])


def test_all_shots_pose_the_same_queries(finished: Path, whole_tree: Tree) -> None:
    config = configured(whole_tree, finished)
    data = pipeline.open_data(config)
    one, five = (list(results.episode_sampler(config, data, 3, shot).take(10)) for shot in (1, 5))
    for small, large in zip(one, five, strict=True):
        np.testing.assert_array_equal(small.query, large.query)
        np.testing.assert_array_equal(small.support, large.support[:, :1])
    for label in ("class_mean", "everything"):
        first, second, _ = (entry for entry in result_of(finished)["evaluations"] if entry["adaptation"] == label)
        assert [(row["label"], row["total"]) for row in first["per_class"]] == [
            (row["label"], row["total"]) for row in second["per_class"]
        ]


def test_class_mean_rows_are_those_of_the_best_checkpoint_by_plain_arithmetic(finished: Path, whole_tree: Tree) -> None:
    config = configured(whole_tree, finished)
    data = pipeline.open_data(config)
    embedder = load_embedder(finished / "checkpoints" / "best.safetensors")
    embedder.eval()
    with paddle.no_grad():
        embeddings = embedder(paddle.to_tensor(data.table.images.transpose(0, 3, 1, 2).astype(np.float32))).numpy()
    fixed = as_episode(load_support_set(finished / "support_set.json"), data.table)
    rows = [entry for entry in result_of(finished)["evaluations"] if entry["adaptation"] == "class_mean"]
    for shot, entry in zip((1, 5, None), rows, strict=True):
        episodes = [fixed] if shot is None else list(results.episode_sampler(config, data, 3, shot).take(10))
        right = []
        for episode in episodes:
            means = np.stack([embeddings[images].mean(0) for images in episode.support])
            means /= np.linalg.norm(means, axis=1, keepdims=True)
            answers = (embeddings[episode.query] @ means.T).argmax(-1)
            right.append((answers == np.arange(3)[:, None]).mean())
        assert entry["accuracy"] == pytest.approx(np.mean(right), abs=1.5 / (len(episodes) * 12))
        assert entry["ci95"] == pytest.approx(1.96 * np.std(right) / np.sqrt(len(episodes)), abs=0.02)


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


def test_the_resolved_configuration_gives_the_same_run(
    finished: Path, tmp_path: Path, quiet: None, whole_tree: Tree
) -> None:
    assert load_config(finished / "config.yaml") == configured(whole_tree, finished)
    again = load_config(finished / "config.yaml", [f"output_dir={tmp_path / 'again'}"])
    pipeline.run(again, "tiny")
    assert timeless(result_of(tmp_path / "again")) == timeless(result_of(finished))
    first, second = (folder / "support_set.json" for folder in (finished, tmp_path / "again"))
    assert first.read_bytes() == second.read_bytes()
    for name in ("last", "best", "2_cosine"):
        one, two = (load_checkpoint(f / "checkpoints" / f"{name}.safetensors") for f in (finished, tmp_path / "again"))
        assert set(one.weights) == set(two.weights)
        assert all(np.array_equal(one.weights[key], two.weights[key]) for key in one.weights)


def test_another_seed_gives_another_run(tiny_tree: Callable[[], Tree], tmp_path: Path, quiet: None) -> None:
    accuracies = []
    for seed in (0, 1):
        folder = pipeline.run(configured({**tiny_tree(), "seed": seed}, tmp_path / str(seed)), "tiny")
        accuracies.append([entry["confusion"] for entry in result_of(folder)["evaluations"]])
    assert accuracies[0] != accuracies[1]


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
    tiny_tree: Callable[[], Tree], run_again: Path, tmp_path: Path
) -> None:
    weights = shutil.copy(run_again / "checkpoints" / "best.safetensors", tmp_path / "weights.safetensors")
    config = configured(changed(tiny_tree(), "backbone.pretrained", str(weights)), tmp_path / "tuned")
    pipeline.run(config, "tiny")
    result = result_of(tmp_path / "tuned")
    assert result["pretrained"] == "weights.safetensors"
    Path(weights).unlink()
    pipeline.run(config, "tiny")
    assert result_of(tmp_path / "tuned") == {**result, "git": result_of(tmp_path / "tuned")["git"]}
    with pytest.raises(UserError, match="there is no weights file"):
        pipeline.run(config.model_copy(update={"output_dir": str(tmp_path / "fresh")}), "tiny")
    assert not (tmp_path / "fresh").exists()


def test_training_begins_with_the_weights_named(tiny_tree: Callable[[], Tree], run_again: Path, tmp_path: Path) -> None:
    """With a network that is not trained further, they are those of the file, but for the projection."""
    best = run_again / "checkpoints" / "best.safetensors"
    tree = {**changed(tiny_tree(), "backbone.pretrained", str(best)), "pretrain": []}
    pipeline.run(configured(tree, tmp_path / "tuned"), "tiny")
    old, new = (
        load_checkpoint(f / "checkpoints" / "best.safetensors").weights for f in (run_again, tmp_path / "tuned")
    )
    assert {name for name in old if not np.array_equal(old[name], new[name])} == {
        "projection.weight",
        "projection.bias",
    }


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
    ("changes", "words"),
    [
        ({"evaluation.way": 4}, "4-way episodes need 4 classes"),
        ({"evaluation.shot": [1, 10]}, "12 images"),
        ({"evaluation.support_set": {"way": 4}}, "4-way support set"),
        ({"evaluation.support_set": {"classes": [1, 5, 99]}}, "class 99"),
        ({"evaluation.part": "validation", "data.split_ratio": [0.5, 0, 0.5]}, "there are 0 validation classes"),
        ({"validation.query": 20}, "lower validation.query, or add images"),
        ({"validation.way": 4}, "validation: 4-way"),
        ({"data.split_ratio": [0, 0.5, 0.5]}, "needs two base classes, but there are 0"),
        ({"data.split_ratio": [0.1, 0.4, 0.5]}, "needs two base classes, but there are 1"),
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


def test_two_processes_do_not_write_in_one_folder(tiny_tree: Callable[[], Tree], tmp_path: Path, quiet: None) -> None:
    config = configured(tiny_tree(), tmp_path / "run")
    pipeline.run(config, "tiny")
    before = contents(tmp_path / "run")
    with only_one(tmp_path / "run"), pytest.raises(UserError) as caught:
        pipeline.run(config, "tiny")
    assert str(caught.value).startswith(f"another process is at work in {tmp_path / 'run'}; wait")
    assert contents(tmp_path / "run") == before
    pipeline.run(config, "tiny")


def test_halves_of_checkpoints_that_a_kill_left_are_removed(
    tiny_tree: Callable[[], Tree], tmp_path: Path, quiet: None
) -> None:
    config = configured({**tiny_tree(), "pretrain": []}, tmp_path / "run")
    pipeline.run(config, "tiny")
    whole = sorted((tmp_path / "run" / "checkpoints").iterdir())
    (tmp_path / "run" / "checkpoints" / ".last.safetensors.abc.tmp").write_bytes(b"half")
    pipeline.run(config, "tiny")
    assert sorted((tmp_path / "run" / "checkpoints").iterdir()) == whole


def test_without_training_the_initial_weights_are_evaluated(
    tiny_tree: Callable[[], Tree], tmp_path: Path, departures: Callable[[Path], list[str]]
) -> None:
    config = configured({**tiny_tree(), "pretrain": []}, tmp_path / "run")
    pipeline.run(config, "tiny")
    assert departures(tmp_path / "run") == []
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == b""
    assert result_of(tmp_path / "run")["stages"] == []


FINISH = {"mirror": True, "power": 0.5, "center": "base", "whitening": 1.0}


def test_a_finished_embedder_is_evaluated_and_kept(
    tiny_tree: Callable[[], Tree], tmp_path: Path, quiet: None, evaluated: list[str]
) -> None:
    tree, folder = tiny_tree(), tmp_path / "run"
    pipeline.run(configured(tree, folder), "tiny")
    plain, raw = result_of(folder), load_checkpoint(folder / "checkpoints" / "best.safetensors")
    evaluated.clear()
    pipeline.run(configured({**tree, "embedding": FINISH}, folder), "tiny")
    assert len(evaluated) == 3
    kept, last = (load_checkpoint(folder / "checkpoints" / f"{name}.safetensors") for name in ("best", "last"))
    assert (kept.architecture.mirror, kept.architecture.power) == (True, 0.5)
    assert (kept.architecture.centered, kept.architecture.whitened) == (True, True)
    assert last.architecture == raw.architecture == kept.architecture.unfinished()
    assert all((last.weights[name] == value).all() for name, value in raw.weights.items())
    assert [row["accuracy"] for row in result_of(folder)["evaluations"]] != [
        row["accuracy"] for row in plain["evaluations"]
    ]
    assert result_of(folder)["embedding"] == FINISH
    assert plain["embedding"] == {"mirror": False, "power": 1.0, "center": "none", "whitening": None}
    data = pipeline.open_data(configured(tree, folder))
    embeddings = embed(load_embedder(folder / "checkpoints" / "best.safetensors"), data.table.images, data.rows)
    again = pipeline.run(configured({**tree, "embedding": FINISH}, folder), "tiny")
    assert len(evaluated) == 3
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    pipeline.run(configured(tree, again), "tiny")
    assert load_checkpoint(folder / "checkpoints" / "best.safetensors").architecture == raw.architecture
    assert timeless(result_of(folder)) == timeless(plain)


def test_the_kept_embedder_follows_the_configuration(
    tiny_tree: Callable[[], Tree], tmp_path: Path, quiet: None
) -> None:
    """Also where another setting gives arrays of the same shapes; and it is written where it has changed alone."""
    best, kept = tmp_path / "run" / "checkpoints" / "best.safetensors", []
    for shrinkage in (1.0, 2.0, 2.0):
        tree = {**tiny_tree(), "embedding": {**FINISH, "whitening": shrinkage}}
        pipeline.run(configured(tree, tmp_path / "run"), "tiny")
        kept.append((load_checkpoint(best).weights["whitening"].tobytes(), best.stat().st_mtime_ns))
    assert kept[0][0] != kept[1][0]
    assert kept[1] == kept[2]


def test_a_checkpoints_method_knows_no_finished_embeddings(
    tiny_tree: Callable[[], Tree], tmp_path: Path, quiet: None
) -> None:
    siamese = {"objective": {"name": "siamese", "classes_per_batch": 3, "images_per_class": 3}, "epochs": 1}
    first = pipeline.run(configured({**tiny_tree(), "pretrain": [siamese]}, tmp_path / "siamese"), "tiny")
    best = first / "checkpoints" / "best.safetensors"
    config = configured({**tiny_tree(), "embedding": FINISH}, tmp_path / "other")
    with pytest.raises(UserError, match=r"the keys of embedding do not go with .*best\.safetensors, whose"):
        pipeline.run(config, "tiny", best)
    assert not (tmp_path / "other").exists()


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


def test_the_configuration_says_how_a_checkpoint_is_finished(
    tiny_tree: Callable[[], Tree], tmp_path: Path, quiet: None
) -> None:
    """Whatever was done to it before."""
    scores = {}
    for name, finish in (("plain", {}), ("finished", FINISH)):
        tree = {**tiny_tree(), "embedding": finish}
        folder = pipeline.run(configured(tree, tmp_path / name), "tiny")
        scores[name] = [row["episode_correct"] for row in result_of(folder)["evaluations"]]
    assert scores["plain"] != scores["finished"]
    for source in ("plain", "finished"):
        for wanted, finish in (("plain", {}), ("finished", FINISH)):
            tree = {**tiny_tree(), "embedding": finish}
            best = tmp_path / source / "checkpoints" / "best.safetensors"
            folder = pipeline.run(configured(tree, tmp_path / f"{source} as {wanted}"), "tiny", best)
            assert [row["episode_correct"] for row in result_of(folder)["evaluations"]] == scores[wanted]


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


@pytest.mark.parametrize("text", ["{}", '{"evaluations": [{}]}', '{"evaluations": 3}', "[", ""])
def test_a_damaged_result_is_named(run_again: Path, whole_tree: Tree, text: str) -> None:
    write_text(run_again / "result.json", text)
    with pytest.raises(UserError, match=r"result\.json cannot be used"):
        pipeline.run(configured(whole_tree, run_again), "tiny")


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


def test_output_goes_below_output_unless_the_configuration_says_where() -> None:
    assert run_folder(Config(), "flowers102/article") == Path("output/flowers102/article")
    assert run_folder(Config(output_dir="here"), "flowers102/article") == Path("here")


# --- methods that are trained


EPISODES: Tree = {"way": 3, "shot": 1, "query": 3}
CLASSES: Tree = {"classes_per_batch": 3, "images_per_class": 3}
METHODS: dict[str, tuple[list[Tree], Tree]] = {  # objectives in order, adaptation
    "contrastive": ([{"name": "contrastive", **CLASSES}], {"name": "nearest_shot"}),
    "siamese": ([{"name": "siamese", **CLASSES}], {"name": "siamese"}),
    "siamese, concatenation": (
        [{"name": "siamese", "merge": "concatenation", "hidden": [6], **CLASSES}],
        {"name": "siamese", "shots": "max"},
    ),
    "prototypical": ([{"name": "prototypical", "episodes_per_batch": 2, **EPISODES}], {"name": "prototypical"}),
    "matching": ([{"name": "matching", "temperature": 0.1, **EPISODES}], {"name": "matching", "temperature": 0.1}),
    "matching, full context": (
        [{"name": "matching", **EPISODES}, {"name": "matching", "context": "full", **EPISODES}],
        {"name": "matching", "context": "full"},
    ),
    "relation": ([{"name": "relation", "width": 4, **EPISODES}], {"name": "relation"}),
    "meta_baseline": (
        [{"name": "cross_entropy", "batch_size": 8}, {"name": "meta_baseline", **EPISODES}],
        {"name": "meta_baseline"},
    ),
    "anil": ([{"name": "anil", "inner_steps": 2, **EPISODES}], {"name": "anil", "steps": 3}),
    "maml": ([{"name": "maml", "episodes_per_batch": 2, **EPISODES}], {"name": "maml"}),
    "maml, first order": (
        [{"name": "maml", "order": 1, "batch_norm": "running", **EPISODES}],
        {"name": "maml", "steps": 2, "lr": 0.1, "batch_norm": "support_statistics"},
    ),
    "meta_sgd": ([{"name": "meta_sgd", "batch_norm": "support_statistics", **EPISODES}], {"name": "meta_sgd"}),
    "reptile": (
        [{"name": "reptile", "batch_norm": "support_statistics", **EPISODES}],
        {"name": "reptile", "steps": 3, "batch_norm": "running"},
    ),
    "lstm_meta_learner": (
        [{"name": "lstm_meta_learner", "inner_steps": 2, "batch_norm": "support_statistics", "hidden": 4, **EPISODES}],
        {"name": "lstm_meta_learner", "steps": 3},
    ),
    "learned_optimizer": (
        [{"name": "learned_optimizer", "inner_steps": 2, "hidden": 4, **EPISODES}],
        {"name": "learned_optimizer", "inner_steps": 3},
    ),
    "memory_augmented": (
        [{"name": "memory_augmented", "way": 3, "instances": 3, "hidden": 6, "slots": 5, "width": 4, "heads": 2}],
        {"name": "memory_augmented"},
    ),
    "baseline": ([{"name": "cross_entropy", "batch_size": 8}], {"name": "baseline", "epochs": 3}),
    "baseline++": (
        [{"name": "cross_entropy", "classifier": "cosine", "batch_size": 8}],
        {"name": "baseline++", "epochs": 3},
    ),
}
BATCH_NORM = {  # of the rows of methods that adapt batch norm too
    "maml": "transductive",
    "maml, first order": "support_statistics",
    "meta_sgd": "support_statistics",
    "reptile": "running",
    "lstm_meta_learner": "support_statistics",
}
LAYERS = {"siamese", "siamese, concatenation", "matching, full context", "relation", "meta_baseline"}
LAYERS |= {"anil", "learned_optimizer", "memory_augmented", *BATCH_NORM}


@pytest.fixture(scope="module")
def method_tree(image_cache: Path) -> Callable[[str], Tree]:
    """Gives the tree of a run of one epoch of two steps a stage on drawn blossoms of 32 pixels, on maps of 8 x 8."""

    def tree(kind: str) -> Tree:
        objectives, adaptation = METHODS[kind]
        return {
            "data": {
                "name": "synthetic",
                "image_size": 32,
                "split_ratio": [0.5, 0.25, 0.25],
                "synthetic": {"classes": 12, "images_per_class": 8},
                "cache_dir": str(image_cache),
            },
            "backbone": {"name": "conv4", "width": 8, "pools": 2, "projection": "none"},
            "pretrain": [{"objective": o, "epochs": 1, "steps_per_epoch": 2} for o in objectives],
            "validation": {"way": 3, "query": 3, "episodes": 5},
            "adaptations": [adaptation],
            "evaluation": {"way": 3, "shot": [1, 2], "query": 4, "episodes": 10},
        }

    return tree


@pytest.fixture(scope="module")
def method_runs(
    method_tree: Callable[[str], Tree], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, Tree]]:
    """The directory, to be read only, and the tree of each method's run, without pictures."""
    folder = tmp_path_factory.mktemp("methods")
    runs = {kind: (folder / kind, method_tree(kind)) for kind in METHODS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "show_run", lambda *_: None)
        for run, tree in runs.values():
            pipeline.run(configured(tree, run), "tiny")
    return runs


def evaluate_with_tool(tree: Tree, checkpoint: Path, folder: Path) -> Tree:
    """What `tools/eval.py` finds, called as from the command line, in that folder."""
    folder.mkdir()
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    tool = Path(__file__).parents[1] / "tools" / "eval.py"
    output = folder / "evaluated"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        arguments = ["-c", str(folder / "tiny.yaml"), "--checkpoint", str(checkpoint), "-o", f"output_dir={output}"]
        patch.setattr(sys, "argv", [str(tool), *arguments])
        runpy.run_path(str(tool), run_name="__main__")
    return result_of(output)


@pytest.mark.parametrize("kind", METHODS)
def test_a_method_is_trained_and_scored(method_runs: dict[str, tuple[Path, Tree]], kind: str) -> None:
    folder, _ = method_runs[kind]
    objectives, adaptation = METHODS[kind]
    result = result_of(folder)
    assert result["stages"] == [objective["name"] for objective in objectives]
    rows = result["evaluations"]
    assert [(row["adaptation"], row["shot"], row["episodes"], row["support_set"]) for row in rows] == [
        (adaptation["name"], 1, 10, False),
        (adaptation["name"], 2, 10, False),
        (adaptation["name"], 2, 1, True),
    ]
    for row in rows:
        assert 0 <= row["accuracy"] <= 1
        assert row["batch_norm"] == BATCH_NORM.get(kind, "eval")
        assert row["transductive"] == (row["batch_norm"] == "transductive")
        assert np.sum(row["confusion"]) == row["episodes"] * 3 * 4
        assert {key: row["settings"][key] for key in adaptation} == adaptation
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert metrics[-1]["step"] == 2 * len(objectives)
    assert all(np.isfinite(row["value"]) for row in metrics)
    best = load_checkpoint(folder / "checkpoints" / "best.safetensors")
    assert (best.layer is not None) == (kind in LAYERS)


@pytest.mark.parametrize("kind", METHODS)
def test_the_tool_scores_the_best_checkpoint_of_a_method_alike(
    method_runs: dict[str, tuple[Path, Tree]], tmp_path: Path, quiet: None, no_training: None, kind: str
) -> None:
    folder, tree = method_runs[kind]
    found = evaluate_with_tool(tree, folder / "checkpoints" / "best.safetensors", tmp_path / "tool")
    assert timeless(found) == timeless(result_of(folder))


@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_a_second_run_of_a_method_trains_and_evaluates_nothing(
    method_runs: dict[str, tuple[Path, Tree]],
    tmp_path: Path,
    quiet: None,
    no_training: None,
    evaluated: list[str],
    kind: str,
) -> None:
    folder, tree = method_runs[kind]
    again = Path(shutil.copytree(folder, tmp_path / "again"))
    pipeline.run(configured(tree, again), "tiny")
    assert evaluated == []
    assert timeless(result_of(again)) == timeless(result_of(folder))


def test_a_checkpoint_without_what_an_adaptation_needs_is_refused(
    method_runs: dict[str, tuple[Path, Tree]], tmp_path: Path, quiet: None
) -> None:
    relation = method_runs["relation"][1]
    for other in ("prototypical", "siamese"):  # with no layer, with another method's
        checkpoint = method_runs[other][0] / "checkpoints" / "best.safetensors"
        with pytest.raises(UserError) as caught:
            pipeline.run(configured(relation, tmp_path / other), "tiny", checkpoint)
        assert str(caught.value) == (
            "adaptation relation needs what the objective of that name learns, which this checkpoint lacks; "
            "evaluate a run whose last stage has it"
        )
        assert not (tmp_path / other).exists()


def test_a_checkpoint_of_another_method_that_adapts_by_gradient_is_refused(
    method_runs: dict[str, tuple[Path, Tree]], tmp_path: Path, quiet: None
) -> None:
    maml = method_runs["maml"][1]
    for other in ("anil", "reptile", "meta_sgd", "lstm_meta_learner"):
        checkpoint = method_runs[other][0] / "checkpoints" / "best.safetensors"
        with pytest.raises(UserError) as caught:
            pipeline.run(configured(maml, tmp_path / other), "tiny", checkpoint)
        assert str(caught.value) == (
            "adaptation maml needs what the objective of that name learns, but this checkpoint holds that of "
            f"{other}; evaluate another run, or adapt by {other}"
        )
        assert not (tmp_path / other).exists()


@pytest.mark.parametrize("kind", ["anil", "maml", "lstm_meta_learner", "memory_augmented"])
def test_a_checkpoint_of_another_way_is_refused(
    method_runs: dict[str, tuple[Path, Tree]], tmp_path: Path, quiet: None, kind: str
) -> None:
    tree = method_runs[kind][1]
    for key in ("pretrain.0.objective.way", "validation.way", "evaluation.way"):
        tree = changed(tree, key, 2)
    checkpoint = method_runs[kind][0] / "checkpoints" / "best.safetensors"
    with pytest.raises(UserError) as caught:
        pipeline.run(configured(tree, tmp_path / "run"), "tiny", checkpoint)
    assert str(caught.value) == (
        f"{kind} was trained 3-way and serves no 2-way episodes; "
        "evaluate with 3 classes, in evaluation.way and in the support set"
    )


def test_settings_of_adaptation_that_are_left_open_are_those_of_training(
    method_runs: dict[str, tuple[Path, Tree]], tmp_path: Path, quiet: None, evaluated: list[str]
) -> None:
    folder, tree = method_runs["maml"]
    again = Path(shutil.copytree(folder, tmp_path / "again"))
    rows: list[Tree] = [
        {},
        {"steps": 1, "lr": 0.4, "batch_norm": "transductive"},  # what training had
        {"steps": 4},
        {"lr": 2.0},
        {"batch_norm": "support_statistics"},
        {"batch_norm": "running"},
    ]
    tree = {**tree, "adaptations": [{"name": "maml", "label": str(n), **row} for n, row in enumerate(rows)]}
    pipeline.run(configured(changed(tree, "evaluation.shot", [1]), again), "tiny")
    found = [entry for entry in result_of(again)["evaluations"] if not entry["support_set"]]
    assert [entry["batch_norm"] for entry in found] == ["transductive"] * 4 + ["support_statistics", "running"]
    assert [entry["transductive"] for entry in found] == [True] * 4 + [False] * 2
    answers = [entry["confusion"] for entry in found]
    assert answers[0] == answers[1] and found[0]["settings"] == found[1]["settings"]
    for other in range(2, 6):
        assert answers[other] != answers[0]
    assert [entry["settings"]["steps"] for entry in found[:3]] == [1, 1, 4]


@pytest.mark.parametrize(("wanted", "count"), [(True, 1), (False, 0)])
def test_training_without_onednn_says_so(
    wanted: bool,
    count: int,
    tiny_tree: Callable[[], Tree],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    monkeypatch.setattr(pipeline, "problem", lambda: "this Paddle ships none")
    monkeypatch.setattr("ppfsl.onednn.available", lambda: False)
    pipeline.run(configured({**tiny_tree(), "onednn": wanted}, tmp_path), "tiny")
    said = capsys.readouterr().err
    assert said.count("warning: training goes without oneDNN, more slowly: this Paddle ships none\n") == count


@pytest.mark.parametrize("wanted", [True, False])
def test_training_and_adapting_use_onednn_where_it_is_wanted(
    method_tree: Callable[[str], Tree], tmp_path: Path, wanted: bool, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    here = {"where": "training"}
    own, evaluate = native.convolution, results.evaluate
    monkeypatch.setattr(native, "convolution", lambda *arguments: used.append(here["where"]) or own(*arguments))

    def evaluated(*arguments: Any, **further: Any) -> Any:
        here["where"] = "evaluation"
        return evaluate(*arguments, **further)

    monkeypatch.setattr(results, "evaluate", evaluated)
    pipeline.run(configured({**method_tree("maml, first order"), "onednn": wanted}, tmp_path), "tiny")
    assert set(used) == ({"training", "evaluation"} if wanted else set())


def test_an_adaptation_without_its_objective_is_refused(method_tree: Callable[[str], Tree], tmp_path: Path) -> None:
    tree = {**method_tree("prototypical"), "adaptations": [{"name": "relation"}]}
    with pytest.raises(UserError) as caught:
        configured(tree, tmp_path / "run")
    assert str(caught.value) == (
        "a test: adaptation relation needs what the objective relation learns; make that the last stage of pretrain"
    )


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"way": 7}, "1_relation: 7-way episodes need 7 classes, but there are 6 base classes; lower objective.way"),
        (
            {"shot": 6},
            "1_relation: a base class has 8 images, but 6 shots and 3 queries need 9; lower objective.shot or",
        ),
    ],
)
def test_episodes_that_the_base_classes_cannot_serve_are_refused_before_anything_is_written(
    method_tree: Callable[[str], Tree], tmp_path: Path, keys: Tree, words: str
) -> None:
    tree = method_tree("relation")
    tree["pretrain"][0]["objective"] = {**tree["pretrain"][0]["objective"], **keys}
    with pytest.raises(UserError) as caught:
        pipeline.run(configured(tree, tmp_path / "run"), "tiny")
    assert str(caught.value).startswith(words)
    assert not (tmp_path / "run").exists()


def test_results_depend_on_what_the_method_learned_beside_the_embedder(
    method_tree: Callable[[str], Tree], tmp_path: Path, quiet: None, evaluated: list[str]
) -> None:
    """Two modules on one embedder, which `trainable: head` leaves as it was built."""
    results_found, weights = [], []
    for rate in (0.01, 0.02):
        tree = method_tree("relation")
        tree["pretrain"][0] |= {"trainable": "head", "optimizer": {"lr": rate}}
        tree["adaptations"].append({"name": "class_mean"})
        run = tmp_path / str(rate)
        if results_found:  # rows of the other module, which must not be taken for this one's
            write_text(run / "result.json", json.dumps(results_found[0]))
        pipeline.run(configured(tree, run), "tiny")
        results_found.append(result_of(run))
        weights.append(load_checkpoint(run / "checkpoints" / "best.safetensors"))
    embedder = pipeline.build_embedder(pipeline.architecture_of(configured(tree, run)), 0)
    for name, tensor in embedder.state_dict().items():
        for found in weights:
            np.testing.assert_array_equal(found.weights[name], tensor.numpy())
    assert not np.array_equal(*(found.layer_weights["second.weight"] for found in weights))
    assert len(evaluated) == 2 * 2 * 3
    class_means = [[row["accuracy"] for row in result["evaluations"][3:]] for result in results_found]
    assert class_means[0] == class_means[1]


@pytest.mark.slow
@pytest.mark.real_data
def test_one_step_on_the_real_flowers_with_both_splits(
    tmp_path: Path, image_cache: Path, departures: Callable[[Path], list[str]]
) -> None:
    if "PPFSL_DATA" not in os.environ:
        pytest.skip("PPFSL_DATA is not set, so there are no photographs")
    for split, novel, train in (("metadataset", 16, 71), ("fsl_ssl", 25, 51)):
        tree: Tree = {
            "data": {"name": "flowers102", "split": split, "image_size": 16, "cache_dir": str(image_cache)},
            "backbone": {"name": "conv4", "width": 4, "projection": 6},
            "pretrain": [{"objective": {"name": "cross_entropy", "batch_size": 8}, "epochs": 1, "steps_per_epoch": 1}],
            "validation": {"episodes": 2},
            "evaluation": {"episodes": 40},
        }
        run = pipeline.run(configured(tree, tmp_path / split), f"flowers102/{split}")
        assert departures(run) == []
        result = result_of(run)
        assert (result["dataset"], result["split"], result["name"]) == ("flowers102", split, f"flowers102/{split}")
        labels = {row["label"] for row in result["evaluations"][0]["per_class"]}
        parts = load_split("flowers102", split)
        assert labels <= set(parts.novel.classes)
        assert (len(labels), len(parts.base.classes)) == (novel, train)
        last = load_checkpoint(run / "checkpoints" / "last.safetensors")
        assert (last.facts["trained_on"]["data.split"], last.facts["progress"]["steps"]) == (split, 1)


def test_every_way_is_evaluated_with_every_number_of_shots(
    tiny_tree: Callable[[], Tree], tmp_path: Path, quiet: None, evaluated: list[str]
) -> None:
    tree = changed(tiny_tree(), "evaluation.way", [2, 3])
    folder = pipeline.run(configured(tree, tmp_path / "run"), "tiny")
    assert evaluated == [
        *(f"class_mean, {way}-way {shot}-shot" for way in (2, 3) for shot in (1, 5)),
        "class_mean, support set",
    ]
    rows = result_of(folder)["evaluations"]
    assert [(row["way"], row["shot"], row["chance"]) for row in rows] == [
        *((way, shot, 1 / way) for way in (2, 3) for shot in (1, 5)),
        (2, 5, 1 / 2),
    ]
    alone = pipeline.run(configured(changed(tiny_tree(), "evaluation.way", 2), tmp_path / "alone"), "tiny")
    assert [row["episode_correct"] for row in result_of(alone)["evaluations"]][:2] == [
        row["episode_correct"] for row in rows[:2]
    ]
