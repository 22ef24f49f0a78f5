"""docs/results.md from committed result files: no figure in its tables is typed by hand.

A row of results is a folder `results/<dataset>/<row>/` with the run's `result.json` and an `about.yaml` that says what
the result file cannot: title, order, command, machine, minutes, remark (Markdown), whether the class by class table of
the fixed support set is shown (`support_set: true`), and the comparison it belongs to, in place of a section of its own
(see `ppfsl.reporting.comparisons`), with the accuracies that its paper reports.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ppfsl.errors import UserError
from ppfsl.files import make_folder, read_json, write_json, write_text
from ppfsl.reporting import wording
from ppfsl.reporting.comparisons import Comparison, comparison_section
from ppfsl.reporting.pairing import Evaluation, paired_difference, same_questions

Model = TypeVar("Model", bound=BaseModel)

MOST_CLASSES_OF_A_MATRIX = 200

_HEAD = """# Results

Written by `python tools/make_tables.py` from the result files below `results/`; every section gives the command that
makes it again. Accuracies are in percent, ± half the 95 % interval over episodes (1.96 x standard deviation /
sqrt(episodes)), in percentage points. Inductive and transductive rows never share a table: a transductive method's
answers depend on the other unlabelled queries of an episode. "Against" is the mean difference to the section's first
row of the same task on the same episodes, with its paired 95 % interval; in tables of several runs, to the first run.
"Reported" is what the method's own paper has. Batch norm is in evaluation mode but where a row says otherwise.
Everything that was chosen was chosen on validation classes.
"""


class About(BaseModel):
    """What `about.yaml` holds."""

    model_config = ConfigDict(extra="forbid")

    order: int
    title: str
    command: str
    machine: str
    minutes: Annotated[float, Field(gt=0)]
    remark: str = ""
    support_set: bool = False
    comparison: str = ""
    reported: dict[str, float | str] = {}
    """Task, such as "5-way 1-shot" -> accuracy in per cent as its paper has it; shown in comparisons."""


def make_tables(results: Path, target: Path) -> int:
    """Write the page.

    Args:
        results: folder of the rows.
        target: the Markdown file.

    Returns:
        How many sections it has.

    Raises:
        UserError: when a row's folder lacks a file or holds a malformed one.
    """
    rows = sorted((_read(path.parent) for path in results.rglob("result.json")), key=lambda row: row[0].order)
    if not rows:
        raise UserError(f"there is no result.json below {results}; copy the ones to show there, with an about.yaml")
    sections = [(about.order, _section(about, result)) for about, result, _ in rows if not about.comparison]
    names = dict.fromkeys(folder.parent / about.comparison for about, _, folder in rows if about.comparison)
    for name in names:
        path = name.with_suffix(".yaml")
        comparison = _parse(Comparison, path)
        members = [row for row in rows if row[0].comparison and row[2].parent / row[0].comparison == name]
        try:
            sections.append((comparison.order, comparison_section(comparison, members)))
        except ValueError as error:
            raise UserError(f"{path}: {error}; mend it") from None
    sections.sort(key=lambda section: section[0])
    write_text(target, "\n".join([_HEAD, *(text for _, text in sections)]))
    return len(sections)


def add_row(run: Path, folder: Path) -> None:
    """Copy a run's result.json to a row's folder, without the confusion matrices of many classes, which are large.

    Raises:
        UserError: when the run has no result, or a damaged one.
    """
    result = read_json(run / "result.json")
    for evaluation in result["evaluations"]:
        if len(evaluation["per_class"]) > MOST_CLASSES_OF_A_MATRIX:
            del evaluation["confusion"]
    make_folder(folder)
    write_json(folder / "result.json", result)


def _read(folder: Path) -> tuple[About, dict[str, Any], Path]:
    return _parse(About, folder / "about.yaml"), read_json(folder / "result.json"), folder


def _parse(kind: type[Model], path: Path) -> Model:
    try:
        return kind.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is missing or malformed ({reason}); see ppfsl/reporting/tables.py") from None


def _section(about: About, result: dict[str, Any]) -> str:
    weights = result["pretrained"] or "none (random initialisation)"
    stages = ", then ".join(result["stages"]) or "no training"
    parts = [
        f"## {about.title}\n",
        f"    {about.command}\n",
        f"{result['dataset']}, split `{result['split']}`; {result['backbone']} at {result['image_size']} px; "
        f"pretrained weights: {weights}; {stages}; seed {result['seed']}; "
        f"PaddlePaddle {result['versions']['paddle']}; {about.minutes:g} minutes on {about.machine}.\n",
    ]
    if about.remark:
        parts.append(about.remark.strip() + "\n")
    episodic = [row for row in result["evaluations"] if not row["support_set"]]
    for kind, rows in wording.by_kind(episodic):
        parts.append(f"**{kind}**\n")
        parts.append("\n".join(_table(rows, episodic)) + "\n")
    if about.support_set:
        parts += [_per_class(row) for row in result["evaluations"] if row["support_set"]]
    return "\n".join(parts)


def _table(rows: Sequence[Evaluation], all_rows: Sequence[Evaluation]) -> Iterator[str]:
    yield "| way | shot | classes | adaptation | accuracy | against | episodes |"
    yield "|---|---|---|---|---|---|---|"
    for row in sorted(rows, key=lambda row: (row["way"], row["shot"])):
        first = next(other for other in all_rows if same_questions(other, row))
        yield (
            f"| {row['way']} | {row['shot']} | {row['part']} | {wording.adaptation(row)} "
            f"| {100 * row['accuracy']:.2f} ± {100 * row['ci95']:.2f} | {_against(row, first)} | {row['episodes']} |"
        )


def _against(row: Evaluation, first: Evaluation) -> str:
    if row is first:
        return ""
    difference, interval = paired_difference(row, first)
    return f"{100 * difference:+.2f} ± {100 * interval:.2f}"


def _per_class(row: Evaluation) -> str:
    correct, total = (sum(entry[key] for entry in row["per_class"]) for key in ("correct", "total"))
    lines = [
        f"One support set, {row['way']}-way {row['shot']}-shot, {row['adaptation']}: {correct} / {total} right\n",
        "| label | class | correct / total | accuracy |",
        "|---|---|---|---|",
    ]
    for entry in row["per_class"]:
        lines.append(
            f"| {entry['label']} | {wording.cell(entry['name'])} | {entry['correct']} / {entry['total']} "
            f"| {100 * entry['accuracy']:.0f} |"
        )
    return "\n".join(lines) + "\n"
