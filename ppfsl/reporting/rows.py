"""The rows of docs/results.md: committed result files, and what these cannot say.

A row is a folder `results/<dataset>/<row>/` with the run's `result.json` and an `about.yaml`. A comparison, several
runs in one table, is a file `results/<dataset>/<name>.yaml`; the rows that say `comparison: <name>` in their
`about.yaml` belong to it. Titles, remarks (Markdown) and machines may also be said in Chinese, under `title_zh` and so
on; the Chinese page has the English words where they are not.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ppfsl.errors import UserError
from ppfsl.notation import parse_yaml
from ppfsl.reporting import wording
from ppfsl.reporting.pairing import same_pictures
from ppfsl.result_file import read_result

Model = TypeVar("Model", bound=BaseModel)
Said = TypeVar("Said", bound="Prose")


class Prose(BaseModel):
    """What a section says in words of its own."""

    model_config = ConfigDict(extra="forbid")

    order: int
    title: str
    title_zh: str = ""
    remark: str = ""
    remark_zh: str = ""

    def translated(self: Said, suffix: str) -> Said:
        """The same, with what also stands under keys that end in `suffix` said as it stands there."""
        keys = type(self).model_fields
        said = {key: getattr(self, key + suffix) or getattr(self, key) for key in keys if key + suffix in keys}
        return self.model_copy(update=said)


class About(Prose):
    """What `about.yaml` holds."""

    command: str
    machine: str
    machine_zh: str = ""
    minutes: Annotated[float, Field(gt=0)]
    support_set: bool = False
    """Whether the class by class table of the fixed support set is shown."""
    comparison: str = ""
    """The comparison that the row belongs to, in place of a section of its own."""
    repeats: str = ""
    """The row, in the same folder, of which this is another run with another seed: it is shown there as spread."""
    reported: dict[
        str, Annotated[float, Field(ge=0, le=100)] | Annotated[str, Field(pattern=r"^\d+(\.\d+)?( |$)")]
    ] = {}
    """Task, such as "5-way 1-shot" -> accuracy in per cent as its paper has it, with its interval or a note behind."""
    page: str = ""
    """The method's page below docs/algorithms/, which says what paper that is."""


class Comparison(Prose):
    """What the file of a comparison holds."""

    reference: str
    """The row that the others are compared with."""


Row = tuple[About, dict[str, Any], Path]
"""What about.yaml says, what is in result.json, and the folder of both."""


def read_rows(results: Path) -> list[Row]:
    """All rows, in order.

    Args:
        results: folder of the rows.

    Raises:
        UserError: when there are none, or a row's folder lacks a file or holds a malformed one.
    """
    folders = [path.parent for path in results.rglob("result.json")]
    rows = [(parse(About, folder / "about.yaml"), read_result(folder / "result.json"), folder) for folder in folders]
    if not rows:
        raise UserError(f"there is no result.json below {results}; copy the ones to show there, with an about.yaml")
    for row in rows:
        _check_row(*row)
    return sorted(rows, key=lambda row: (row[0].order, row[2].as_posix()))


def _check_row(about: About, result: dict[str, Any], folder: Path) -> None:
    """Raise where about.yaml says what result.json contradicts."""
    path = folder / "about.yaml"
    tasks = {wording.task(evaluation) for evaluation in result["evaluations"] if not evaluation["support_set"]}
    unknown = [task for task in about.reported if task not in tasks]
    if unknown:
        raise UserError(f"{path}: reported names {unknown[0]!r}, which the row was not asked; mend it, or evaluate it")
    evaluated = sum(evaluation.get("seconds", 0) for evaluation in result["evaluations"]) / 60
    if about.minutes < round(evaluated, 1):
        raise UserError(f"{path}: minutes is {about.minutes:g}, but evaluation alone took {evaluated:.1f}; mend it")


def read_comparisons(rows: Sequence[Row]) -> list[tuple[Comparison, list[Row]]]:
    """The comparisons that rows belong to, each with its rows in their order.

    Raises:
        UserError: when the file of a comparison is missing, malformed, or names a reference that is none of its rows;
            when a row was asked about other pictures than the reference.
    """
    members: dict[Path, list[Row]] = {}
    for row in rows:
        about, _, folder = row
        if about.comparison:
            members.setdefault(folder.parent / f"{about.comparison}.yaml", []).append(row)
    comparisons = [(parse(Comparison, path), mine) for path, mine in members.items()]
    for path, (comparison, mine) in zip(members, comparisons, strict=True):
        reference = next((result for _, result, folder in mine if folder.name == comparison.reference), None)
        if reference is None:
            raise UserError(f"{path}: the reference {comparison.reference} is none of its rows; mend it")
        part = reference["evaluations"][0]["part"]
        for _, result, folder in mine:
            if result["evaluations"][0]["part"] != part or not same_pictures(result, reference, part):
                raise UserError(
                    f"{path}: {folder.name} was asked about other pictures than {comparison.reference}; "
                    "rows of one comparison share data set, split and part"
                )
    return comparisons


def parse(kind: type[Model], path: Path) -> Model:
    """What a file of the rows holds.

    Raises:
        UserError: when it is missing or malformed.
    """
    try:
        return kind.model_validate(parse_yaml(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} is missing or malformed ({reason}); see {kind.__module__.replace('.', '/')}.py"
        ) from None
