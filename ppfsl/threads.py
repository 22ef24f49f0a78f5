"""How many threads of Paddle's operators a run gets: the cores of this machine that other work leaves."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

from ppfsl.errors import UserError

MOST_THREADS = 1024  # with several thousand Paddle hangs on small machines, with far more it crashes
_MOST = 8  # beyond which nothing has been measured
_WATCH = 0.1  # seconds


def choose_threads(wanted: int | Literal["auto"], before: int | None = None) -> int:
    """The number of threads to run with.

    A number in the environment variable `OMP_NUM_THREADS` wins over everything else.

    Args:
        wanted: a number, or "auto": `before` where there is such a run, else the physical cores that are idle now, at
            least 1 and at most 8, divided among the processes that `paddle.distributed.launch` has started here.
        before: with how many threads the run that this one goes on with was started; the last bits depend on it. It may
            have had fewer processes: no more than there are cores for them all.

    Raises:
        UserError: when `OMP_NUM_THREADS` is more than Paddle bears.
    """
    given = given_threads()
    if given is not None:
        return given
    if wanted != "auto":
        return wanted
    processes, free = _local_processes(), physical_cores()
    if before is not None:
        return before if processes == 1 else max(1, min(before, free // processes))
    if free > 1 and processes == 1:  # a process of several may see the others start up, which is not other work
        free = min(free, _cores() - round(busy_cores()))
    return max(1, min(free // processes, _MOST))


def given_threads() -> int | None:
    """The number in `OMP_NUM_THREADS`, the first one of a list; None: there is none, or nobody has asked for it.

    `paddle.distributed.launch` imports Paddle, which sets 1 where nothing is set, and its processes inherit that.

    Raises:
        UserError: when it is more than Paddle bears.
    """
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if not first.isdecimal() or int(first) == 0:
        return None
    if int(first) == 1 and "PADDLE_TRAINER_ID" in os.environ and not _launcher_was_told():
        return None
    if int(first) > MOST_THREADS:
        raise UserError(f"OMP_NUM_THREADS is {first}, and at most {MOST_THREADS} threads are possible; set fewer")
    return int(first)


def _launcher_was_told() -> bool:
    """Whether `OMP_NUM_THREADS` was set when the process that started this one was started; true if unknown."""
    try:
        environment = Path(f"/proc/{os.getppid()}/environ").read_bytes()
    except OSError:
        return True
    return any(entry.startswith(b"OMP_NUM_THREADS=") for entry in environment.split(b"\0"))


def _local_processes() -> int:
    """How many processes `paddle.distributed.launch` has started on this host."""
    local = os.environ.get("PADDLE_LOCAL_SIZE", "")
    if local.isdecimal():
        return max(1, int(local))
    # The launcher that `--backend` selects does not say.
    own, every = (os.environ.get(f"PADDLE_{key}", "") for key in ("CURRENT_ENDPOINT", "TRAINER_ENDPOINTS"))
    return max(1, [place.rpartition(":")[0] for place in every.split(",")].count(own.rpartition(":")[0]))


def physical_cores() -> int:
    """Cores that this process may use: hardware threads of one core count once, a container's quota counts."""
    return max(1, min([_cores(), *(int(quota) for quota in _quotas())]))


def _cores() -> int:
    """The same, whatever share of their time the process gets."""
    return len({_core(number) for number in _allowed()})


def _allowed() -> set[int]:
    """The numbers of the hardware threads that this process may use."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _core(number: int) -> tuple[str, str]:
    """What tells the core of a hardware thread from others."""
    folder = Path(f"/sys/devices/system/cpu/cpu{number}/topology")
    try:
        package, core = ((folder / name).read_text() for name in ("physical_package_id", "core_id"))
    except OSError:
        return "", str(number)
    return package, core


def _quotas(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Iterator[float]:
    """How many cores' time Linux allows the process's control groups (of version 2 or 1) and those that they are in."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container, the mounted folder may be that of the group itself, whose place is the host's.
        for folder in (PurePosixPath(place), *PurePosixPath(place).parents):
            group = root / controllers / str(folder).lstrip("/")
            with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
                if controllers:
                    limit, period = ((group / f"cpu.cfs_{name}_us").read_text("ascii") for name in ("quota", "period"))
                else:
                    limit, period = (group / "cpu.max").read_text("ascii").split()
                if int(limit) > 0:
                    yield int(limit) / int(period)


def busy_cores() -> float:
    """How many of the cores that this process may use are at work now.

    Watched for a moment on Linux; elsewhere the average of the last minute, of all cores.
    """
    first = _times()
    if first is None:
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    time.sleep(_WATCH)
    second = _times() or first
    total, idle = (after - before for before, after in zip(first, second, strict=True))
    return len(_allowed()) * (1 - idle / total) if total > 0 else 0.0


def _times(file: Path = Path("/proc/stat")) -> tuple[int, int] | None:
    """Total and idle time of those processors since the start of the system; None where it does not tell."""
    allowed = {f"cpu{number}" for number in _allowed()}
    total = idle = 0
    try:
        for line in file.read_text(encoding="ascii").splitlines():
            name, *fields = line.split()
            if name in allowed:
                # user nice system idle iowait irq softirq steal; guests' times, which follow, are in user's already
                times = [int(value) for value in fields[:8]]
                total, idle = total + sum(times), idle + times[3] + times[4]
    except (OSError, ValueError, IndexError):
        return None
    return (total, idle) if total else None
