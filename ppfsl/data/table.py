"""The image table: every image of a data set decoded once, cached on disk, memory-mapped afterwards."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ppfsl.data.decode import to_square
from ppfsl.data.source import Load, Source
from ppfsl.errors import UserError
from ppfsl.files import make_folder, new_array, sync_folder
from ppfsl.progress import detail, progress_bar

_FORMAT = 1  # raise it when the decoding or the layout below changes


@dataclass(frozen=True)
class ImageTable:
    """The decoded images of a data set.

    Attributes:
        name: the data set's name.
        images: uint8 [N, S, S, C], memory-mapped and read-only; C is 3 (RGB) or 1 (grey).
        labels: int64 [N], the data set's own labels.
        class_names: label -> name.
        files: one name per image, as in the source.
        lists: official lists by name, int64 image indices.
        hash: sha256 of the pixels and labels, 64 hexadecimal digits.
        skipped: files left out because they are corrupt (`on_corrupt="skip"`).
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    class_names: dict[int, str]
    files: tuple[str, ...]
    lists: dict[str, np.ndarray]
    hash: str
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


def load_table(
    source: Source,
    cache: Path,
    size: int,
    channels: int = 3,
    on_corrupt: Literal["error", "skip"] = "error",
    progress: bool = True,
) -> ImageTable:
    """The table of a source, from the cache when it holds it, else decoded and cached.

    Images are resized so that the shorter side is `size` pixels (bilinear) and cropped at the centre. The cache is one
    folder per source, size and channels; it is replaced when the source's files have changed, and rebuilt when it is
    incomplete. Runs that build it at once each build their own copy, and one of them stays.

    Raises:
        UserError: for a corrupt image (unless `on_corrupt` is "skip"), a source without images, an unwritable cache.
    """
    if not source.files:
        raise UserError(f"{source.name} holds no images")
    identity = {"format": _FORMAT, "source": source.identity, "size": size, "channels": channels, "skip": on_corrupt}
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    place = hashlib.sha256(json.dumps([_place(source.identity), on_corrupt]).encode()).hexdigest()[:8]
    folder = cache / f"{source.name}-{size}px-{channels}ch-{place}"
    table = _open(folder, fingerprint)
    if table is None:
        make_folder(cache)
        _sweep(cache)
        _build(source, folder, fingerprint, size, channels, on_corrupt, progress)
        table = _open_soon(folder, fingerprint)
        if table is None:  # another run with other source files has just replaced it
            raise UserError(f"the cache {folder} was changed by another run; run the command again")
    detail(f"{table.name}: {len(table)} images of {len(table.class_names)} classes, decoded in {folder}")
    return table


def _place(identity: Any) -> Any:
    """What tells two sources of one name apart: where they lie and in which variant, not what state they are in."""
    if not isinstance(identity, dict):
        return None
    return [identity.get("root"), identity["variant"]] if "variant" in identity else identity.get("root")


