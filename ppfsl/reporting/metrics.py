"""The log of a run: `metrics.jsonl`, the source of truth, mirrored into VisualDL as it grows."""

import json
import math
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from ppfsl.errors import UserError
from ppfsl.files import make_folder
from ppfsl.reporting.visualdl import VisualDL

FILE_NAME = "metrics.jsonl"


class MetricLog:
    """Scalars of a run, in `metrics.jsonl` and, as they come, in VisualDL.

    Every row is one JSON object on one line, written in one piece, so that a killed run tears at most its last line.
    """

    def __init__(self, run: Path, keep_bytes: int | None = None, visualdl: bool = True) -> None:
        """Open the log of a run for appending.

        Args:
            run: the run directory; created when missing.
            keep_bytes: how much of an existing log to keep: what `sync` returned when the checkpoint that training
                resumes from was written. None or 0 starts afresh.
            visualdl: mirror the rows into `vdl/`. Its old curves go first and the kept rows are replayed, so that
                each step appears once however often the run was interrupted.

        Raises:
            UserError: when the log holds less than `keep_bytes`, or does not end a line there.
        """
        make_folder(run)
        path = run / FILE_NAME
        kept = _kept_rows(path, keep_bytes or 0)
        try:
            self._file = path.open("ab", buffering=0)  # unbuffered: one write a line
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}; choose another output_dir") from None
        self._file.truncate(keep_bytes or 0)
        self._mirror = VisualDL(run) if visualdl else None
        for row in kept:
            self._show(row)

    def log(self, step: int, epoch: int, split: str, name: str, value: float) -> None:
        """Append one row.

        Args:
            step: optimizer steps so far, over all stages.
            epoch: epochs so far, over all stages.
            split: "base", "validation" or "novel".
            name: the stage and the quantity, such as "1_cross_entropy/loss".
            value: a finite number.

        Raises:
            ValueError: when the value is NaN or infinite, which JSON cannot hold.
        """
        value = float(value)
        if not math.isfinite(value):
            raise ValueError(f"{split}/{name} is {value} at step {step}")
        row = {"step": int(step), "epoch": int(epoch), "split": split, "name": name, "value": value}
        self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self._show(row)

    def sync(self) -> int:
        """Make every row durable; return the size of `metrics.jsonl` in bytes, for a checkpoint to store."""
        os.fsync(self._file.fileno())
        if self._mirror:
            self._mirror.flush()
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Make every row durable and close the files; calling it again does nothing."""
        if not self._file.closed:
            self.sync()
            self._file.close()
            if self._mirror:
                self._mirror.close()

    def __enter__(self) -> "MetricLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _show(self, row: dict[str, Any]) -> None:
        if self._mirror:
            self._mirror.scalar(f"{row['split']}/{row['name']}", row["value"], row["step"])


class NoMetricLog:
    """The log of a process that writes none."""

    def log(self, step: int, epoch: int, split: str, name: str, value: float) -> None:
        """Do nothing."""

    def sync(self) -> int:
        """0."""
        return 0

    def __enter__(self) -> "NoMetricLog":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's log, oldest first; none when it has no log.

    A last line without its line feed, which a killed run may leave, is ignored.

    Raises:
        UserError: when another line is not a row.
    """
    path = run / FILE_NAME
    return _parse(path, path.read_bytes()) if path.exists() else []


def _kept_rows(path: Path, keep_bytes: int) -> list[dict[str, Any]]:
    if not keep_bytes:
        return []
    content = path.read_bytes() if path.exists() else b""
    if len(content) < keep_bytes or content[keep_bytes - 1 : keep_bytes] != b"\n":
        raise UserError(
            f"{path} is not the log that the checkpoint was written with ({keep_bytes} bytes of it expected); "
            "put it back, or delete the checkpoints to start afresh"
        )
    return _parse(path, content[:keep_bytes])


def _parse(path: Path, content: bytes) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        try:
            row = json.loads(line)
            rows.append({key: row[key] for key in ("step", "epoch", "split", "name", "value")})
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path}, line {number} is not a row of the log; delete that line") from None
    return rows
