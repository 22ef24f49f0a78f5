"""Rows that repeat another row with another seed: they have no line of their own, but show there how seeds differ."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ppfsl.errors import UserError
from ppfsl.reporting.pairing import Evaluation, same_questions
from ppfsl.reporting.rows import Row

_SAME = ("dataset", "split", "backbone", "image_size", "pretrained", "stages", "embedding")
"""What a run has in common with the one that it repeats."""


def check_repeats(rows: Sequence[Row]) -> None:
    """Raise where a repetition would be shown nowhere, or is none: its row repeats another one, is another run's, or
    has the same seed.
    """
    repeated = {folder: result for about, result, folder in rows if not about.repeats}
    seeds = {folder: {result["seed"]} for folder, result in repeated.items()}
    for about, result, folder in rows:
        if not about.repeats:
            continue
        path, seen = folder / "about.yaml", seeds.get(folder.parent / about.repeats)
        if seen is None:
            raise UserError(
                f"{path}: there is no row {about.repeats} that it could repeat and that repeats none itself; mend it"
            )
        if about.comparison:
            raise UserError(f"{path}: a row cannot both repeat {about.repeats} and be in a comparison; leave one out")
        first = repeated[folder.parent / about.repeats]
        for key in (key for key in _SAME if result.get(key) != first.get(key)):
            raise UserError(
                f"{path}: {about.repeats} has {key} {first.get(key)!r}, this row {result.get(key)!r}; a repetition "
                "differs in its seed alone"
            )
        if result["seed"] in seen:
            raise UserError(
                f"{path}: {about.repeats} or another run that repeats it has the seed {result['seed']} already; "
                "run it with another seed"
            )
        seen.add(result["seed"])


def repeats_of(folder: Path, rows: Sequence[Row]) -> list[Row]:
    """The rows that repeat a row with other seeds, by seed."""
    found = [row for row in rows if row[0].repeats and row[2].parent / row[0].repeats == folder]
    return sorted(found, key=lambda row: row[1]["seed"])


def seeds_of(result: dict[str, Any], repeats: Sequence[dict[str, Any]]) -> list[str]:
    """The seeds of a row's result.json and of those of its repetitions."""
    return [str(run["seed"]) for run in (result, *repeats)]


def spread(evaluation: Evaluation, repeats: Sequence[dict[str, Any]]) -> str:
    """Mean and standard deviation of an accuracy over the seeds, in per cent; empty where a run lacks it.

    Args:
        evaluation: of the row that is repeated.
        repeats: what the result.json of each repetition holds, one at least.
    """
    found = [
        other
        for run in repeats
        for other in run["evaluations"]
        if same_questions(other, evaluation)
        and all(other[key] == evaluation[key] for key in ("adaptation", "support_set"))
    ]
    if len(found) < len(repeats):
        return ""
    accuracies = [100 * other["accuracy"] for other in (evaluation, *found)]
    return f"{statistics.mean(accuracies):.2f} ({statistics.stdev(accuracies):.2f})"
