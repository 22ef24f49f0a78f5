"""Runs side by side: their accuracies at each task, and paired differences on the same episodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from ppfsl.errors import UserError
from ppfsl.progress import warn
from ppfsl.reporting import wording
from ppfsl.reporting.pairing import QUESTIONS, Evaluation, paired_difference, same_pictures, same_questions
from ppfsl.reporting.terminal import console_of, text_of
from ppfsl.result_file import read_result

_TASK = (*QUESTIONS, "support_set")

Asked = tuple[str, dict[str, Any], Evaluation]
"""What a run is called, its result, one of its evaluations."""


@dataclass(frozen=True)
class Entry:
    """One adaptation of one run at a task; accuracies and differences are fractions.

    Attributes:
        run: what the run is called here: its folder, as short as keeps runs apart.
        adaptation: its name.
        kind: "inductive" or "transductive".
        accuracy, ci95: mean over episodes, and half its 95 % interval.
        difference, difference_ci95: to the task's first entry on the same episodes; None for that entry, and for
            single support sets, which have no interval.
    """

    run: str
    adaptation: str
    kind: str
    accuracy: float
    ci95: float
    difference: float | None
    difference_ci95: float | None


@dataclass(frozen=True)
class Task:
    """The same questions, asked of several.

    Attributes:
        title: in words.
        facts: data set, split (of the first run), part, way, shot, query, episodes, seed, support_set.
        entries: in the order of the runs.
    """

    title: str
    facts: dict[str, Any]
    entries: tuple[Entry, ...]


def compare_runs(folders: Sequence[Path]) -> list[Task]:
    """The tasks that any two of the runs' evaluations share.

    Args:
        folders: run directories, folders of rows below `results/`, or the result.json of such; the first is what
            others are compared with.

    Raises:
        UserError: when a folder has no readable result, or no two evaluations posed the same episodes.
    """
    folders = [folder.parent if folder.name == "result.json" else folder for folder in folders]
    names = _short([folder.resolve() for folder in folders])
    groups: list[list[Asked]] = []
    posers: list[set[int]] = []  # which of the runs
    for run, (name, folder) in enumerate(zip(names, folders, strict=True)):
        result = read_result(folder / "result.json")
        for evaluation in result["evaluations"]:
            asked = name, result, evaluation
            place = next((place for place, group in enumerate(groups) if _same_task(group[0], asked)), len(groups))
            if place == len(groups):
                groups.append([])
                posers.append(set())
            groups[place].append(asked)
            posers[place].add(run)
    tasks = [_task(group) for group in groups if len(group) > 1]
    met = {run for runs in posers if len(runs) > 1 for run in runs}
    alone = [name for run, name in enumerate(names) if run not in met]
    if not tasks or (len(names) > 1 and not met):
        raise UserError(
            f"the evaluations of {', '.join(names)} have no episodes in common; evaluate them on the same data, "
            "split, part, way, shot, query, episodes and seed"
        )
    if met and alone:
        warn(f"{', '.join(alone)} posed no episodes that another of these runs did, and can be compared with none")
    return tasks


def print_tasks(tasks: Sequence[Task], stream: TextIO) -> None:
    """A table per task."""
    from rich.table import Table

    console = console_of(stream)
    for task in tasks:
        console.print(text_of(console, task.title, "bold"), soft_wrap=True)
        table = Table(box=None, pad_edge=False)
        for title in ("run", "adaptation", "", "accuracy, %", "difference, points"):
            table.add_column(title, justify="right" if "," in title else "left", overflow="fold")
        for entry in task.entries:
            cells = (entry.run, entry.adaptation, entry.kind, _percent(entry.accuracy, entry.ci95), _points(entry))
            table.add_row(*(text_of(console, cell) for cell in cells))
        console.print(table)


def to_markdown(tasks: Sequence[Task]) -> str:
    """The same as Markdown."""
    parts = []
    for task in tasks:
        rows = [
            f"| {entry.run} | {entry.adaptation} | {entry.kind} | {_percent(entry.accuracy, entry.ci95)} "
            f"| {_points(entry)} |"
            for entry in task.entries
        ]
        head = "| run | adaptation | | accuracy, % | difference, points |\n|---|---|---|---|---|"
        parts.append("\n".join([f"**{task.title}**\n", head, *rows]))
    return "\n\n".join(parts) + "\n"


def _same_task(asked: Asked, other: Asked) -> bool:
    (_, result, evaluation), (_, second, again) = asked, other
    same = same_questions(evaluation, again) and evaluation["support_set"] == again["support_set"]
    return same and same_pictures(result, second, evaluation["part"])


def _task(group: Sequence[Asked]) -> Task:
    _, first, reference = group[0]
    facts = {"dataset": first["dataset"], "split": first["split"], **{fact: reference[fact] for fact in _TASK}}
    splits = " and ".join(dict.fromkeys(str(result["split"]) for _, result, _ in group))
    entries = []
    for name, _, evaluation in group:
        paired = evaluation is not reference and not facts["support_set"]
        difference, interval = paired_difference(evaluation, reference) if paired else (None, None)
        entries.append(
            Entry(
                run=name,
                adaptation=wording.adaptation(evaluation),
                kind=wording.kind(evaluation),
                accuracy=evaluation["accuracy"],
                ci95=evaluation["ci95"],
                difference=difference,
                difference_ci95=interval,
            )
        )
    what = "one support set" if facts["support_set"] else f"{facts['episodes']} episodes of seed {facts['seed']}"
    title = (
        f"{facts['dataset']}, split {splits}, {facts['part']} classes, "
        f"{facts['way']}-way {facts['shot']}-shot, {facts['query']} queries a class, {what}"
    )
    return Task(title, facts, tuple(entries))


def _short(folders: Sequence[Path]) -> list[str]:
    """The ends of paths, as short as keeps different ones apart; a folder that comes twice has one name twice."""
    for length in range(1, max(len(folder.parts) for folder in folders) + 1):
        names = ["/".join(folder.parts[-length:]) for folder in folders]
        if len(set(names)) == len(set(folders)):
            break
    return names


def _percent(accuracy: float, ci95: float) -> str:
    return f"{100 * accuracy:.2f}" + (f" ± {100 * ci95:.2f}" if ci95 else "")


def _points(entry: Entry) -> str:
    if entry.difference is None or entry.difference_ci95 is None:
        return ""
    return f"{100 * entry.difference:+.2f} ± {100 * entry.difference_ci95:.2f}"
