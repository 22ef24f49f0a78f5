"""What a whole run leaves, from a folder of pictures to the report: files, rows, numbers, and the same again."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import paddle
import pytest

from ppfsl import pipeline, questions
from ppfsl.config import Config
from ppfsl.config_file import load_config, run_folder
from ppfsl.data.class_split import load_split
from ppfsl.data.support_set import as_episode, load_support_set
from ppfsl.training.checkpoint import load_checkpoint, load_embedder
from tests.pipeline.runs import LABELS, Tree, changed, configured, result_of, timeless
from tests.real import real_data


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
    assert len(result["pictures"]) == 64
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
    one, five = (list(questions.episode_sampler(config, data, 3, shot).take(10)) for shot in (1, 5))
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
        episodes = [fixed] if shot is None else list(questions.episode_sampler(config, data, 3, shot).take(10))
        right = []
        for episode in episodes:
            means = np.stack([embeddings[images].mean(0) for images in episode.support])
            means /= np.linalg.norm(means, axis=1, keepdims=True)
            answers = (embeddings[episode.query] @ means.T).argmax(-1)
            right.append((answers == np.arange(3)[:, None]).mean())
        assert entry["accuracy"] == pytest.approx(np.mean(right), abs=1.5 / (len(episodes) * 12))
        assert entry["ci95"] == pytest.approx(1.96 * np.std(right) / np.sqrt(len(episodes)), abs=0.02)


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


def test_without_training_the_initial_weights_are_evaluated(
    tiny_tree: Callable[[], Tree], tmp_path: Path, departures: Callable[[Path], list[str]]
) -> None:
    config = configured({**tiny_tree(), "pretrain": []}, tmp_path / "run")
    pipeline.run(config, "tiny")
    assert departures(tmp_path / "run") == []
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == b""
    assert result_of(tmp_path / "run")["stages"] == []


def test_output_goes_below_output_unless_the_configuration_says_where() -> None:
    assert run_folder(Config(), "flowers102/article") == Path("output/flowers102/article")
    assert run_folder(Config(output_dir="here"), "flowers102/article") == Path("here")


@pytest.mark.slow
@pytest.mark.real_data
def test_one_step_on_the_real_flowers_with_both_splits(
    tmp_path: Path, image_cache: Path, departures: Callable[[Path], list[str]]
) -> None:
    real_data()
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
