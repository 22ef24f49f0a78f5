"""What frozen backbones make of images, kept on disk: runs that share a backbone and images compute it once."""

import contextlib
import functools
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from ppfsl.backbones.embedder import Embedder
from ppfsl.data.table import ImageTable
from ppfsl.distributed import ALONE, World
from ppfsl.errors import UserError
from ppfsl.files import new_array, replacing
from ppfsl.inference.engine import embed, weights_digest
from ppfsl.inference.saved import Run
from ppfsl.progress import detail, warn

_FORMAT = 1  # raise it when the same key would stand for other numbers
_BATCH = 64  # images; other batches may give other last bits


@dataclass(frozen=True)
class EmbeddingCache:
    """Files of backbone outputs, named by a hash of all that these depend on.

    Attributes:
        folder: where they lie; None: nothing is kept.
        limit: bytes of all files together; the least recently used go first, and what is larger is not kept at all.
    """

    folder: Path | None = None
    limit: int = 0

    @classmethod
    def in_folder(cls, root: Path, gigabytes: float = 4.0) -> "EmbeddingCache":
        """The one below a cache folder."""
        return cls(root / "embeddings", int(gigabytes * 1e9))

    def features(
        self,
        embedder: Embedder,
        table: ImageTable,
        rows: np.ndarray,
        progress: str | None = None,
        world: World = ALONE,
    ) -> np.ndarray:
        """The backbone's output for a table's images, in evaluation mode: float32 [M, B], to be read only.

        A file that was kept is mapped into memory, not read; one that is cut short or no such array is computed again.
        A folder that cannot be written costs a warning.

        Args:
            embedder: left as it was.
            table, rows: the images, rows int64 [M].
            progress: the progress bar's text, or None for no bar.
            world: the processes that divide the work; process 0 alone keeps files, and says whether any are kept.
        """
        shape = (len(rows), embedder.backbone_dim)

        def compute(out: np.ndarray | None = None) -> np.ndarray:
            return embed(embedder, table.images, rows, "features", _BATCH, progress, world, out)

        path = self._place(embedder, table, rows) if world.main else None
        kept = world.on_main(lambda: None if path is None else _read(path, shape))
        if path is not None:
            detail(f"embeddings {'read from' if kept is not None else 'kept in'} {path}")
        if kept is not None:
            return kept
        return compute() if path is None else self._keep(path, shape, compute)[0]

    def projected(
        self,
        embedder: Embedder,
        table: ImageTable,
        rows: np.ndarray,
        progress: str | None = None,
        world: World = ALONE,
    ) -> np.ndarray:
        """The embedder's output before normalisation, float32 [M, D]; otherwise as `features`."""
        features = self.features(embedder, table, rows, progress, world)
        if embedder.projection is None and not embedder.architecture.straightens:
            return features
        result = np.empty((len(rows), embedder.dim), dtype=np.float32)
        with paddle.no_grad():
            for start in range(0, len(rows), 1024):
                part = np.ascontiguousarray(features[start : start + 1024])
                result[start : start + len(part)] = embedder.project(paddle.to_tensor(part)).numpy()
        return result

    def remembering(self, embedder: Embedder, run: Callable[[], Run]) -> Run:
        """A function of pixels that reads embeddings of batches that it was given before, by whatever process.

        Args:
            embedder: must not change afterwards.
            run: makes the embedder a function of pixels; called when something is to be computed, once.
        """
        if self.folder is None or not self.limit:
            return run()
        folder, embedder_key, made = self.folder, _embedder_key(embedder), functools.cache(run)
        writable = True  # until a file could not be written, of which one warning is enough

        def remembered(pixels: np.ndarray) -> np.ndarray:
            nonlocal writable
            shape = (len(pixels), embedder.dim)
            if 4 * len(pixels) * embedder.dim > self.limit:
                return made()(pixels)
            digest = hashlib.sha256(embedder_key.encode())
            digest.update(repr((pixels.shape, str(pixels.dtype))).encode())
            digest.update(np.ascontiguousarray(pixels).data)
            path = folder / f"{digest.hexdigest()}.npy"
            kept = _read(path, shape)
            if kept is not None:
                return np.array(kept)
            if not writable:
                return made()(pixels)

            def compute(out: np.ndarray | None = None) -> np.ndarray:
                found = made()(pixels)
                if out is None:
                    return found
                out[:] = found
                return out

            result, writable = self._keep(path, shape, compute)
            return result

        return remembered

    def _place(self, embedder: Embedder, table: ImageTable, rows: np.ndarray) -> Path | None:
        """Where the features of such images are kept; None: nowhere."""
        if self.folder is None or not 0 < 4 * len(rows) * embedder.backbone_dim <= self.limit:
            return None
        return self.folder / f"{_key(embedder, table, rows)}.npy"

    def _keep(self, path: Path, shape: tuple[int, ...], compute: Callable[..., np.ndarray]) -> tuple[np.ndarray, bool]:
        """Compute into a file that appears when it is whole, or into memory where there can be none; which of the two.

        Once, as all processes must; what computing raises is not the file's fault.
        """
        result: np.ndarray | None = None
        computing = False
        try:
            with replacing(path) as temporary:
                out = new_array(temporary, shape, np.float32)
                computing = True
                result = compute(out)
                computing = False
                out.flush()
                if os.name == "nt":  # which renames no file that is mapped
                    del out
                    result = None
        except (OSError, UserError) as error:
            if computing:
                raise
            reason = error.strerror if isinstance(error, OSError) else error
            warn(f"embeddings are not kept in {path.parent}: {reason}")
            return compute() if result is None else result, False
        self._prune(path)
        kept = _read(path, shape)
        result = result if kept is None else kept
        return compute() if result is None else result, True

    def _prune(self, newest: Path) -> None:
        """Remove the least recently used files until the others fit, and what killed runs left a day ago."""
        files = []
        for file in newest.parent.iterdir():
            with contextlib.suppress(OSError):  # another run may have removed it
                found = file.stat()
                if file.suffix == ".npy":
                    files.append((file != newest, -found.st_mtime, found.st_size, file))
                elif file.suffix == ".tmp" and time.time() - found.st_mtime > 24 * 3600:
                    file.unlink()
        total = 0
        for _, _, size, file in sorted(files):
            total += size
            if total > self.limit and file != newest:
                with contextlib.suppress(OSError):
                    file.unlink()


