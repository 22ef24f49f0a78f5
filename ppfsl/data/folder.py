"""Any tree with one folder per class: its folders' names are the classes."""

import hashlib
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ppfsl.data.decode import open_image
from ppfsl.data.names import check_names, printable
from ppfsl.data.source import Load, Source
from ppfsl.data.walk import files_below
from ppfsl.errors import UserError
from ppfsl.files import kind_of
from ppfsl.progress import warn

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".jfif", ".jpe"})
KINDS = ", ".join(sorted(EXTENSIONS))
"""These in words, for errors."""
_WORDNET = re.compile(r"n[0-9]{8}-(.+)")


def folder_source(path: Path) -> Source:
    """The images below `path`, one class per folder directly inside it.

    Images may lie in the class folder or in folders below it. Hidden files and folders are left out; so are, with a
    warning, files whose extension is not in `EXTENSIONS` and images that lie beside the class folders. Links to files
    and links that are class folders are followed, links to folders further down where they lead to what is not in the
    tree anyhow (`files_below`).

    Labels are 1..K in the order of the folders' names. A class bears its folder's name; where that starts with a
    WordNet id, as in Stanford Dogs, the id and the underscores go (`n02085782-Japanese_spaniel` is
    "Japanese spaniel"), unless two classes would then have the same name.

    Raises:
        UserError: when `path` is no folder, has fewer than two class folders, one of them holds no image, or something
            in it cannot be read.
    """
    if (kind := kind_of(path)) != "folder":
        what = "is not a folder" if kind else "does not exist"
        raise UserError(f"{path} {what}; give a folder that holds one folder of images per class")
    try:
        folders = _class_folders(path)
        check_names(folders, str(path))
        loose = list(_files_beside(path))
        others = [file for file in loose if not _is_named_image(file)]
        files_of = [_images_below(path, folder, others) for folder in folders]
        files = tuple(file for found in files_of for file in found)
        state = _state(path, files)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}; mend or remove it") from None
    say_no_pictures(others, warn)
    _say_left_out("lie in no class folder", [file for file in loose if _is_named_image(file)], warn)
    return Source(
        name="folder",
        files=files,
        labels=np.repeat(np.arange(1, len(folders) + 1, dtype=np.int64), [len(found) for found in files_of]),
        class_names=dict(enumerate(_class_names(folders), start=1)),
        identity={"root": str(path.resolve()), "files": state},
        images=partial(_images, path, files),
    )


def _class_folders(path: Path) -> list[str]:
    root = path.resolve()
    folders = sorted(
        entry.name
        for entry in path.iterdir()
        if entry.is_dir() and not entry.name.startswith(".") and not root.is_relative_to(entry.resolve())
    )
    if len(folders) < 2:
        found = f"holds one class folder, {folders[0]}," if folders else "holds no class folder"
        raise UserError(f"{path} {found} and at least two are needed; put the images of each class in one folder")
    return folders


def _class_names(folders: list[str]) -> list[str]:
    matches = [_WORDNET.fullmatch(folder) for folder in folders]
    names = [match[1].replace("_", " ") if match else folder for match, folder in zip(matches, folders, strict=True)]
    return names if len(set(names)) == len(names) else folders


def say_no_pictures(files: Sequence[Path], tell: Callable[[str], None]) -> None:
    """Tell of files that are left out since their endings are none of `EXTENSIONS`, if there are any."""
    _say_left_out(f"are no pictures ({KINDS})", files, tell)


def _say_left_out(why: str, files: Sequence[Path], tell: Callable[[str], None]) -> None:
    if files:
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        tell(f"left out, since they {why}: {printable(min(files))}{more}")


def _is_named_image(file: Path) -> bool:
    return file.suffix.lower() in EXTENSIONS


def _files_beside(path: Path) -> Iterator[Path]:
    """The files that lie beside the class folders and are not hidden."""
    return (entry for entry in path.iterdir() if not entry.name.startswith(".") and entry.is_file())


def _images_below(path: Path, folder: str, others: list[Path]) -> list[str]:
    """Posix paths of a class's images, relative to `path`, sorted; files of other kinds are added to `others`."""
    found = []
    for file in files_below(path / folder, path, _raise):
        if not _is_named_image(file):
            if file.is_file():
                others.append(file)
        elif stat.S_ISREG(file.stat().st_mode):  # a broken link is an image lost, a pipe or a device is none
            found.append(_relative(file, path))
    if not found:
        raise UserError(f"the class folder {path / folder} holds no image; put images there or remove it")
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def _relative(file: Path, path: Path) -> str:
    name = file.relative_to(path).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UserError(f"the name of {name!r} in {path} is not valid UTF-8; rename it") from None
    return name


def _state(path: Path, files: tuple[str, ...]) -> str:
    """Changes when a file appears, goes, is renamed or is written again."""
    digest = hashlib.sha256()
    for file in files:
        status = (path / file).stat()
        digest.update(f"{file}\0{status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _images(path: Path, files: tuple[str, ...]) -> Iterator[tuple[int, Load]]:
    for row, file in enumerate(files):
        yield row, partial(open_image, path / file)
