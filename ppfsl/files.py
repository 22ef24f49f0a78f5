"""Files that appear whole or not at all: write to a temporary name, sync, rename."""

import contextlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from ppfsl.errors import UserError


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
    """Yield a temporary path beside `path`; on success sync it and rename it to `path`.

    When the body raises, the temporary file goes away and `path` stays as it was.

    Raises:
        UserError: when the folder cannot be created or written.
    """
    temporary = _temporary_beside(path)
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())
        _refuse_folder(path)
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Raise now what `replacing` would raise after the work.

    Raises:
        UserError: when the file is a folder, or its folder cannot be created or written.
    """
    _refuse_folder(path)
    _temporary_beside(path).unlink()


def _temporary_beside(path: Path) -> Path:
    make_folder(path.parent)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:
        raise UserError(f"cannot write in {path.parent}: {error.strerror}; choose another folder") from None
    os.close(handle)
    return Path(name)


def _refuse_folder(path: Path) -> None:
    if kind_of(path) == "folder":
        raise UserError(f"cannot write {path}: it is a folder; remove it or choose another name")


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
        UserError: when the file is missing, is not JSON, or `check` raises KeyError, TypeError or ValueError.
    """
    try:
        return check(json.loads(path.read_text(encoding="utf-8")))
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
