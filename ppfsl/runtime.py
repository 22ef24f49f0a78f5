"""What must be settled before Paddle is imported, and the device afterwards."""

import contextlib
import ctypes
import importlib
import io
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

from ppfsl.distributed import ALONE, World
from ppfsl.errors import UserError
from ppfsl.threads import given_threads


def prepare(threads: int) -> None:
    """Set the number of threads, and silence remarks of Paddle and Pillow; call before importing Paddle.

    An `OMP_NUM_THREADS` that the user has set wins. Threads that wait for others sleep at once: Intel's OpenMP lets
    them spin for 0.2 s, which slows a run down where other work needs the cores, and gains little where none does
    (docs/performance.md). On Linux with glibc, freed memory stays with the process (`keep_freed_memory`).
    """
    keep_freed_memory()
    os.environ["OMP_NUM_THREADS"] = str(given_threads() or threads)  # of what is no number, Paddle would make 1
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    os.environ.setdefault("FLAGS_cudnn_deterministic", "True")
    os.environ.setdefault("GLOG_minloglevel", "2")
    # Paddle's are on its own installation; Pillow's on pictures that ppfsl then refuses by itself. Filters belong to
    # the process: they cannot be set around the opening of a picture, which happens in several threads at once.
    for remark in ("No ccache found", "When training, we now always track", r"Image size \(\d+ pixels\) exceeds limit"):
        warnings.filterwarnings("ignore", message=remark)
    if os.environ["OMP_NUM_THREADS"] != "1":
        _import_paddle_quietly()


def _import_paddle_quietly() -> None:
    """Without its advice to use one thread, which is not about oneDNN; whatever else it says is said."""
    heard = io.StringIO()
    with contextlib.redirect_stderr(heard):
        importlib.import_module("paddle")
    said = [line for line in heard.getvalue().splitlines(keepends=True) if "OMP_NUM_THREADS" not in line]
    sys.stderr.writelines(said)


def keep_freed_memory() -> bool:
    """Let large freed blocks stay with the process for its next tensors; whether the C library could be told so.

    By default glibc returns every block of 32 MB or more to the system and asks for zeroed pages anew: on a CPU, that
    takes longer than what Paddle then computes in a batch norm, a ReLU or a pooling (docs/performance.md).
    """
    mmap_max, trim_threshold = -4, -1  # M_MMAP_MAX, M_TRIM_THRESHOLD of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return False
    return bool(mallopt(mmap_max, 0) and mallopt(trim_threshold, 2**31 - 1))


def choose_device(name: str, world: World = ALONE) -> str:
    """Make Paddle use a device; its resolved name ("cpu", "gpu:0").

    Args:
        name: `auto` (the first GPU, if this Paddle has one), `cpu`, `gpu` or `gpu:1`.
        world: where there are several processes, `auto` and `gpu` mean the GPU that the launcher gave to this one, and
            with the launcher's `--backend gloo`, `auto` means the CPU.

    Raises:
        UserError: when a GPU is asked for and there is none, or one for several processes.
    """
    import paddle

    if world.size == 1:
        _end_without_a_word()
    gpus = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    several = world.size > 1
    if several and name.startswith("gpu:"):
        raise UserError(
            f"device: {name} is one GPU for {world.size} processes; set device to auto, and choose GPUs by the "
            "launcher's --devices"
        )
    if name == "auto":
        name = "gpu" if gpus and not (several and os.environ.get("PADDLE_DISTRI_BACKEND") == "gloo") else "cpu"
    if name.startswith("gpu"):
        if not paddle.is_compiled_with_cuda():
            raise UserError(
                f"device: {name} needs a GPU build of PaddlePaddle, this one is for CPUs; "
                "install one as the README says, or set device to cpu"
            )
        number = _launchers_gpu(world) if several else int(name.partition(":")[2] or 0)
        if several and number >= gpus:
            raise UserError(
                f"process {world.local} of this host has no GPU of its own, Paddle sees {gpus}; "
                "start fewer processes with --nproc_per_node, or set device to cpu"
            )
        if number >= gpus:
            raise UserError(f"device: {name} does not exist, Paddle sees {gpus} GPUs; set device to cpu or to another")
        name = f"gpu:{number}"
    return str(paddle.set_device(name)).removeprefix("Place(").removesuffix(")")


def _end_without_a_word() -> None:
    """Let `kill` end the process as it ends others, where Paddle, once imported, would print the state of its C++ side.

    Of several processes, ppfsl's own handler has taken that place (`ppfsl.distributed`).
    """
    own = threading.current_thread() is threading.main_thread()
    if own and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # as far as Python knows
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _launchers_gpu(world: World) -> int:
    """The GPU that the launcher gave to this process, among those that the process sees."""
    chosen = os.environ.get("FLAGS_selected_gpus", "").split(",")[0]  # noqa: SIM112, Paddle's own name
    return int(chosen) if chosen.isdecimal() else world.local


def git_revision() -> str | None:
    """The commit of the checkout that ppfsl runs from, with "+" when files have changed; None outside a checkout."""
    folder = Path(__file__).parent.parent
    if not (folder / ".git").exists():
        return None
    try:
        commands = (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(folder), *command], capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
            for command in commands
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if changes else "")


def peak_memory() -> float | None:
    """The most memory that this process has held so far, in GB (10^9 bytes), pages of mapped files included.

    None where the system does not say (Windows).
    """
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
