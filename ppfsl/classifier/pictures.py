"""A support set of people's own pictures: a folder per class, or a list in JSON or CSV."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ppfsl.data.decode import open_image, to_square
from ppfsl.data.folder import EXTENSIONS, folder_source
from ppfsl.errors import UserError

MOST_CLASSES, MOST_PICTURES = 1000, 20_000


@dataclass(frozen=True)
class SupportPictures:
    """Picture files and their classes.

    Attributes:
        class_names: in the order of the labels, at least two.
        files: every picture's, at least one per class.
        labels: int64 [S], 0..classes - 1.
    """

    class_names: tuple[str, ...]
    files: tuple[Path, ...]
    labels: np.ndarray


def find_support(path: Path) -> SupportPictures:
    """The pictures that a folder or a list names; none is opened.

    A folder holds a folder per class (`ppfsl.data.folder`). A list is JSON, `{"class": ["file", ...], ...}`, or CSV
    with the header `file,label`; its files are absolute or relative to the list's own folder.

    Raises:
        UserError: when there are fewer than two classes, a class has no picture, a picture is listed twice or missing,
            or there is too much of it.
    """
    if path.is_dir():
        source = folder_source(path)
        names = tuple(source.class_names.values())
        found = SupportPictures(names, tuple(path / file for file in source.files), source.labels - 1)
    elif path.suffix.lower() in (".json", ".csv"):
        found = _from_list(path)
    else:
        what = "is neither a folder nor a .json or .csv list" if path.exists() else "does not exist"
        raise UserError(f"{path} {what}; give a folder that holds one folder of pictures per class")
    if len(found.class_names) > MOST_CLASSES or len(found.files) > MOST_PICTURES:
        raise UserError(
            f"{path} has {len(found.class_names)} classes and {len(found.files)} pictures, more than {MOST_CLASSES} or "
            f"{MOST_PICTURES}; a support set is small: train on such data (name: folder in a configuration)"
        )
    return found


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """Picture files, and all of them below folders, sorted within each; hidden ones are left out.

    Raises:
        UserError: when a path does not exist, or a folder holds no picture.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [
                file
                for file in sorted(path.rglob("*"))
                if file.suffix.lower() in EXTENSIONS
                and not any(part.startswith(".") for part in file.relative_to(path).parts)
                and file.is_file()
            ]
            if not inside:
                raise UserError(f"{path} holds no picture ({', '.join(sorted(EXTENSIONS))}); name another folder")
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise UserError(f"{path} does not exist; name a picture or a folder of pictures")
    return files


def read_square(file: Path | bytes, size: int, channels: int) -> np.ndarray:
    """A picture as a data set's table would hold it: uint8 [size, size, channels].

    Raises:
        ValueError: saying what is wrong with it.
    """
    try:
        return to_square(open_image(file), size, channels)
    except (OSError, ValueError) as error:
        raise ValueError(getattr(error, "strerror", None) or str(error)) from None


def read_support(support: SupportPictures, size: int, channels: int) -> np.ndarray:
    """All pictures of a support set: uint8 [S, size, size, channels].

    Raises:
        UserError: naming a picture that cannot be read; a support set is too small to go on without one.
    """
    squares = []
    for file in support.files:
        try:
            squares.append(read_square(file, size, channels))
        except ValueError as error:
            raise UserError(f"{file} is not a readable picture ({error}); mend it or leave it out") from None
    return np.stack(squares)


def _from_list(path: Path) -> SupportPictures:
    entries = _json_entries(path) if path.suffix.lower() == ".json" else _csv_entries(path)
    names = tuple(dict.fromkeys(name for name, _ in entries))
    if len(names) < 2:
        raise UserError(f"{path} names {len(names)} class{'es' * (len(names) != 1)} and at least two are needed")
    files = [path.parent / file for _, file in entries]
    doubled = next((file for file in files if files.count(file) > 1), None) if len(set(files)) < len(files) else None
    if doubled is not None:
        raise UserError(f"{path} lists {doubled} twice; each picture has one class")
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None:
        raise UserError(f"{path} lists {missing}, which is no file")
    labels = np.array([names.index(name) for name, _ in entries], dtype=np.int64)
    return SupportPictures(names, tuple(files), labels)


def _json_entries(path: Path) -> list[tuple[str, str]]:
    try:
        tree: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{path} is not a readable list: {error}") from None
    if not isinstance(tree, dict) or not all(isinstance(files, list) for files in tree.values()):
        raise UserError(f'{path} must be a JSON object, {{"class": ["file", ...], ...}}')
    empty = next((name for name, files in tree.items() if not files), None)
    if empty is not None:
        raise UserError(f"{path}: class {empty!r} has no picture; list one or leave the class out")
    entries = [(name, file) for name, files in tree.items() for file in files]
    odd = next((file for _, file in entries if not isinstance(file, str) or not file), None)
    if odd is not None:
        raise UserError(f"{path}: {odd!r} is no file name")
    return entries


def _csv_entries(path: Path) -> list[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            if set(reader.fieldnames or ()) != {"file", "label"}:
                raise UserError(f"{path} must have the columns file and label, and these alone, in its first line")
            entries = [(row["label"], row["file"]) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a readable list: {error}") from None
    for number, entry in enumerate(entries, start=2):
        if not all(isinstance(value, str) and value for value in entry):
            raise UserError(f"{path}, row {number}: file and label must both be given")
    return entries
