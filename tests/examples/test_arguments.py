"""Senseless arguments of the examples that train: one sentence each, before the work."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("script", ["learned_optimizer.py", "sinusoid.py"])
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--iterations", "0"], "--iterations 0 is less than 1; {} --help says how"),
        (["--iterations", "-5"], "--iterations -5 is less than 1; {} --help says how"),
        (["--iterations", "x"], "argument --iterations: invalid int value: 'x'; {} --help says how"),
        (["--output", "file/folder"], "cannot create the folder file/folder: Not a directory; choose another one"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, script, arguments, sentence):
    (tmp_path / "file").write_text("in the way")
    command = [sys.executable, str(EXAMPLES / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {sentence.format(script)}\n")
