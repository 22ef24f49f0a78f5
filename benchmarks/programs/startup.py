"""Seconds from starting a command to its first output, Python's own start included."""

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.programs.common import report

ROOT = Path(__file__).resolve().parent.parent.parent


def first_output(command: list[str]) -> float:
    """Seconds until a command has written anything to stdout.

    Raises:
        SystemExit: when it fails or writes nothing.
    """
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None and process.stderr is not None
        first = process.stdout.read(1)
        seconds = time.perf_counter() - start
        process.stdout.read()
        errors = process.stderr.read().decode()
    if process.returncode or not first:
        raise SystemExit(errors[-2000:] or f"{' '.join(command)} wrote nothing")
    return seconds


def main() -> None:
    """Its arguments are a command of Python."""
    report(seconds=first_output([sys.executable, *sys.argv[1:]]), peak_gb=None)


if __name__ == "__main__":
    main()
