"""Every method that is trained, from its objective to its rows, and by whom its checkpoints may be evaluated."""

import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ppfsl import pipeline, results
from ppfsl.errors import UserError
from ppfsl.files import write_text
from ppfsl.onednn import native
from ppfsl.training.checkpoint import load_checkpoint
from tests.pipeline.runs import Tree, changed, configured, result_of, timeless

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
    tool = Path(__file__).parents[2] / "tools" / "eval.py"
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


# --- oneDNN


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


# --- what is refused


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
