"""Files that appear whole or not at all: write to a temporary name, sync, rename."""

import contextlib
import json
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from ppfsl.errors import UserError
from ppfsl.notation import parse_json

_PREFIX, _SUFFIX = ".ppfsl-", ".tmp"  # of temporary files


def kind_of(path: Path) -> Literal["file", "folder", "other"] | None:
    """What a path that somebody has named leads to; None: nothing.

    `Path.is_file` and its like raise what the system says, or, in newer Pythons, say that nothing is there.

    Raises:
        UserError: when the system does not tell, since a folder may not be entered, a name is too long and the like.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: no path has such a character
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be looked up: {error.strerror}; mend that, or name another path") from None
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"


def check_readable(path: Path) -> None:
    """Raise where a file may not be read, of which readers in other languages say that it is not there or damaged.

    Raises:
        UserError: saying why.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; mend that, or name another file") from None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path; on success sync it and rename it to `path`, or to what `path` is a symbolic link to.

    When the body raises, the temporary file goes away and `path` stays as it was.

    Raises:
        UserError: when the folder cannot be created or written, or `path` is something else than a file.
    """
    with replacing_all([path]) as (temporary,):
        yield temporary


@contextlib.contextmanager
def replacing_all(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """The same for files that belong together: none is renamed before all are written."""
    targets, temporaries = [_target(path) for path in paths], list[Path]()
    try:
        for target in targets:
            temporaries.append(_temporary_beside(target))
        yield temporaries
        for path, temporary in zip(paths, temporaries, strict=True):
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.chmod(0o666 & ~_umask())
            _target(path)  # hours may have passed
        for temporary, target in zip(temporaries, targets, strict=True):
            temporary.replace(target)
        for folder in {target.parent for target in targets}:
            sync_folder(folder)
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


def sweep(folder: Path, older: float = 0.0) -> None:
    """Remove temporary files that killed processes left in a folder.

    Args:
        folder: where no other process is writing.
        older: seconds since the last change of those to be removed, where one may be.
    """
    for leftover in folder.glob(f"{_PREFIX}????????{_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime >= older:
                leftover.unlink()


def check_writable(path: Path) -> None:
    """Raise now what `replacing` would raise after the work.

    Raises:
        UserError: when there is something else than a file, or its folder cannot be created or written.
    """
    _temporary_beside(_target(path)).unlink()


def check_replaceable(path: Path, kind: str, check: Callable[[Path], object]) -> None:
    """Raise where a file that the user names cannot be written, or would take the place of one of another kind.

    Args:
        path: of the file to be written; an empty one may always be replaced.
        kind: of file, in words.
        check: raises UserError for files of other kinds.

    Raises:
        UserError: saying which.
    """
    check_writable(path)
    if path.is_file() and path.stat().st_size:
        try:
            check(path)
        except UserError:
            raise UserError(f"cannot write {path}: it exists and is no {kind}; choose another name") from None


def _target(path: Path) -> Path:
    """The file to be replaced: symbolic links stay, and lead to it."""
    make_folder(path.parent)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another name") from None
    if not stat.S_ISREG(mode):
        kind = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}.get(stat.S_IFMT(mode), "device")
        raise UserError(f"cannot write {path}: it is a {kind}; choose another name")
    return path.resolve() if path.is_symlink() else path


def _temporary_beside(path: Path) -> Path:
    try:  # a short name: the target's own may be as long as names can be
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_PREFIX, suffix=_SUFFIX)
    except OSError as error:
        raise UserError(f"cannot write in {path.parent}: {error.strerror}; choose another folder") from None
    os.close(handle)
    return Path(name)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all (UTF-8)."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all; NaN and infinities are refused, since JSON has none."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1)
    # A list of numbers reads better on one line. Line breaks occur between values alone, never inside a string.
    text = re.sub(r"\[\n([-+.\deE,\s]+)\]", lambda numbers: f"[{' '.join(numbers.group(1).split())}]", text)
    write_text(path, text + "\n")


def new_array(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> np.memmap:
    """An array in a file, mapped into memory, its room reserved: running out later would kill the process."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return array


def make_folder(path: Path) -> None:
    """Create a folder and its parents.

    Raises:
        UserError: when that is not possible, saying why.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create the folder {path}: {error.strerror}; choose another one") from None


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a folder for this process, where the system can; the end of the process frees it, however it ends.

    Raises:
        UserError: when another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}; mend that, or choose another output_dir") from None
    try:
        with contextlib.suppress(OSError):  # file systems without locks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another process is at work in {folder}; wait until it ends, or choose another output_dir"
                ) from None
        yield
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Make a rename inside a folder durable, where the system can (Windows cannot)."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_json(path: Path, check: Callable[[Any], Any] = lambda value: value) -> Any:
    """The value in a JSON file, passed through `check`.

    Raises:
        UserError: when the file is missing, is not JSON or gives a key twice, or `check` raises KeyError, TypeError or
            ValueError.
    """
    try:
        return check(parse_json(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except KeyError as error:
        raise UserError(f"{path} cannot be used: it has no key {error!s}") from None
    except (OSError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be used: {error!s}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