def _open(folder: Path, fingerprint: str) -> ImageTable | None:
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        if index["fingerprint"] != fingerprint:
            return None
        images = np.load(folder / "images.npy", mmap_mode="r")
        if list(images.shape) != index["shape"] or images.dtype != np.uint8:
            return None
        return ImageTable(
            name=index["name"],
            images=images,
            labels=np.asarray(index["labels"], dtype=np.int64),
            class_names={int(label): name for label, name in index["class_names"].items()},
            files=tuple(index["files"]),
            lists={name: np.asarray(rows, dtype=np.int64) for name, rows in index["lists"].items()},
            hash=index["hash"],
            skipped=tuple(index["skipped"]),
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _open_soon(folder: Path, fingerprint: str, seconds: float = 1.0) -> ImageTable | None:
    """The table, for which a moment is waited: a run that puts its own in place first moves the other one away."""
    end = time.monotonic() + seconds
    while (table := _open(folder, fingerprint)) is None and time.monotonic() < end:
        time.sleep(0.01)
    return table


def _build(
    source: Source, folder: Path, fingerprint: str, size: int, channels: int, on_corrupt: str, progress: bool
) -> None:
    """Decode every image into a folder of its own, then put that folder in place by renaming."""
    try:
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".building-"))
    except OSError as error:
        raise UserError(
            f"cannot write in {folder.parent}: {error.strerror}; set data.cache_dir to another folder"
        ) from None
    try:
        shape = (len(source.files), size, size, channels)
        raw = new_array(temporary / "raw.npy", shape, np.uint8)
        corrupt = _decode_all(source, raw, size, channels, on_corrupt, progress)
        kept = np.asarray([row for row in range(len(source.files)) if row not in corrupt], dtype=np.int64)
        if not len(kept):
            raise UserError(f"every image of {source.name} is corrupt, {source.files[0]} for one")
        labels = source.labels[kept]
        digest = hashlib.sha256(labels.tobytes())
        if corrupt:
            images = new_array(temporary / "images.npy", (len(kept), *shape[1:]), np.uint8)
            for new, old in enumerate(kept):
                images[new] = raw[old]
            images.flush()
            (temporary / "raw.npy").unlink()
        else:
            images = raw
            (temporary / "raw.npy").rename(temporary / "images.npy")
        for start in range(0, len(kept), 256):
            digest.update(images[start : start + 256].tobytes())
        images.flush()
        new_row = np.full(len(source.files), -1, dtype=np.int64)
        new_row[kept] = np.arange(len(kept))
        index = {
            "fingerprint": fingerprint,
            "name": source.name,
            "shape": list(images.shape),
            "hash": digest.hexdigest(),
            "labels": labels.tolist(),
            "class_names": source.class_names,
            "files": [source.files[row] for row in kept],
            "lists": {name: [int(row) for row in new_row[rows] if row >= 0] for name, rows in source.lists.items()},
            "skipped": [source.files[row] for row in sorted(corrupt)],
        }
        (temporary / "index.json").write_text(json.dumps(index, ensure_ascii=False), encoding="utf-8")
        for name in ("images.npy", "index.json"):
            with (temporary / name).open("rb") as stream:
                os.fsync(stream.fileno())
        _put_in_place(temporary, folder, fingerprint)
    except OSError as error:
        raise UserError(
            f"cannot write the image cache in {folder.parent}: {error.strerror or error}; make room there, "
            "or set data.cache_dir to another folder"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _decode_all(
    source: Source, out: np.ndarray, size: int, channels: int, on_corrupt: str, progress: bool
) -> dict[int, str]:
    """Fill `out` row by row in parallel; the corrupt images, index -> what is wrong with them."""
    corrupt: dict[int, str] = {}
    given = np.zeros(len(source.files), dtype=np.int64)

    def decode(row: int, load: Load) -> tuple[int, np.ndarray | str]:
        try:
            return row, to_square(load(), size, channels)
        except (OSError, ValueError) as error:
            return row, str(error)

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        text = f"decoding {source.name}" if progress else None
        with progress_bar(len(source.files), text, "img") as bar:
            for row, result in _bounded_map(pool, decode, source.images()):
                given[row] += 1
                if isinstance(result, str):
                    if on_corrupt == "error":
                        raise UserError(
                            f"{source.files[row]} is not a readable image ({result}); "
                            "replace it, or set data.on_corrupt to skip"
                        )
                    corrupt[row] = result
                else:
                    out[row] = result
                bar.update()
    if (wrong := np.flatnonzero(given != 1)).size:  # rows that nobody filled would be black images
        file, times = source.files[wrong[0]], given[wrong[0]]
        raise ValueError(f"a bug in the source {source.name}: its images() gave {file} {times} times, not once")
    return corrupt


def _bounded_map(pool: ThreadPoolExecutor, function: Any, items: Iterator[tuple[int, Load]]) -> Iterator[Any]:
    """Like `pool.map`, but no further ahead of the reader than keeps the memory small."""
    waiting: deque[Future[Any]] = deque()
    try:
        for row, load in items:
            waiting.append(pool.submit(function, row, load))
            if len(waiting) >= 64:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _put_in_place(temporary: Path, folder: Path, fingerprint: str) -> None:
    """Rename a finished cache to its name; where another run was faster with the same content, keep that one."""
    for _ in range(10):
        if _open(folder, fingerprint) is not None:
            return
        if folder.exists():
            stale = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".stale-"))
            with contextlib.suppress(OSError):  # another run may have moved it first
                folder.rename(stale / "cache")
            shutil.rmtree(stale, ignore_errors=True)
        try:
            temporary.rename(folder)
            sync_folder(folder.parent)
            return
        except OSError:  # another run's rename came between
            continue


def _sweep(cache: Path, older_than: float = 24 * 3600.0) -> None:
    """Remove what killed builds left behind, once it is old enough to be nobody's (seconds)."""
    for pattern in (".building-*", ".stale-*"):
        for folder in cache.glob(pattern):
            with contextlib.suppress(OSError):
                if time.time() - folder.stat().st_mtime > older_than:
                    shutil.rmtree(folder, ignore_errors=True)
