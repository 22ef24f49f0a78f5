"""Calling a command line as its users do."""

import contextlib
import io
import os
import runpy
import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).parents[2] / "tools"


def start(name: str, cwd: Path, *arguments: str | bytes, **environment: str) -> subprocess.CompletedProcess[str]:
    """A tool in a process of its own."""
    command = [sys.executable, str(TOOLS / f"{name}.py"), *arguments]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, encoding="utf-8", timeout=600
    )


def tool(name: str, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The same without a new process, which takes seconds to begin."""
    out, err = io.StringIO(), io.StringIO()
    before, status = (sys.argv, list(sys.path), Path.cwd()), 0
    sys.argv = [f"{name}.py", *arguments]
    os.chdir(cwd)
    try:
        with contextlib.redirect_stderr(err), contextlib.redirect_stdout(out):
            runpy.run_path(str(TOOLS / f"{name}.py"), run_name="__main__")
    except SystemExit as leaving:
        status = int(leaving.code or 0)
    finally:
        sys.argv, sys.path[:] = before[:2]
        os.chdir(before[2])
    return subprocess.CompletedProcess(sys.argv, status, out.getvalue(), err.getvalue())