NO_CACHE = EmbeddingCache()


def _read(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The array in a file, mapped into memory; None when it is absent or not such an array."""
    try:
        array = np.load(path, mmap_mode="r")
        whole = array.offset + array.nbytes == path.stat().st_size
        if array.shape != shape or array.dtype != np.float32 or not array.flags.c_contiguous or not whole:
            return None
    except Exception:  # numpy raises whatever it stumbles over in a damaged header
        return None
    with contextlib.suppress(OSError):  # a folder of somebody else's may be read all the same
        os.utime(path)
    return array


def _embedder_key(embedder: Embedder) -> str:
    """A hash of all that embeddings depend on beside the pixels."""
    facts = {**_computing(), "architecture": embedder.architecture.to_json(), "weights": weights_digest(embedder)}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _computing() -> dict[str, Any]:
    """What computes the numbers."""
    return {"format": _FORMAT, "paddle": paddle.__version__, "device": paddle.get_device().partition(":")[0]}


def _key(embedder: Embedder, table: ImageTable, rows: np.ndarray) -> str:
    """A hash of all that the numbers depend on: weights, architecture, images, their order, and what computes them."""
    architecture = embedder.architecture.to_json()
    for after in ("projection", "power", "centered", "whitened"):
        del architecture[after]
    if not architecture["mirror"]:
        del architecture["mirror"]  # which older files do not name
    facts: dict[str, Any] = {
        **_computing(),
        "batch": _BATCH,
        "architecture": architecture,
        "table": table.hash,
        "weights": weights_digest(embedder.backbone),
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(rows, dtype=np.int64).tobytes())
    return digest.hexdigest()
