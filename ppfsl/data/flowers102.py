"""Oxford 102 Flowers (Nilsback and Zisserman, 2008), read from its official files without extracting them."""

import gzip
import hashlib
import json
import re
import shlex
import tarfile
import zlib
from collections.abc import Iterator
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from ppfsl.data.decode import open_image
from ppfsl.data.download import OfficialFile
from ppfsl.data.source import Load, Source
from ppfsl.errors import UserError
from ppfsl.files import kind_of

_URL = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"

OFFICIAL_FILES = (
    OfficialFile("102flowers.tgz", _URL + "102flowers.tgz", "52808999861908f626f3c1f4e79d11fa"),
    OfficialFile("imagelabels.mat", _URL + "imagelabels.mat", "e0620be6f572b9609742df49c70aed4d"),
    OfficialFile("setid.mat", _URL + "setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c"),
)

IMAGES = 8189
CLASSES = 102
_LISTS = {"train": ("trnid", 1020), "validation": ("valid", 1020), "test": ("tstid", 6149)}
_MEMBER = re.compile(r"jpg/image_([0-9]{5})\.jpg")
_MAX_IMAGE_BYTES = 64 * 2**20


def flowers102_source(root: Path) -> Source:
    """The 8189 photographs of 102 classes, from the official files in `root`.

    `root` holds `imagelabels.mat`, `setid.mat` and either `102flowers.tgz` or that archive's complete `jpg/` folder,
    which is preferred because it needs no decompression. The archive is streamed, never extracted, and its md5 is not
    checked: a copy with smaller images serves as well.

    Labels are the official 1..102, image k (official ids are 1-based) is row k - 1, and `lists` holds the official
    lists under their official meaning: "train" (1020 images, `trnid`), "validation" (1020, `valid`) and "test" (6149,
    `tstid`). `paddle.vision.datasets.Flowers` swaps two of them: its mode "train" reads the official test list.

    Raises:
        UserError: for a missing, incomplete or damaged file; for the archive, while its images are read.
    """
    labels = _read_labels(root)
    lists = _read_lists(root)
    photographs = _complete_folder(root)
    archive = root / "102flowers.tgz"
    if photographs is not None:
        names = "".join(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}\n" for path in photographs)
        state: Any = {"jpg": hashlib.sha256(names.encode()).hexdigest()}
        images = partial(_folder_images, photographs)
    else:
        state = {archive.name: _state(archive)}
        images = partial(_archive_images, archive)
    return Source(
        name="flowers102",
        files=tuple(f"jpg/{_file_name(row)}" for row in range(IMAGES)),
        labels=labels,
        class_names=class_names(),
        identity={
            "root": str(root.resolve()),
            "files": {**state, **{name: _state(root / name) for name in ("imagelabels.mat", "setid.mat")}},
        },
        images=images,
        lists=lists,
    )


def class_names() -> dict[int, str]:
    """Label (1..102) -> the flower's common name."""
    text = resources.files("ppfsl.data").joinpath("flowers102_names.json").read_text(encoding="utf-8")
    return {int(label): name for label, name in json.loads(text).items()}


def _file_name(row: int) -> str:
    return f"image_{row + 1:05d}.jpg"


def _state(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def _fetch(root: Path) -> str:
    """The command that mends the folder, for error messages."""
    return f"python tools/prepare_data.py flowers102 --root {shlex.quote(str(root.parent))}"


def _read_mat(path: Path, *keys: str) -> list[np.ndarray]:
    """Variables of a MATLAB file, each as int64 [n]."""
    from scipy.io import loadmat

    if kind_of(path) != "file":
        raise UserError(f"{path} is missing; run `{_fetch(path.parent)}`")
    try:
        with path.open("rb") as stream:
            content = loadmat(stream, variable_names=keys)
        arrays = [np.asarray(content[key]).ravel() for key in keys]
        if any(array.dtype.kind not in "iuf" or (array != np.floor(array)).any() for array in arrays):
            raise ValueError
        return [array.astype(np.int64) for array in arrays]
    except PermissionError:
        raise _unreadable(path) from None
    except Exception:  # on damaged files scipy raises whatever the bytes lead to
        raise _damaged(path, f"it holds no whole numbers named {' and '.join(keys)}") from None


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path} is damaged ({why}); delete it and run `{_fetch(path.parent)}`")


def _unreadable(path: Path) -> UserError:
    return UserError(f"{path} may not be read; give yourself the permission to")


def _read_labels(root: Path) -> np.ndarray:
    path = root / "imagelabels.mat"
    (labels,) = _read_mat(path, "labels")
    if len(labels) != IMAGES or not np.array_equal(np.unique(labels), np.arange(1, CLASSES + 1)):
        raise _damaged(path, f"it should hold {IMAGES} labels from 1 to {CLASSES}")
    return labels


def _read_lists(root: Path) -> dict[str, np.ndarray]:
    path = root / "setid.mat"
    ids = _read_mat(path, *(key for key, _ in _LISTS.values()))
    lengths = [length for _, length in _LISTS.values()]
    whole = np.array_equal(np.sort(np.concatenate(ids)), np.arange(1, IMAGES + 1))
    if [len(part) for part in ids] != lengths or not whole:
        raise _damaged(path, f"its lists should hold {', '.join(map(str, lengths))} images, each image once")
    return {name: part - 1 for name, part in zip(_LISTS, ids, strict=True)}


def _complete_folder(root: Path) -> list[Path] | None:
    """All photographs of an extracted `jpg/` in order, or None where the archive is to be read."""
    folder, archive = root / "jpg", root / "102flowers.tgz"
    photographs = [folder / _file_name(row) for row in range(IMAGES)]
    absent = [path for path in photographs if kind_of(path) != "file"]
    if not absent:
        return photographs
    if kind_of(archive) == "file":
        return None
    if kind_of(folder) == "folder":
        raise UserError(
            f"{folder} lacks {len(absent)} of its {IMAGES} images, {absent[0].name} for one, "
            f"and there is no {archive}; run `{_fetch(root)}`"
        )
    raise UserError(f"{archive} is missing; run `{_fetch(root)}`")


def _folder_images(photographs: list[Path]) -> Iterator[tuple[int, Load]]:
    for row, path in enumerate(photographs):
        yield row, partial(open_image, path)


def _archive_images(archive: Path) -> Iterator[tuple[int, Load]]:
    """Every image of the archive, as it streams by.

    Raises:
        UserError: when the archive is truncated or damaged, or has ended and an image is missing.
    """
    missing = set(range(IMAGES))
    try:
        # gzip.open rather than tarfile's own "r|gz": it compares the check sum at the end.
        with gzip.open(archive) as unzipped:
            with tarfile.open(fileobj=unzipped, mode="r|") as members:
                for member in members:
                    found = _MEMBER.fullmatch(member.name)
                    row = int(found[1]) - 1 if found else -1
                    if row not in missing or not member.isreg() or member.issparse():
                        continue
                    if member.size > _MAX_IMAGE_BYTES:
                        raise _damaged(archive, f"{member.name} has {member.size} bytes")
                    stream = members.extractfile(member)
                    assert stream is not None  # only None for folders and devices
                    missing.remove(row)
                    yield row, partial(open_image, stream.read())
            while unzipped.read(2**20):  # to the end, where the check sum is
                pass
    except PermissionError:
        raise _unreadable(archive) from None
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise _damaged(archive, str(error)) from None
    if missing:
        absent = f"jpg/{_file_name(min(missing))}"
        raise _damaged(archive, f"it ends without {len(missing)} of its {IMAGES} images, {absent} for one")
