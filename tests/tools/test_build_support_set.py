"""tools/build_support_set.py: a k-way n-shot support set and its query list as a file."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ppfsl.data.support_set import load_support_set

Tree = dict[str, Any]
TOOL = Path(__file__).parents[2] / "tools" / "build_support_set.py"


def build(tree: Tree, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (cwd / "tiny.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    command = [sys.executable, str(TOOL), "-c", "tiny.yaml", *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "PPFSL_DATA"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture
def tree(tiny_tree: Callable[[], Tree], tmp_path: Path) -> Tree:
    """The configuration with a split of its own, so that the novel classes are known."""
    split = tmp_path / "own.json"
    split.write_text('{"base": [1, 2, 3], "validation": [4, 5], "novel": [6, 7, 8, 9, 10, 11, 12]}', encoding="utf-8")
    tree = tiny_tree()
    tree["data"]["split"] = "own.json"
    return tree


def test_the_file_holds_what_was_asked_for(tree: Tree, tmp_path: Path, photographs: Path) -> None:
    wanted = [f"evaluation.support_set.{key}" for key in ("way=5", "shot=2", "query=3", "seed=7")]
    done = build(tree, tmp_path, "--output", "folder/set.json", *(part for key in wanted for part in ("-o", key)))
    assert done.returncode == 0, done.stderr
    value = json.loads((tmp_path / "folder" / "set.json").read_text(encoding="utf-8"))
    assert {key: value[key] for key in ("schema", "dataset", "split", "part", "seed", "way", "shot")} == {
        "schema": 1, "dataset": "folder", "split": "own", "part": "novel", "seed": 7, "way": 5, "shot": 2,
    }  # fmt: skip
    labels = [row["label"] for row in value["classes"]]
    assert len(set(labels)) == 5
    assert set(labels) <= set(range(6, 13))
    assert [row["name"] for row in value["classes"]] == [f"class{label - 1:02d}" for label in labels]
    assert [row["label"] for row in value["support"]] == [label for label in labels for _ in range(2)]
    assert [row["label"] for row in value["query"]] == [label for label in labels for _ in range(3)]
    files = [row["file"] for row in value["support"] + value["query"]]
    assert len(set(files)) == 25, "support and query overlap"
    for row in value["support"] + value["query"]:
        assert (photographs / row["file"]).is_file()
        assert row["file"].startswith(f"class{row['label'] - 1:02d}/")
    (line,) = done.stdout.splitlines()
    assert line.startswith("folder/set.json: 5-way 2-shot, 15 queries: ")
    assert all(f"{row['label']} {row['name']}" in line for row in value["classes"])
    assert load_support_set(tmp_path / "folder" / "set.json").to_json() == value


def test_it_is_drawn_by_its_seed(tree: Tree, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        done = build(tree, tmp_path, "--output", f"{name}.json", "-o", f"evaluation.support_set.seed={seed}")
        assert done.returncode == 0, done.stderr
    a, b, c = ((tmp_path / f"{name}.json").read_bytes() for name in "abc")
    assert a == b
    assert json.loads(a)["support"] != json.loads(c)["support"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json", "c.json", "own.json", "tiny.yaml"]


def test_listed_classes_keep_their_order_and_the_defaults_are_those_of_the_evaluation(
    tree: Tree, tmp_path: Path
) -> None:
    done = build(tree, tmp_path, "--output", "set.json", "-o", "evaluation.support_set.classes=[12,6,9]")
    assert done.returncode == 0, done.stderr
    support_set = load_support_set(tmp_path / "set.json")
    assert support_set.classes == ((12, "class11"), (6, "class05"), (9, "class08"))
    assert (support_set.way, support_set.shot, len(support_set.query)) == (3, 5, 12)


def test_what_the_data_cannot_serve_is_refused(tree: Tree, tmp_path: Path) -> None:
    done = build(tree, tmp_path, "--output", "set.json", "-o", "evaluation.support_set.classes=[1,6]")
    assert done.returncode == 2
    assert done.stderr == "error: evaluation.support_set.classes: class 1 is not among the novel classes of own\n"
    assert done.stdout == ""
    assert not (tmp_path / "set.json").exists()


def test_files_of_other_kinds_are_not_replaced_and_support_sets_are(tree: Tree, tmp_path: Path) -> None:
    for name in ("tiny.yaml", "own.json"):
        done = build(tree, tmp_path, "--output", name)
        expected = f"error: cannot write {name}: it exists and is no support set; choose another name\n"
        assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)
    assert "novel" in json.loads((tmp_path / "own.json").read_text(encoding="utf-8"))
    for way in (2, 3):
        done = build(tree, tmp_path, "--output", "set.json", "-o", f"evaluation.support_set.way={way}")
        assert done.returncode == 0, done.stderr
    assert load_support_set(tmp_path / "set.json").way == 3


def test_a_run_draws_the_same_support_set(tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ppfsl import pipeline
    from ppfsl.config_file import load_config

    assert build(tree, tmp_path, "--output", "set.json").returncode == 0
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "show_run", lambda *_: None)
    pipeline.run(load_config(Path("tiny.yaml"), ["pretrain=[]", "output_dir=run"]), "tiny")
    assert (tmp_path / "run" / "support_set.json").read_bytes() == (tmp_path / "set.json").read_bytes()
