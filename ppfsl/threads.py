"""How many threads of Paddle's operators a run gets: the cores of this machine that other work leaves."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

_MOST = 8  # beyond which nothing has been measured
_WATCH = 0.1  # seconds


def choose_threads(wanted: int | Literal["auto"], before: int | None = None) -> int:
    """The number of threads to run with.

    A number in the environment variable `OMP_NUM_THREADS` wins over everything else.

    Args:
        wanted: a number, or "auto": `before` where there is such a run, else the physical cores that are idle now, at
            least 1 and at most 8, divided among the processes that `paddle.distributed.launch` has started here.
        before: with how many threads the run that this one goes on with was started; the last bits depend on it.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    if wanted != "auto":
        return wanted
    if before is not None:
        return before
    local = os.environ.get("PADDLE_LOCAL_SIZE", "")
    processes = int(local) if local.isdecimal() and int(local) > 0 else 1
    cores = physical_cores()
    # A process of several may see the others start up, which is not other work.
    free = cores if cores == 1 or processes > 1 else cores - round(busy_cores())
    return max(1, min(free // processes, _MOST))


def physical_cores() -> int:
    """Cores that this process may use: hardware threads of one core count once, a container's quota counts."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    cores = len({_core(number) for number in allowed})
    return max(1, min([cores, *(int(quota) for quota in _quotas())]))


def _core(number: int) -> tuple[str, str]:
    """What tells the core of a hardware thread from others."""
    folder = Path(f"/sys/devices/system/cpu/cpu{number}/topology")
    try:
        package, core = ((folder / name).read_text() for name in ("physical_package_id", "core_id"))
    except OSError:
        return "", str(number)
    return package, core


def _quotas() -> Iterator[float]:
    """How many cores' time Linux allows a container, if it sets a limit (control groups of version 2)."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        yield int(limit) / int(period)
    except (OSError, ValueError):
        return


def busy_cores() -> float:
    """How many cores are at work now: watched for a moment on Linux, elsewhere the average of the last minute."""
    first = _times()
    if first is None:
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    time.sleep(_WATCH)
    second = _times() or first
    total, idle = (after - before for before, after in zip(first, second, strict=True))
    return (os.cpu_count() or 1) * (1 - idle / total) if total > 0 else 0.0


def _times() -> tuple[int, int] | None:
    """Total and idle time of all processors since the start of the system; None where it does not tell."""
    try:
        with Path("/proc/stat").open(encoding="ascii") as stream:
            # user nice system idle iowait irq softirq steal; guests' times, which follow, are in user's already
            fields = [int(value) for value in stream.readline().split()[1:9]]
        return sum(fields), fields[3] + fields[4]
    except (OSError, ValueError, IndexError):
        return None
