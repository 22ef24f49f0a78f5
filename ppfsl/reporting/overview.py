"""The table at the head of docs/results.md: a line for each of the rows that most readers look for.

`results/overview.yaml` names them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ppfsl.errors import UserError
from ppfsl.reporting import wording
from ppfsl.reporting.pairing import Evaluation
from ppfsl.reporting.phrases import Phrases
from ppfsl.reporting.rows import Comparison, Row, parse
from ppfsl.reporting.sections import link, shared_sections

FILE = "overview.yaml"
TASKS = ((5, 1), (5, 5))
"""Ways and shots of the columns."""


class Line(BaseModel):
    """A line of the table."""

    model_config = ConfigDict(extra="forbid")

    row: str
    """Its folder below results/."""
    adaptation: str
    title: str
    title_zh: str


class Overview(BaseModel):
    """What `results/overview.yaml` holds."""

    model_config = ConfigDict(extra="forbid")

    lines: list[Line]


def overview(
    results: Path, rows: Sequence[Row], comparisons: Sequence[tuple[Comparison, Sequence[Row]]], phrases: Phrases
) -> str:
    """The tables, inductive and transductive; empty where there is no such file.

    Args:
        results: folder of the rows.
        rows, comparisons: of the page, in the language of the phrases.
        phrases: the page's fixed words.

    Raises:
        UserError: when the file is malformed, or names a row, an adaptation or a task that there is not.
    """
    path = results / FILE
    if not path.is_file():
        return ""
    lines = parse(Overview, path).lines
    found = [(line, *_row_of(line, path, rows)) for line in lines]
    shared = shared_sections(comparisons)
    parts = []
    for kind in ("inductive", "transductive"):
        own = [(line, row, asked) for line, row, asked in found if wording.kind(asked[0]) == kind]
        if own:
            table = "\n".join(_table(own, shared, phrases))
            parts.append(f"**{phrases.value(kind)}**\n\n{table}\n")
    return "\n".join(parts)


def _row_of(line: Line, path: Path, rows: Sequence[Row]) -> tuple[Row, list[Evaluation]]:
    """The row that a line names, and its evaluation at each task."""
    row = next((row for row in rows if row[2] == path.parent / line.row and not row[0].repeats), None)
    if row is None:
        raise UserError(f"{path}: there is no row {line.row} that repeats none; mend it")
    own = [e for e in row[1]["evaluations"] if not e["support_set"] and wording.part(e) == "novel"]
    asked = []
    for task in TASKS:
        of_task = (e for e in own if (e["way"], e["shot"]) == task and e["adaptation"] == line.adaptation)
        evaluation = next(of_task, None)
        if evaluation is None:
            raise UserError(
                f"{path}: {line.row} has no {task[0]}-way {task[1]}-shot of {line.adaptation} on novel classes; mend it"
            )
        asked.append(evaluation)
    return row, asked


def _table(
    lines: Sequence[tuple[Line, Row, list[Evaluation]]], shared: dict[Path, str], phrases: Phrases
) -> Iterator[str]:
    """A line for each, with a link to the section that the row is in."""
    tasks = (f"{way}-way {shot}-shot" for way, shot in TASKS)
    yield from wording.table_head((*phrases.overview, *(name for task in tasks for name in (task, phrases.task[1]))))
    for line, (about, result, folder), asked in lines:
        section = shared.get(folder, about.title)
        cells = [cell for evaluation in asked for cell in wording.figures(evaluation, about.reported)]
        data = f"{result['dataset']} `{result['split']}`"
        yield f"| {link(section, getattr(line, 'title' + phrases.suffix))} | {data} | {' | '.join(cells)} |"
