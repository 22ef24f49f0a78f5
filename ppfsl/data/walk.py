"""What lies below a folder, whoever asks: readers of data sets and of people's own pictures."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path


def files_below(folder: Path, root: Path, failed: Callable[[OSError], None]) -> Iterator[Path]:
    """Everything below a folder that is no folder, as paths that begin with `folder`, in no order.

    Hidden files and folders are left out. Links to folders are followed where they lead to what is not found below
    `root` anyhow, but never up, and into no folder twice: loops of links end, and classes do not mix.

    Args:
        folder: at or below `root`.
        root: of the whole tree.
        failed: is told of each folder that cannot be read, with its name as `filename`; it may raise.
    """
    inside, entered = root.resolve(), {folder.resolve()}
    waiting = [(folder, folder.resolve())]  # as named, and where it really is
    while waiting:
        place, real = waiting.pop()
        for entry in _entries(place, failed):
            path, target = place / entry.name, real / entry.name
            try:
                is_folder = entry.is_dir()
            except OSError as error:
                if error.errno != errno.ELOOP:  # a link to where one may not look
                    failed(error)
                    continue
                is_folder = False  # a link that leads nowhere
            if not is_folder:
                yield path
                continue
            if entry.is_symlink():
                target = path.resolve()
                if not _leads_out(target, real, inside):
                    continue
            if target not in entered:
                entered.add(target)
                waiting.append((path, target))


def _entries(folder: Path, failed: Callable[[OSError], None]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
            # Of several ways to a folder always the same one is taken, a link only where there is nothing else.
            return sorted(found, key=lambda entry: (entry.is_symlink(), entry.name))
    except OSError as error:
        failed(error)
        return []


def _leads_out(target: Path, place: Path, root: Path) -> bool:
    """Whether a link in a place leads to a folder that is neither above it or the root, nor found below the root."""
    if place.is_relative_to(target) or root.is_relative_to(target):
        return False
    return not target.is_relative_to(root) or any(part.startswith(".") for part in target.relative_to(root).parts)
