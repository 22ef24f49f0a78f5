"""tools/eval.py: a checkpoint on the episodes of a configuration."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Tree = dict[str, Any]
TOOLS = Path(__file__).parents[2] / "tools"


def tool(name: str, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOLS / f"{name}.py"), "-c", "tiny.yaml", *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "PPFSL_DATA"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def place(tiny_tree: Callable[[], Tree], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration and, below `output`, its run."""
    folder = tmp_path_factory.mktemp("place")
    tree = tiny_tree()
    tree["pretrain"].append({"objective": {"name": "cosine", "triples": 4}, "epochs": 1})
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    done = tool("train", folder)
    assert done.returncode == 0, done.stderr
    return folder


def scores(folder: Path) -> list[Any]:
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return [{**entry, "seconds": 0} for entry in result["evaluations"]]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_the_best_checkpoint_scores_what_the_run_scored_and_the_run_stays_as_it_was(place: Path) -> None:
    run = place / "output" / "tiny"
    before = contents(run)
    done = tool("eval", place, "--checkpoint", "output/tiny/checkpoints/best.safetensors")
    assert done.returncode == 0, done.stderr
    assert contents(run) == before
    evaluated = run / "eval_best"
    assert scores(evaluated) == scores(run)
    assert {path.name for path in evaluated.iterdir()} == {
        "config.yaml", "support_set.json", "result.json", "report.html", "vdl", "pictures",
    }  # fmt: skip
    assert "report: output/tiny/eval_best/report.html" in done.stderr
    assert "class_mean" in done.stdout


@pytest.mark.parametrize("output_dir", ["output/tiny", "elsewhere"])
def test_other_episodes_go_beside_those_of_the_run(place: Path, output_dir: str) -> None:
    run = place / "output" / "tiny"
    before = contents(run)
    overrides = ["evaluation.part=validation", "evaluation.shot=2", "evaluation.episodes=7", f"output_dir={output_dir}"]
    arguments = [part for override in overrides for part in ("-o", override)]
    done = tool("eval", place, *arguments, "--checkpoint", "output/tiny/checkpoints/last.safetensors")
    assert done.returncode == 0, done.stderr
    assert contents(run) == before, "the results of the run were replaced"
    folder = place / (output_dir if output_dir == "elsewhere" else "output/tiny/eval_last")
    found = [(entry["part"], entry["shot"], entry["episodes"]) for entry in scores(folder)]
    assert found == [("validation", 2, 7), ("validation", 2, 1)]


def test_a_checkpoint_brings_its_own_architecture(place: Path) -> None:
    done = tool(
        "eval", place, "-o", "backbone={name: resnet18, projection: none}", "-o", "output_dir=other",
        "--checkpoint", "output/tiny/checkpoints/best.safetensors",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((place / "other" / "result.json").read_text(encoding="utf-8"))["backbone"] == "conv4"
    assert [entry["accuracy"] for entry in scores(place / "other")] == [
        entry["accuracy"] for entry in scores(place / "output" / "tiny")
    ]


def test_the_result_names_the_objectives_that_a_checkpoint_has_seen(place: Path) -> None:
    run = place / "output" / "tiny"
    names = json.loads((run / "result.json").read_text(encoding="utf-8"))["stages"]
    stages = sorted(path.name for path in (run / "checkpoints").glob("[0-9]_*.safetensors"))
    assert len(stages) == len(names) > 1
    done = tool("eval", place, "--checkpoint", f"output/tiny/checkpoints/{stages[0]}", "-o", "output_dir=first")
    assert done.returncode == 0, done.stderr
    assert json.loads((place / "first" / "result.json").read_text(encoding="utf-8"))["stages"] == names[:1]


def test_another_split_than_that_of_training_is_warned_of(place: Path) -> None:
    checkpoint = ("--checkpoint", "output/tiny/checkpoints/best.safetensors", "-o", "output_dir=other")
    assert "warning" not in tool("eval", place, *checkpoint).stderr
    done = tool("eval", place, *checkpoint[:2], "-o", "output_dir=third", "-o", "data.split_seed=3")
    assert done.returncode == 0, done.stderr
    assert "was trained with data.split_seed = 0, so it may have seen the novel classes" in done.stderr


def test_another_size_of_cached_images_than_that_of_training_is_warned_of(place: Path) -> None:
    done = tool(
        "eval", place, "--checkpoint", "output/tiny", "-o", "output_dir=cut", "-o", "data.cached_size=24"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "was trained on images cut from 16 px, this evaluation cuts them from 24; add -o data.cached" in done.stderr
