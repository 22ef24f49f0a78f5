"""Tools as they are called with mistakes, and what they answer and leave."""

import contextlib
import io
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.tools.calling import TOOLS

Tree = dict[str, Any]
Arguments = list[str]


def run_tool(name: str, *arguments: str) -> tuple[int, str]:
    """A tool as if from the command line, without a new process: its exit status and what it says on stderr."""
    stderr = io.StringIO()
    before = sys.argv, list(sys.path)
    sys.argv = [f"{name}.py", *arguments]
    try:
        with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(io.StringIO()):
            runpy.run_path(str(TOOLS / f"{name}.py"), run_name="__main__")
        return 0, stderr.getvalue()
    except SystemExit as leaving:
        return int(leaving.code or 0), stderr.getvalue()
    finally:
        sys.argv, sys.path[:] = before


def start_tool(name: str, *arguments: str, cwd: Path, options: tuple[str, ...] = ()) -> tuple[int, str, str]:
    """A tool in a process of its own: its exit status, stdout and stderr."""
    done = subprocess.run(
        [sys.executable, *options, str(TOOLS / f"{name}.py"), *arguments],
        cwd=cwd, env={**os.environ, "COLUMNS": "100"}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def assert_one_sentence(status: int, stderr: str, *words: str) -> None:
    assert status == 2, stderr
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1, stderr
    assert stderr.endswith("\n")
    for word in words:
        assert word in stderr


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
    }


def overridden(tiny: Path, **values: object) -> Arguments:
    """Arguments of a tool; the keys of the configuration are written with __ for their dots."""
    arguments = ["-c", str(tiny)]
    for key, value in {"data__cache_dir": "cache", **values}.items():
        arguments += ["-o", f"{key.replace('__', '.')}={value}"]
    return arguments
