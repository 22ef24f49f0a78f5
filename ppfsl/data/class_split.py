"""Class splits: which classes are for training (base), for choosing (validation), for testing (novel)."""

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ppfsl.data.table import ImageTable
from ppfsl.errors import UserError
from ppfsl.files import read_json
from ppfsl.randomness import generator

PartName = Literal["base", "validation", "novel"]
PART_NAMES: tuple[PartName, ...] = ("base", "validation", "novel")
_REMARKS = ("source", "labels")
"""Keys of a split's file that are for people: where it is from, and what its labels are."""


@dataclass(frozen=True)
class Part:
    """The classes of one part of a split, and the official list its images come from (None: all images)."""

    classes: tuple[int, ...]
    list: str | None = None


@dataclass(frozen=True)
class ClassSplit:
    """The three parts of a split; their classes are disjoint unless each has its own official list."""

    name: str
    base: Part
    validation: Part
    novel: Part

    def part(self, name: PartName) -> Part:
        """The part of that name."""
        return {"base": self.base, "validation": self.validation, "novel": self.novel}[name]

    def without(self, labels: Container[int]) -> "ClassSplit":
        """The same split with these classes left out of every part."""
        parts = (self.part(name) for name in PART_NAMES)
        return ClassSplit(
            self.name, *(Part(tuple(c for c in part.classes if c not in labels), part.list) for part in parts)
        )


def shipped_splits(dataset: str) -> list[str]:
    """Names of the splits that ppfsl ships for a data set."""
    names = (entry.name for entry in resources.files("ppfsl.data").joinpath("splits").iterdir())
    prefix = f"{dataset}_"
    return sorted(name[len(prefix) : -len(".json")] for name in names if name.startswith(prefix))


def load_split(dataset: str, name: str) -> ClassSplit:
    """A split by its shipped name, such as "metadataset", or from a JSON file by its path.

    The file holds `{"base": ..., "validation": ..., "novel": ...}`; each is a list of labels, or
    `{"classes": [labels], "list": "official list"}`. `source` and `labels` may say in words where it is from and what
    its labels are.

    Raises:
        UserError: for an unknown name, a missing or malformed file, an unknown key, a class in two parts.
    """
    if name in shipped_splits(dataset):
        text = resources.files("ppfsl.data").joinpath("splits", f"{dataset}_{name}.json").read_text(encoding="utf-8")
        return _parse(name, json.loads(text))
    if name.endswith(".json"):
        return read_json(Path(name), lambda value: _parse(Path(name).stem, value))
    known = ", ".join(shipped_splits(dataset)) or "none"
    raise UserError(f"data.split: {dataset} has no split {name!r}; known: {known}, or the path of a .json file")


def ratio_split(labels: Sequence[int] | np.ndarray, ratio: Sequence[float], seed: int) -> ClassSplit:
    """Divide classes at random into base, validation and novel by `ratio` (three fractions, summing to 1).

    The division depends on the set of labels and the seed alone. Every part with a positive fraction gets at least one
    class.

    Raises:
        UserError: when there are fewer classes than parts.
    """
    classes = np.unique(labels)
    wanted = sum(share > 0 for share in ratio)
    if len(classes) < wanted:
        raise UserError(f"{len(classes)} classes cannot be divided into {wanted} parts; add classes (folders)")
    order = generator(seed, "ratio split").permutation(classes)
    counts = [round(share * len(classes)) for share in ratio]
    for part, share in enumerate(ratio):
        if share > 0 and counts[part] == 0:
            counts[part] = 1
    while sum(counts) != len(classes):
        counts[int(np.argmax(counts))] += 1 if sum(counts) < len(classes) else -1
    ends = np.cumsum(counts)
    parts = [Part(tuple(sorted(int(c) for c in order[end - n : end]))) for end, n in zip(ends, counts, strict=True)]
    return ClassSplit("ratio", *parts)


def part_images(table: ImageTable, split: ClassSplit, name: PartName) -> np.ndarray:
    """Indices of the images of a part, ascending: int64.

    Raises:
        UserError: when a class of the part has no image, or the official list does not exist.
    """
    part = split.part(name)
    rows = np.arange(len(table), dtype=np.int64)
    if part.list is not None:
        if part.list not in table.lists:
            known = ", ".join(sorted(table.lists)) or "none"
            raise UserError(f"split {split.name}: {table.name} has no official list {part.list!r}; known: {known}")
        rows = np.sort(table.lists[part.list])
    rows = rows[np.isin(table.labels[rows], part.classes)]
    absent = sorted(set(part.classes) - set(table.labels[rows].tolist()))
    if absent:
        raise UserError(f"split {split.name}: class {absent[0]} of its {name} part has no image in {table.name}")
    return rows


def _parse(name: str, value: Any) -> ClassSplit:
    if not isinstance(value, dict):
        raise ValueError("it must be an object with the keys base, validation and novel")
    _refuse_unknown(value, (*PART_NAMES, *_REMARKS))
    parts: list[Part] = []
    owners: dict[int, dict[str | None, str]] = {}  # label -> official list -> the part that takes it
    for key in PART_NAMES:
        part = _parse_part(key, value[key])
        for label in part.classes:
            lists = owners.setdefault(label, {})
            # No list stands for all images, hence meets every list.
            if lists and (part.list is None or part.list in lists or None in lists):
                owner = lists.get(part.list, next(iter(lists.values())))
                raise ValueError(f"class {label} is in {owner!r} and in {key!r}")
            lists[part.list] = key
        parts.append(part)
    return ClassSplit(name, *parts)


def _parse_part(key: str, entry: Any) -> Part:
    if not isinstance(entry, dict):
        entry = {"classes": entry}
    _refuse_unknown(entry, ("classes", "list"))
    classes, source = entry["classes"], entry.get("list")
    listed = isinstance(classes, list) and all(type(label) is int for label in classes)
    if not listed or not isinstance(source, str | None):
        raise ValueError(
            f"the classes of {key!r} must be a list of whole numbers, the data set's labels, and its list a name"
        )
    return Part(tuple(classes), source)


def _refuse_unknown(entry: Mapping[str, Any], known: Sequence[str]) -> None:
    unknown = next((key for key in entry if key not in known), None)
    if unknown is not None:
        raise ValueError(f"unknown key {unknown!r}; known: {', '.join(known)}")
