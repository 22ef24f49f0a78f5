"""Seconds from starting a command to its first output, Python's own start included."""

import argparse
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
    """The median of several times, after one that brings the files into memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, required=True)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="of Python")
    arguments = parser.parse_args()
    command = [sys.executable, *arguments.command]
    first_output(command)
    seconds = sorted(first_output(command) for _ in range(arguments.times))
    report(seconds=seconds[len(seconds) // 2], peak_gb=None)


if __name__ == "__main__":
    main()
