"""Support sets as files: a k-way n-shot support set and its query list, by file name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ppfsl.data.episodes import Episode, check_sizes, check_way, group_by_class
from ppfsl.data.table import ImageTable
from ppfsl.errors import UserError
from ppfsl.files import read_json, write_json
from ppfsl.randomness import generator


@dataclass(frozen=True)
class SupportSet:
    """A fixed few-shot task; `seed` and `part` say how it was drawn.

    Attributes:
        dataset, split, part: where its classes come from.
        way, shot: classes, and support images per class.
        classes: (label, name) of each class, in the order of the classifier's outputs.
        support, query: (file, label) of each image; no file is in both.
    """

    dataset: str
    split: str
    part: str
    seed: int
    way: int
    shot: int
    classes: tuple[tuple[int, str], ...]
    support: tuple[tuple[str, int], ...]
    query: tuple[tuple[str, int], ...]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values (`support_set.json`)."""
        return {
            "schema": 1,
            "dataset": self.dataset,
            "split": self.split,
            "part": self.part,
            "seed": self.seed,
            "way": self.way,
            "shot": self.shot,
            "classes": [{"label": label, "name": name} for label, name in self.classes],
            "support": [{"file": file, "label": label} for file, label in self.support],
            "query": [{"file": file, "label": label} for file, label in self.query],
        }


def draw_support_set(
    table: ImageTable,
    rows: np.ndarray,
    way: int,
    shot: int,
    query: int,
    seed: int,
    split: str,
    part: str,
    classes: Sequence[int] | None = None,
) -> SupportSet:
    """A support set and its query list, a pure function of the table, the rows and the seed.

    Args:
        table: where the images are.
        rows: image indices to draw from.
        way, shot, query: classes; support and query images per class.
        seed: a non-negative integer.
        split, part: recorded in the result.
        classes: labels, in this order; None: `way` of them, drawn by the seed.

    Raises:
        UserError: when the rows cannot serve it.
    """
    rows_of = group_by_class(rows, table.labels[rows])
    rng = generator(seed, "support set")
    if classes is None:
        check_way(len(rows_of), way, f"a {way}-way support set needs", "evaluation.support_set.way", part)
        classes = sorted(int(label) for label in rng.choice(sorted(rows_of), way, replace=False))
    if len(set(classes)) != way or len(classes) != way:
        raise UserError(
            f"evaluation.support_set.classes lists {len(classes)} classes, {len(set(classes))} of them different, "
            f"for a {way}-way support set; make these agree"
        )
    unknown = [label for label in classes if label not in rows_of]
    if unknown:
        raise UserError(
            f"evaluation.support_set.classes: class {unknown[0]} is not among the {part} classes of {split}"
        )
    chosen = {label: rows_of[label] for label in classes}
    check_sizes(chosen, shot, query, "evaluation.support_set", table.class_names)
    drawn = {label: rng.permutation(rows_of[label]) for label in classes}
    return SupportSet(
        dataset=table.name,
        split=split,
        part=part,
        seed=seed,
        way=way,
        shot=shot,
        classes=tuple((label, table.class_names[label]) for label in classes),
        support=tuple((table.files[row], label) for label in classes for row in drawn[label][:shot]),
        query=tuple((table.files[row], label) for label in classes for row in drawn[label][shot : shot + query]),
    )


def save_support_set(support_set: SupportSet, path: Path) -> None:
    """Write it as JSON."""
    write_json(path, support_set.to_json())


def load_support_set(path: Path) -> SupportSet:
    """Read a support set's JSON file.

    Raises:
        UserError: when it is missing or malformed, when a file is both support and query or is listed twice, or when
            the classes do not all have `shot` support images.
    """
    return read_json(path, _parse)


def as_episode(support_set: SupportSet, table: ImageTable) -> Episode:
    """The support set as image indices.

    Raises:
        UserError: when the table is of another data set, lacks a file, or knows it under another label.
    """
    if support_set.dataset != table.name:
        raise UserError(f"the support set is of {support_set.dataset}, not of {table.name}; draw one from {table.name}")
    row_of = {file: row for row, file in enumerate(table.files)}

    def rows(images: Sequence[tuple[str, int]]) -> np.ndarray:
        found = []
        for file, label in images:
            if file not in row_of:
                raise UserError(f"the support set's file {file} is not in {table.name}; draw the support set anew")
            if int(table.labels[row_of[file]]) != label:
                raise UserError(
                    f"the support set gives {file} label {label}, {table.name} {table.labels[row_of[file]]}"
                )
            found.append(row_of[file])
        return np.asarray(found, dtype=np.int64).reshape(support_set.way, -1)

    classes = np.asarray([label for label, _ in support_set.classes], dtype=np.int64)
    return Episode(classes, rows(support_set.support), rows(support_set.query))


class _Entry(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    label: int


class _Class(_Entry):
    name: str


class _Image(_Entry):
    file: str


class _File(BaseModel):
    """What stands in support_set.json."""

    model_config = ConfigDict(strict=True, extra="forbid")

    version: Literal[1] = Field(alias="schema")
    dataset: str
    split: str
    part: str
    seed: int = Field(ge=0)
    way: int = Field(ge=2)
    shot: int = Field(ge=1)
    classes: list[_Class]
    support: list[_Image]
    query: list[_Image] = Field(min_length=1)


def _parse(value: Any) -> SupportSet:
    try:
        file = _File.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    support_set = SupportSet(
        **file.model_dump(include={"dataset", "split", "part", "seed", "way", "shot"}),
        classes=tuple((item.label, item.name) for item in file.classes),
        support=tuple((item.file, item.label) for item in file.support),
        query=tuple((item.file, item.label) for item in file.query),
    )
    files = [file for file, _ in support_set.support + support_set.query]
    doubled = next((file for file in files if files.count(file) > 1), None)
    if doubled is not None:
        raise ValueError(f"{doubled} is listed twice; support and query must not overlap")
    labels = [label for label, _ in support_set.classes]
    if len(labels) != support_set.way or len(set(labels)) != len(labels) or not labels:
        raise ValueError(f"it lists {len(set(labels))} different classes for {support_set.way} ways")
    for name, images, each in (
        ("support", support_set.support, support_set.shot),
        ("query", support_set.query, len(support_set.query) // support_set.way),
    ):
        if [label for _, label in images] != [label for label in labels for _ in range(each)]:
            raise ValueError(f"its {name} list must hold {each} images of each class, class by class")
    return support_set
