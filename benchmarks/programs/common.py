"""What the programs share; runs without ppfsl, since peers have a Python of their own."""

import json
import statistics
import threading
import time
from collections.abc import Callable, Sequence
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


def rate_and_setup(embed: Callable[[int], Any], batch: int, batches: int) -> tuple[float, float]:
    """Images per second once it runs, and the seconds that a call takes beside that.

    A call with one batch and one with more differ by what the batches take, whatever a call sets up first. The first
    call of all is not counted.

    Args:
        embed: of so many images.
        batch: images at a time.
        batches: by which the two calls differ.
    """
    embed(batch)
    small, large = (_seconds(embed, count) for count in (batch, batch * (1 + batches)))
    rate = batch * batches / max(large - small, 1e-9)
    return rate, max(small - batch / rate, 0.0)


def _seconds(call: Callable[[int], Any], count: int) -> float:
    start = time.perf_counter()
    call(count)
    return time.perf_counter() - start


def rounded(values: Sequence[float], digits: int = 6) -> list[float]:
    """Numbers short enough to be printed."""
    return [round(float(value), digits) for value in values]
