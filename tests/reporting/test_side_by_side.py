"""Runs side by side: which evaluations are compared, and what their differences are."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppfsl.errors import UserError
from ppfsl.files import write_json
from ppfsl.reporting.side_by_side import compare_runs, print_tasks, to_markdown

Result = dict[str, Any]
CORRECT = {"a": [70, 60, 75, 66], "b": [72, 61, 73, 70]}


def evaluation(correct: list[int], **changes: Any) -> Result:
    accuracies = np.array(correct) / 75
    return {
        **{"part": "novel", "way": 5, "shot": 1, "query": 15, "episodes": len(correct), "seed": 0},
        **{"support_set": False, "adaptation": "class_mean", "transductive": False, "batch_norm": "eval"},
        **{"accuracy": float(accuracies.mean()), "ci95": float(1.96 * accuracies.std() / 2)},
        "episode_correct": correct,
        **changes,
    }


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, *evaluations: Result, **changes: Any) -> Path:
        result = {"dataset": "flowers102", "split": "metadataset", "evaluations": list(evaluations), **changes}
        (tmp_path / name).mkdir(parents=True)
        write_json(tmp_path / name / "result.json", result)
        return tmp_path / name

    return write


def test_the_difference_is_paired(run: Callable[..., Path]) -> None:
    folders = [run(name, evaluation(correct)) for name, correct in CORRECT.items()]
    (task,) = compare_runs(folders)
    assert compare_runs([folder / "result.json" for folder in folders]) == [task]
    first, second = task.entries
    assert (first.run, second.run) == ("a", "b")
    assert first.difference is None and first.difference_ci95 is None
    by_hand = [(b - a) / 75 for a, b in zip(*CORRECT.values(), strict=True)]
    mean = sum(by_hand) / 4
    assert second.difference == pytest.approx(mean)
    assert second.difference_ci95 == pytest.approx(1.96 * (sum((d - mean) ** 2 for d in by_hand) / 4 / 4) ** 0.5)
    assert (second.accuracy, second.kind) == (pytest.approx(276 / 300), "inductive")


@pytest.mark.parametrize(
    "change",
    [{"part": "validation"}, {"way": 20}, {"shot": 5}, {"query": 10}, {"seed": 1}, {"support_set": True}],
)
def test_other_questions_are_not_compared(change: Result, run: Callable[..., Path]) -> None:
    runs = [run("a", evaluation(CORRECT["a"])), run("b", evaluation(CORRECT["b"], **change))]
    with pytest.raises(UserError, match=r"^the evaluations of a, b have no episodes in common; evaluate them on"):
        compare_runs(runs)


@pytest.mark.parametrize("change", [{"dataset": "omniglot"}, {"split": "fsl_ssl"}])
def test_other_data_are_not_compared(change: Result, run: Callable[..., Path]) -> None:
    runs = [run("a", evaluation(CORRECT["a"])), run("b", evaluation(CORRECT["b"]), **change)]
    with pytest.raises(UserError, match="no episodes in common"):
        compare_runs(runs)


def test_splits_with_the_same_novel_classes_are_compared(run: Callable[..., Path]) -> None:
    said = {"dataset": "omniglot", "split": "vinyals"}
    runs = [run("a", evaluation(CORRECT["a"]), **said)]
    runs.append(run("b", evaluation(CORRECT["b"]), **{**said, "split": "vinyals_trainval"}))
    (task,) = compare_runs(runs)
    assert task.title.startswith("omniglot, split vinyals and vinyals_trainval, novel classes, ")
    assert task.facts["split"] == "vinyals" and len(task.entries) == 2


def test_other_pictures_under_one_name_are_not_compared(run: Callable[..., Path]) -> None:
    runs = [run(name, evaluation(correct), pictures=name) for name, correct in CORRECT.items()]
    with pytest.raises(UserError, match="no episodes in common"):
        compare_runs(runs)


def test_what_is_shared_is_compared_task_by_task(run: Callable[..., Path]) -> None:
    five = {"shot": 5}
    first = run("a", evaluation(CORRECT["a"]), evaluation(CORRECT["b"], **five), evaluation(CORRECT["a"], way=3))
    second = run("b", evaluation(CORRECT["b"], **five), evaluation(CORRECT["a"], adaptation="finetune"))
    tasks = compare_runs([first, second])
    assert [(task.facts["shot"], [(e.run, e.adaptation) for e in task.entries]) for task in tasks] == [
        (1, [("a", "class_mean"), ("b", "finetune")]),
        (5, [("a", "class_mean"), ("b", "class_mean")]),
    ]
    assert tasks[0].title == (
        "flowers102, split metadataset, novel classes, 5-way 1-shot, 15 queries a class, 4 episodes of seed 0"
    )


def test_a_support_set_has_no_interval(run: Callable[..., Path]) -> None:
    alone = {"support_set": True, "ci95": 0.0}
    runs = [run(name, evaluation([correct[0]], **alone)) for name, correct in CORRECT.items()]
    (task,) = compare_runs(runs)
    assert task.title.endswith("15 queries a class, one support set")
    assert [entry.difference for entry in task.entries] == [None, None]
    assert "±" not in to_markdown([task])


def test_runs_are_called_by_as_much_of_their_paths_as_differs(run: Callable[..., Path]) -> None:
    runs = [run(name, evaluation(CORRECT["a"])) for name in ("one/seed0", "two/seed0", "two/seed1")]
    (task,) = compare_runs(runs)
    assert [entry.run for entry in task.entries] == ["one/seed0", "two/seed0", "two/seed1"]
    (task,) = compare_runs([runs[0], runs[2]])
    assert [entry.run for entry in task.entries] == ["seed0", "seed1"]
    (task,) = compare_runs([runs[0], runs[0]])
    assert task.entries[1].difference == 0


def test_tables_say_the_same(run: Callable[..., Path]) -> None:
    tasks = compare_runs([run(name, evaluation(correct)) for name, correct in CORRECT.items()])
    stream = io.StringIO()
    print_tasks(tasks, stream)
    (_, second) = tasks[0].entries
    assert second.difference is not None and second.difference_ci95 is not None
    for text in (stream.getvalue(), to_markdown(tasks)):
        assert tasks[0].title in text
        assert "90.33 ± 7.18" in text and "92.00 ± 6.20" in text
        assert f"{100 * second.difference:+.2f} ± {100 * second.difference_ci95:.2f}" in text


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda result: result.pop("dataset"), "dataset: field required; remove it and run"),
        (lambda result: result["evaluations"][0].pop("episode_correct"), r"evaluations\.0\.episode_correct: field req"),
        (lambda result: result["evaluations"][0]["episode_correct"].pop(), r"evaluations\.0 has 3 of 4 episodes; rem"),
        (lambda result: result.update(evaluations=3), "evaluations: input should be a valid list; remove it and run"),
    ],
)
def test_a_damaged_result_is_named(spoil: Callable[[Result], Any], complaint: str, run: Callable[..., Path]) -> None:
    folder = run("a", evaluation(CORRECT["a"]))
    result = json.loads((folder / "result.json").read_text())
    spoil(result)
    write_json(folder / "result.json", result)
    with pytest.raises(UserError, match=complaint) as caught:
        compare_runs([folder, folder])
    assert str(folder) in str(caught.value)


def test_a_missing_result_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no file .*result\.json"):
        compare_runs([tmp_path, tmp_path])


def test_a_run_that_meets_no_other_is_named(run: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    several = [evaluation(CORRECT["a"]), evaluation(CORRECT["b"], adaptation="finetune")]
    a, b = run("a", *several), run("b", *several)
    stranger = run("stranger", *several, dataset="omniglot")
    (task,) = compare_runs([a, b])
    assert capsys.readouterr().err == ""
    shared, _ = compare_runs([a, b, stranger])
    assert shared.entries == task.entries
    said = "warning: stranger posed no episodes that another of these runs did, and can be compared with none\n"
    assert capsys.readouterr().err == said
    with pytest.raises(UserError, match="a, stranger have no episodes in common"):
        compare_runs([a, stranger])
    assert len(compare_runs([stranger])) == 1, "a run's own adaptations compare with one another"
