"""A checkpoint that is given to be evaluated: where its results go, whose they are, and whose they must not replace."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ppfsl import pipeline
from ppfsl.config import Config
from ppfsl.errors import UserError
from ppfsl.files import write_json
from ppfsl.training.checkpoint import load_checkpoint
from tests.pipeline.runs import Tree, changed, configured, contents, result_of, timeless


@pytest.fixture(scope="module")
def runs(tiny_tree: Callable[[], Tree], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs that differ in the seed, `two` and `two_s1`; to be read only."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "show_run", lambda *_: None)
        for name, seed in (("two", 0), ("two_s1", 1)):
            pipeline.run(configured({**tiny_tree(), "seed": seed}, folder / name), "two")
    return folder


@pytest.fixture
def own(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of these."""
    monkeypatch.setattr(pipeline, "show_run", lambda *_: None)
    return Path(shutil.copytree(runs, tmp_path / "runs"))


@pytest.fixture
def config(tiny_tree: Callable[[], Tree], own: Path) -> Config:
    """Of the run of seed 0."""
    return configured(tiny_tree(), own / "two")


def evaluate(config: Config, checkpoint: Path, folder: Path | None = None) -> Path:
    if folder is not None:
        config = config.model_copy(update={"output_dir": str(folder)})
    return pipeline.run(config, "two", checkpoint)


def best_of(run: Path) -> Path:
    return run / "checkpoints" / "best.safetensors"


def test_results_stand_with_the_run_whose_checkpoint_it_is(config: Config, own: Path) -> None:
    folders = [evaluate(config, best_of(own / name)) for name in ("two", "two_s1")]
    assert folders == [own / "two" / "eval_best", own / "two_s1" / "eval_best"]
    for folder, seed in zip(folders, (0, 1), strict=True):
        found, trained = result_of(folder), result_of(folder.parent)
        assert found["seed"] == trained["seed"] == seed
        assert found["checkpoint"]["file"] == f"{folder.parent.name}/checkpoints/best.safetensors"
        assert "checkpoint" not in trained
        assert [row["accuracy"] for row in found["evaluations"]] == [row["accuracy"] for row in trained["evaluations"]]
    first, second = (result_of(folder)["checkpoint"]["weights_sha256"] for folder in folders)
    assert first != second and len(first) == 64


def test_what_adaptations_leave_open_is_as_in_the_training_of_the_checkpoint(
    tiny_tree: Callable[[], Tree], own: Path
) -> None:
    objective = {"name": "prototypical", "way": 2, "shot": 1, "query": 2}
    stage = {"objective": objective, "epochs": 1, "steps_per_epoch": 1}
    tree = {**tiny_tree(), "pretrain": [stage], "adaptations": [{"name": "prototypical"}]}
    run = pipeline.run(configured(changed(tree, "pretrain.0.objective.temperature", 4.0), own / "four"), "two")
    for given, expected in ({}, 4.0), ({"temperature": 2.0}, 2.0):
        asked = {**tree, "adaptations": [{"name": "prototypical", **given}]}
        folder = evaluate(configured(asked, own / f"of_{expected}"), run)
        assert result_of(folder)["evaluations"][0]["settings"]["temperature"] == expected


def test_answers_that_are_not_finite_are_no_result(tiny_tree: Callable[[], Tree], own: Path) -> None:
    objective = {"name": "maml", "way": 3, "shot": 1, "query": 2}
    stage = {"objective": objective, "epochs": 1, "steps_per_epoch": 1}
    validation = {"way": 3, "query": 2, "episodes": 2}
    tree = {**tiny_tree(), "pretrain": [stage], "validation": validation, "adaptations": [{"name": "maml"}]}
    asked = changed(tree, "adaptations", [{"name": "class_mean"}, {"name": "maml", "lr": 1e30}])
    run = pipeline.run(configured(tree, own / "maml"), "two")
    with pytest.raises(UserError) as caught:
        evaluate(configured(asked, own / "apart"), run)
    assert re.fullmatch(
        r"maml, 3-way 1-shot: \d+ of \d+ answers are not finite; lower the adaptation's lr or steps", str(caught.value)
    )
    assert {row["adaptation"] for row in result_of(own / "apart")["evaluations"]} == {"class_mean"}


def test_an_evaluation_tells_by_which_seed_adaptations_drew(config: Config, own: Path) -> None:
    found = result_of(evaluate(config.model_copy(update={"seed": 5}), own / "two_s1"))
    assert (found["seed"], found["adaptation_seed"]) == (1, 5)
    found = result_of(own / "two_s1")
    assert (found["seed"], found["adaptation_seed"]) == (1, 1)


