"""Progress bars, and lines that do not tear them; of several processes, the first alone shows them."""

import sys
from typing import Any

from tqdm import tqdm

from ppfsl.distributed import launched


def progress_bar(total: int, text: str | None, unit: str, leave: bool = True) -> "tqdm[Any]":
    """A progress bar on stderr, quick on a terminal, a line every half minute in a log file.

    Args:
        total: how many units there are.
        text: what is going on, or None for no bar at all.
        unit: its name, such as "img".
        leave: whether the finished bar stays on the screen.
    """
    interval = 0.1 if sys.stderr.isatty() else 30.0
    return tqdm(
        total=total,
        desc=text,
        unit=unit,
        leave=leave and sys.stderr.isatty(),
        disable=text is None or not launched().main,
        mininterval=interval,
        maxinterval=max(interval, 10.0),
        delay=0.5,
    )


def say(line: str) -> None:
    """Print a line on stderr, above any bar."""
    if launched().main:
        tqdm.write(line, file=sys.stderr)
