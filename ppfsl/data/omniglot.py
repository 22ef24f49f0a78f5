"""Omniglot (Lake, Salakhutdinov and Tenenbaum, 2015), read from its official zip files without extracting them.

The pixels stay as published, dark ink (0) on white paper (255). The papers on few-shot learning train on ink 1 and
paper 0, which the embedder's `normalization: inverted` makes of them.
"""

import re
import shlex
import zipfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ppfsl.data.decode import open_image
from ppfsl.data.download import OfficialFile
from ppfsl.data.source import Load, Source
from ppfsl.errors import UserError
from ppfsl.files import kind_of

_URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"

OFFICIAL_FILES = (
    OfficialFile("images_background.zip", _URL + "images_background.zip", "68d2efa1b9178cc56df9314c21c6e718"),
    OfficialFile("images_evaluation.zip", _URL + "images_evaluation.zip", "6b91aef0f799c5bb55b94e3f2daec811"),
)

CHARACTERS = 1623
DRAWINGS = 20
ROTATIONS = 4
_LISTS = {"background": (30, 964), "evaluation": (20, 659)}  # alphabets and characters of each official list
_MEMBER = re.compile(r"(images_[a-z]+)/([A-Za-z0-9_()-]+)/(character[0-9]{2})/([0-9]{4}_[0-9]{2}\.png)")
_MAX_IMAGE_BYTES = 2**20
_TURNS = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)

# (alphabet, character, file), the archive, its member; sorted, these are the rows before any rotation.
_Drawing = tuple[tuple[str, str, str], Path, zipfile.ZipInfo]


def omniglot_source(root: Path, rotations: bool) -> Source:
    """The 1623 characters of 50 alphabets, 20 drawings each, from the official files in `root`.

    `root` holds `images_background.zip` and `images_evaluation.zip`. Their md5 is not checked: copies packed anew serve
    as well.

    Characters are numbered 0..1622, over both files together in order of alphabet and character; the number is the
    label. With `rotations`, a character turned counter-clockwise by 90 r degrees (r = 0..3) is a class of its own, its
    label number + 1623 r, its images the rows 32460 r and up. `lists` holds the authors' own division by alphabet:
    "background" (30 alphabets) and "evaluation" (20), with their rotations.

    Raises:
        UserError: for a missing, incomplete or damaged file; for damage inside of an image, while the images are read.
    """
    drawings = _all_drawings(root)
    number = np.repeat(np.arange(CHARACTERS, dtype=np.int64), DRAWINGS)
    characters = [f"{alphabet}/{character}" for (alphabet, character, _), _, _ in drawings[::DRAWINGS]]
    turns = range(ROTATIONS if rotations else 1)
    names = {
        r * CHARACTERS + k: f"{name}/rot{90 * r:03d}" if rotations else name
        for r in turns
        for k, name in enumerate(characters)
    }
    labels = np.concatenate([number + r * CHARACTERS for r in turns])
    files = [file for (_, _, file), _, _ in drawings] * len(turns)
    archives = np.array([path.name for _, path, _ in drawings] * len(turns))
    return Source(
        name="omniglot",
        files=tuple(f"{names[int(label)]}/{file}" for label, file in zip(labels, files, strict=True)),
        labels=labels,
        class_names=names,
        identity={
            "root": str(root.resolve()),
            "variant": "rotations" if rotations else "upright",
            "files": {_archive(root, part).name: _state(_archive(root, part)) for part in _LISTS},
        },
        images=partial(_images, drawings, len(turns)),
        lists={part: np.flatnonzero(archives == _archive(root, part).name) for part in _LISTS},
    )


def _archive(root: Path, part: str) -> Path:
    return root / f"images_{part}.zip"


def _state(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def _fetch(root: Path) -> str:
    """The command that mends the folder, for error messages."""
    return f"python tools/prepare_data.py omniglot --root {shlex.quote(str(root.parent))}"


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path} is damaged ({why}); delete it and run `{_fetch(path.parent)}`")


def _unreadable(path: Path) -> UserError:
    return UserError(f"{path} may not be read; give yourself the permission to")


def _open(path: Path) -> zipfile.ZipFile:
    """The archive with its table of contents read."""
    if kind_of(path) != "file":
        raise UserError(f"{path} is missing; run `{_fetch(path.parent)}`")
    try:
        return zipfile.ZipFile(path)
    except PermissionError:
        raise _unreadable(path) from None
    except Exception as error:  # on damaged files zipfile raises whatever the bytes lead to
        raise _damaged(path, str(error) or type(error).__name__) from None


def _all_drawings(root: Path) -> list[_Drawing]:
    """The drawings of both archives, sorted; no character is in both."""
    background, evaluation = (_read_contents(root, part) for part in _LISTS)
    shared = {name[:2] for name, _, _ in background} & {name[:2] for name, _, _ in evaluation}
    if shared:
        raise _damaged(_archive(root, "evaluation"), f"{'/'.join(min(shared))} is in images_background.zip too")
    return sorted(background + evaluation, key=lambda drawing: drawing[0])


def _read_contents(root: Path, part: str) -> list[_Drawing]:
    """All drawings that an archive lists, each name once, in any order."""
    path = _archive(root, part)
    members: dict[tuple[str, str, str], zipfile.ZipInfo] = {}
    with _open(path) as archive:
        for member in archive.infolist():
            found = _MEMBER.fullmatch(member.filename)
            if found is None or found[1] != path.stem:
                continue
            if member.file_size > _MAX_IMAGE_BYTES:
                raise _damaged(path, f"{member.filename} has {member.file_size} bytes")
            members[found[2], found[3], found[4]] = member
    alphabets, characters = _LISTS[part]
    drawings = Counter((alphabet, character) for alphabet, character, _ in members)
    for (alphabet, character), count in sorted(drawings.items()):
        if count != DRAWINGS:
            raise _damaged(path, f"{alphabet}/{character} has {count} of its {DRAWINGS} drawings")
    held = len({alphabet for alphabet, _ in drawings}), len(drawings)
    if held != (alphabets, characters):
        raise _damaged(path, f"it holds {held[1]} characters of {held[0]} alphabets, not {characters} of {alphabets}")
    return [(key, path, member) for key, member in members.items()]


def _images(drawings: list[_Drawing], turns: int) -> Iterator[tuple[int, Load]]:
    """Every drawing in every turn; the drawings are read here because a zip file is not to be shared by threads.

    Raises:
        UserError: when an archive is gone or a drawing in it is damaged.
    """
    archives = {path: _open(path) for path in dict.fromkeys(path for _, path, _ in drawings)}
    try:
        for row, (_, path, member) in enumerate(drawings):
            content = _read(archives[path], path, member)
            for r in range(turns):
                yield row + r * len(drawings), partial(_turned, content, _TURNS[r])
    finally:
        for archive in archives.values():
            archive.close()


def _read(archive: zipfile.ZipFile, path: Path, member: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(member) as stream:
            return stream.read(member.file_size)  # never more, whatever it would unpack to; the check sum is compared
    except Exception as error:  # on damaged files zipfile raises whatever the bytes lead to
        raise _damaged(path, f"{member.filename}: {str(error) or type(error).__name__}") from None


def _turned(content: bytes, turn: Image.Transpose | None) -> Image.Image:
    image = open_image(content)
    return image if turn is None else image.transpose(turn)
