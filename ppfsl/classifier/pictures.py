"""A support set of people's own pictures: a folder per class, or a list in JSON or CSV."""

import csv
import hashlib
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ppfsl.data.decode import read_square
from ppfsl.data.folder import EXTENSIONS, KINDS, folder_source, say_no_pictures
from ppfsl.data.names import check_names, printable
from ppfsl.data.walk import files_below
from ppfsl.errors import UserError
from ppfsl.files import kind_of
from ppfsl.notation import parse_json
from ppfsl.progress import say, warn

MOST_CLASSES, MOST_PICTURES = 1000, 5000
"""Of a support set, all of whose pictures are held in memory: a gigabyte at 256 px."""


@dataclass(frozen=True)
class Unreadable:
    """A picture that could not be asked about, and why."""

    name: str
    reason: str


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
    with the header `file,label`, where spaces around values do not count; its files are absolute or relative to the
    list's own folder.

    Raises:
        UserError: when there are fewer than two classes, two have names that look alike, a class has no picture, a
            picture is listed twice or missing, or there is too much of it.
    """
    if kind_of(path) == "folder":
        source = folder_source(path)
        names = tuple(source.class_names.values())
        found = SupportPictures(names, tuple(path / file for file in source.files), source.labels - 1)
    elif path.suffix.lower() in (".json", ".csv"):
        found = _from_list(path)
    else:
        what = "is neither a folder nor a .json or .csv list" if kind_of(path) else "does not exist"
        raise UserError(f"{path} {what}; give a folder that holds one folder of pictures per class")
    _check_size(path, len(found.class_names), len(found.files))
    return found


def _check_size(path: Path, classes: int, pictures: int) -> None:
    if classes > MOST_CLASSES or pictures > MOST_PICTURES:
        raise UserError(
            f"{path} has {classes} classes and {pictures} pictures, more than {MOST_CLASSES} or {MOST_PICTURES}; "
            "a support set is small: train on such data (name: folder in a configuration)"
        )


def find_pictures(paths: Sequence[Path]) -> list[Path | Unreadable]:
    """Picture files, and all of them below folders, sorted within each, with the folders that cannot be read.

    Of a folder, hidden files are left out without a word, those of other kinds with one on stderr. Links are followed
    as in data sets (`files_below`).

    Raises:
        UserError: when a path does not exist, or a folder holds no picture.
    """
    files: list[Path | Unreadable] = []
    others: list[Path] = []
    for path in paths:
        kind = kind_of(path)
        if kind == "folder":
            found, left_out = _pictures_below(path)
            if not found:
                raise UserError(f"{path} holds no picture ({KINDS}); name another folder")
            files += found
            others += left_out
        elif kind is not None:
            files.append(path)
        else:
            raise UserError(f"{path} does not exist; name a picture or a folder of pictures")
    say_no_pictures(others, say)
    return files


def _pictures_below(path: Path) -> tuple[list[Path | Unreadable], list[Path]]:
    """The pictures below a folder, and the other files."""
    pictures: list[tuple[Path, Path | Unreadable]] = []
    others: list[Path] = []

    def failed(error: OSError) -> None:
        place = Path(error.filename)
        pictures.append((place, Unreadable(str(place), f"the folder cannot be read: {error.strerror}")))

    for file in files_below(path, path, failed):
        try:
            if not stat.S_ISREG(file.stat().st_mode):  # a pipe, a device
                continue
        except OSError:  # a picture lost, such as a broken link, which says so when it is read
            pass
        if file.suffix.lower() in EXTENSIONS:
            pictures.append((file, file))
        else:
            others.append(file)
    return [found for _, found in sorted(pictures, key=lambda pair: pair[0])], sorted(others)


def read_support(support: SupportPictures, size: int, channels: int) -> np.ndarray:
    """All pictures of a support set: uint8 [S, size, size, channels].

    Raises:
        UserError: naming a picture that cannot be read; a support set is too small to go on without one.
    """
    squares = np.empty((len(support.files), size, size, channels), dtype=np.uint8)
    for row, file in enumerate(support.files):
        try:
            squares[row] = read_square(file, size, channels)
        except ValueError as error:
            raise UserError(f"{file} is not a readable picture ({error}); mend it or leave it out") from None
    _warn_of_twins(support, squares)
    return squares


def _warn_of_twins(support: SupportPictures, squares: np.ndarray) -> None:
    """Warn where two classes have the same picture, which one of them cannot want."""
    first: dict[bytes, int] = {}
    for row, square in enumerate(squares):
        other = first.setdefault(hashlib.sha256(square.tobytes()).digest(), row)
        if support.labels[other] != support.labels[row]:
            names = (printable(support.class_names[support.labels[place]]) for place in (other, row))
            warn(
                f"{printable(support.files[other])} and {printable(support.files[row])} are the same picture, in the "
                f"classes {' and '.join(names)}; leave one of them out"
            )
            return


def _from_list(path: Path) -> SupportPictures:
    entries = _json_entries(path) if path.suffix.lower() == ".json" else _csv_entries(path)
    places = {name: place for place, name in enumerate(dict.fromkeys(name for name, _ in entries))}
    if len(places) < 2:
        raise UserError(f"{path} names {len(places)} class{'es' * (len(places) != 1)} and at least two are needed")
    _check_size(path, len(places), len(entries))
    check_names(places, str(path))
    files = tuple(path.parent / file for _, file in entries)
    _check_files(path, files)
    labels = np.array([places[name] for name, _ in entries], dtype=np.int64)
    return SupportPictures(tuple(places), files, labels)


def _check_files(path: Path, files: Sequence[Path]) -> None:
    """Raise where a file of a list is none, or is listed twice, be it by another way to it."""
    seen: dict[Path, Path] = {}
    for file in files:
        try:
            kind = kind_of(file)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        if kind != "file":
            raise UserError(f"{path} lists {file}, which is no file; correct the name or leave it out")
        other = seen.setdefault(file.resolve(), file)
        if other is not file:
            again = "" if other == file else f", the second time as {file}"
            raise UserError(f"{path} lists {other} twice{again}; each picture has one class")


def _json_entries(path: Path) -> list[tuple[str, str]]:
    try:
        tree = parse_json(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a readable list: {error}") from None
    if not isinstance(tree, dict) or not all(isinstance(files, list) for files in tree.values()):
        raise UserError(f'{path} must be a JSON object, {{"class": ["file", ...], ...}}')
    empty = next((name for name, files in tree.items() if not files), None)
    if empty is not None:
        raise UserError(f"{path}: class {empty!r} has no picture; list one or leave the class out")
    entries = [(name, file) for name, files in tree.items() for file in files]
    odd = next((file for _, file in entries if not isinstance(file, str) or not file), None)
    if odd is not None:
        raise UserError(f"{path}: {odd!r:.100} is no file name")
    if not all(name.strip() for name in tree):
        raise UserError(f"{path}: a class has no name; give it one")
    return entries


def _not_utf8(path: Path) -> UserError:
    return UserError(f"{path} is not a readable list: it is not in UTF-8; save it as UTF-8")


def _csv_entries(path: Path) -> list[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True, skipinitialspace=True)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            if sorted(reader.fieldnames) != ["file", "label"]:
                raise UserError(f"{path} must have the columns file and label, and these alone, in its first line")
            rows = list(reader)
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    except (OSError, csv.Error) as error:
        raise UserError(f"{path} is not a readable list: {error}") from None
    for number, row in enumerate(rows, start=2):
        if not all((row[key] or "").strip() for key in ("file", "label")):
            raise UserError(f"{path}, row {number}: file and label must both be given")
        if len(row) > 2:
            raise UserError(f"{path}, row {number} has more than two values; put quotes around a name with a comma")
    return [(row["label"].strip(), row["file"].strip()) for row in rows]
