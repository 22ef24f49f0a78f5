"""Every method that is trained is scored alike by its run, by the tool and by a second run."""

import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from ppfsl import pipeline
from ppfsl.files import write_text
from ppfsl.training.checkpoint import load_checkpoint
from tests.pipeline.methods.trained import BATCH_NORM, LAYERS, METHODS
from tests.pipeline.runs import Tree, changed, configured, result_of, timeless


def evaluate_with_tool(tree: Tree, checkpoint: Path, folder: Path) -> Tree:
    """What `tools/eval.py` finds, called as from the command line, in that folder."""
    folder.mkdir()
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    tool = Path(__file__).parents[3] / "tools" / "eval.py"
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
    assert found.pop("checkpoint")["file"] == f"{folder.name}/checkpoints/best.safetensors"
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
