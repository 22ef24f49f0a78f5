"""Curves, pictures and embeddings for VisualDL, where it is installed; nothing where it is not."""

import functools
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ppfsl.data.names import printable
from ppfsl.files import make_folder

HISTOGRAM_BINS = 30


class VisualDL:
    """Writes one VisualDL log of a run; when VisualDL is not installed, every call does nothing.

    VisualDL shows a single log file per folder, the newest. So each log has a folder of its own, and opening it again
    begins it anew.
    """

    def __init__(self, run: Path, part: str = "") -> None:
        """Open `vdl/` (the curves) or a folder in it, such as `vdl/pictures`.

        Args:
            run: the run directory.
            part: name of the folder inside `vdl/`; empty for `vdl/` itself, which belongs to the `MetricLog`.
        """
        folder = run / "vdl" / part
        make_folder(folder)
        for old in folder.glob("vdlrecords.*"):
            old.unlink()
        log_writer = _log_writer()
        self._writer: Any = log_writer(logdir=str(folder)) if log_writer else None

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Add a point to a curve."""
        if self._writer:
            self._writer.add_scalar(tag=_tag(tag), value=float(value), step=int(step))

    def image(self, tag: str, image: np.ndarray, step: int = 0) -> None:
        """Add a picture: uint8 [H, W, C], C is 3 (RGB) or 1 (grey)."""
        if self._writer:
            image = np.asarray(image, dtype=np.uint8)
            if image.max(initial=0) <= 1:
                image = np.where(image > 0, 2, 0).astype(np.uint8)  # VisualDL would take 0 and 1 for black and white
            self._writer.add_image(tag=_tag(tag), img=image, step=int(step))

    def histogram(self, tag: str, values: np.ndarray, step: int = 0) -> None:
        """Add the distribution of some numbers, of any shape."""
        if self._writer:
            self._writer.add_histogram(_tag(tag), np.ravel(values), int(step), buckets=HISTOGRAM_BINS)

    def embeddings(self, tag: str, matrix: np.ndarray, labels: Sequence[str]) -> None:
        """Add embeddings for VisualDL's projector.

        Args:
            tag: name of the set.
            matrix: [N, D], one embedding a row.
            labels: N class names.
        """
        if len(matrix) != len(labels):
            raise ValueError(f"{len(matrix)} embeddings, but {len(labels)} labels")
        if self._writer and len(matrix):
            rows = np.asarray(matrix, dtype=np.float64).tolist()
            # Without a header: the page takes the line of a single column's header for one more label, and gives up.
            names = [printable(label) for label in labels]
            self._writer.add_embeddings(tag=_tag(tag), mat=rows, metadata=names)

    def flush(self) -> None:
        """Hand everything to the file system."""
        if self._writer:
            self._writer.flush()

    def close(self) -> None:
        """Write what is pending and close the file; calling it again does nothing."""
        if self._writer:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> "VisualDL":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _tag(tag: str) -> str:
    """A tag that VisualDL takes: it refuses "%", and text that is not UTF-8; both may be in a class name."""
    return printable(tag).replace("%", "_")


@functools.cache
def _log_writer() -> Any:
    """VisualDL's `LogWriter`, or None after one warning; imported on first use, since it takes a quarter second."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from visualdl import LogWriter
    except (ImportError, OSError) as error:  # OSError: it writes into the home directory when imported
        logging.getLogger(__name__).warning(
            "VisualDL cannot be used (%s); metrics.jsonl and the report hold the same numbers. "
            "To have it: pip install visualdl",
            error,
        )
        return None
    return LogWriter