def test_a_file_that_has_left_its_run_is_called_by_its_name(config: Config, own: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copy(best_of(own / "two_s1"), tmp_path / "moved.safetensors"))
    folder = evaluate(config, moved)
    assert folder == own / "two" / "eval_moved"
    assert result_of(folder)["checkpoint"]["file"] == "moved.safetensors"


def test_the_folder_of_a_run_stands_for_its_best_weights(config: Config, own: Path) -> None:
    by_file = timeless(result_of(evaluate(config, best_of(own / "two_s1"))))
    shutil.rmtree(own / "two_s1" / "eval_best")
    assert timeless(result_of(evaluate(config, own / "two_s1"))) == by_file


def test_results_of_other_weights_are_not_replaced(config: Config, own: Path, tmp_path: Path) -> None:
    folder = evaluate(config, best_of(own / "two"), tmp_path / "evaluated")
    before = contents(folder)
    with pytest.raises(UserError) as caught:
        evaluate(config, best_of(own / "two_s1"), folder)
    assert str(caught.value) == (
        f"{folder} holds the results of other weights, those that two/checkpoints/best.safetensors had then; "
        "choose another output_dir, or remove that folder"
    )
    assert contents(folder) == before
    with pytest.raises(UserError, match="holds the results of other weights, those that two/checkpoints/best"):
        pipeline.run(config.model_copy(update={"output_dir": str(folder)}), "two")
    assert contents(folder) == before


def test_results_on_other_pictures_are_not_replaced(config: Config, own: Path) -> None:
    folder = evaluate(config, best_of(own / "two"))
    before = contents(folder)
    asked = config.evaluation.model_copy(update={"part": "validation"})
    with pytest.raises(UserError) as caught:
        evaluate(config.model_copy(update={"evaluation": asked}), best_of(own / "two"))
    data = result_of(folder)
    assert str(caught.value) == (
        f"{folder} holds results on other pictures: novel classes of {data['dataset']}, split {data['split']}; "
        "choose another output_dir, or remove that folder"
    )
    assert contents(folder) == before
    more = config.evaluation.model_copy(update={"episodes": config.evaluation.episodes + 1})
    evaluate(config.model_copy(update={"evaluation": more}), best_of(own / "two"))  # other episodes replace the old
    assert result_of(folder)["evaluations"][0]["episodes"] == config.evaluation.episodes + 1


def test_a_run_may_ask_of_other_pictures_anew(config: Config, own: Path) -> None:
    asked = config.evaluation.model_copy(update={"part": "validation"})
    pipeline.run(config.model_copy(update={"evaluation": asked}), "two")
    assert {row["part"] for row in result_of(own / "two")["evaluations"]} == {"validation"}


def test_the_same_weights_in_another_file_are_the_same(config: Config, own: Path, tmp_path: Path) -> None:
    folder = evaluate(config, best_of(own / "two"), tmp_path / "evaluated")
    last = own / "two" / "checkpoints" / "last.safetensors"
    before = result_of(folder)["checkpoint"]
    finishing = {"embedding": config.embedding.model_copy(update={"mirror": True, "center": "base"})}
    evaluate(config.model_copy(update=finishing), last, folder)
    assert result_of(folder)["checkpoint"] == {**before, "file": "two/checkpoints/last.safetensors"}
    pipeline.run(config.model_copy(update=finishing), "two")  # which finishes the best weights otherwise
    evaluate(config, best_of(own / "two"), folder)
    assert result_of(folder)["checkpoint"] == before


def test_results_that_do_not_tell_whose_they_are_are_not_refused(config: Config, own: Path, tmp_path: Path) -> None:
    folder = evaluate(config, best_of(own / "two"), tmp_path / "evaluated")
    older = {key: value for key, value in result_of(folder).items() if key != "checkpoint"}
    write_json(folder / "result.json", older)
    evaluate(config, best_of(own / "two_s1"), folder)
    assert result_of(folder)["checkpoint"]["file"] == "two_s1/checkpoints/best.safetensors"


def test_a_run_that_lacks_its_best_weights_is_named_and_makes_them_again(config: Config, own: Path) -> None:
    best = best_of(own / "two")
    weights = load_checkpoint(best).weights
    best.unlink()
    with pytest.raises(UserError) as caught:
        evaluate(config, own / "two")
    assert str(caught.value) == (
        f"{own / 'two'} holds no trained embedder ({best} is missing); name the folder of a finished run, or run its "
        "configuration again, which makes what is missing"
    )
    pipeline.run(config, "two")
    again = load_checkpoint(best).weights
    assert again.keys() == weights.keys()
    assert all(np.array_equal(again[name], value) for name, value in weights.items())
