"""What the programs share; runs without ppfsl, since peers have a Python of their own."""

import json
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any


def report(**facts: Any) -> None:
    """Print a program's figures, its peak memory with them."""
    print(json.dumps({"peak_gb": peak_gb(), **facts}))


def peak_gb() -> float | None:
    """The most memory that this process has held, in GB, pages of mapped files included."""
    try:
        import resource
        import sys
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


class PrivateMemory:
    """The most private memory (pages of mapped files left out) that the process holds in a `with` block, in GB.

    Looked at every 20 ms, in another thread; NaN where Linux's /proc is absent.
    """

    peak = float("nan")

    def __enter__(self) -> "PrivateMemory":
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        status = Path("/proc/self/status")
        if not status.exists():
            return
        self.peak = 0.0
        while True:
            for line in status.read_text(encoding="utf-8").splitlines():
                if line.startswith("RssAnon:"):
                    self.peak = max(self.peak, int(line.split()[1]) * 1024 / 1e9)
            if self._done.wait(0.02):
                return


def step_seconds(step: Callable[[], None], count: int) -> float:
    """The median of `count` calls' seconds, after one that is not counted."""
    step()
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


class Watched:
    """Images that note when a batch of them is taken.

    Attributes:
        images: [N, ...].
        taken: seconds of a clock.
    """

    def __init__(self, images: Any) -> None:
        self.images = images
        self.taken: list[float] = []

    def __getitem__(self, rows: Any) -> Any:
        self.taken.append(time.perf_counter())
        return self.images[rows]


def rate_and_setup(embed: Callable[[Any, int], Any], images: Any, batch: int) -> tuple[float, float, Any]:
    """Images per second once it runs, the seconds that the first call takes beside that, and what the second one gave.

    The first call has one batch. The rate is that of the median time from one batch to the next in the second call.

    Args:
        embed: of the first images, so many, taken from the given ones in batches.
        images: [N, ...], whole batches, two at least.
        batch: images at a time.
    """
    start = time.perf_counter()
    embed(images, batch)
    first = time.perf_counter() - start
    watched = Watched(images)
    embedded = embed(watched, len(images))
    each = statistics.median(after - before for before, after in pairwise(watched.taken))
    return batch / each, max(first - each, 0.0), embedded


def median_of(call: Callable[[], tuple[float, Any]], repeats: int) -> tuple[float, Any]:
    """The median of the seconds that so many calls tell, and what the last one gave."""
    told = [call() for _ in range(repeats)]
    return statistics.median(seconds for seconds, _ in told), told[-1][1]


def rounded(values: Sequence[float], digits: int = 6) -> list[float]:
    """Numbers short enough to be printed."""
    return [round(float(value), digits) for value in values]
