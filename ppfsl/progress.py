"""Progress bars, and lines that do not tear them; of several processes, the first alone shows them.

How much is shown is the command line's to choose, once, before anything else: see `set_talk`.
"""

import sys
from typing import Any, Literal

from tqdm import tqdm

from ppfsl.distributed import launched

Talk = Literal["quiet", "normal", "verbose"]
_talk: Talk = "normal"


def set_talk(talk: Talk) -> None:
    """Choose what is shown beside results and errors.

    Args:
        talk: "quiet": warnings alone; "normal": progress as well; "verbose": details as well.
    """
    global _talk
    _talk = talk


def verbose() -> bool:
    """Whether details are shown."""
    return _talk == "verbose"


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
        disable=text is None or _talk == "quiet" or not launched().main,
        mininterval=interval,
        maxinterval=max(interval, 10.0),
        delay=0.5,
    )


def say(line: str) -> None:
    """Print a line of progress on stderr, above any bar."""
    if _talk != "quiet":
        _print(line)


def warn(line: str) -> None:
    """Print a warning on stderr, whatever the user chose to see."""
    _print(f"warning: {line}")


def detail(line: str) -> None:
    """Print a line on stderr that only those need who ask for details."""
    if _talk == "verbose":
        _print(line)


def _print(line: str) -> None:
    if launched().main:
        tqdm.write(line, file=sys.stderr)
