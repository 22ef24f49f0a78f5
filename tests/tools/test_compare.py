"""tools/compare.py on committed results, as a user would call it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [f"results/omniglot/{name}" for name in ("prototypical", "maml", "meta_sgd")]


def compare(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "tools/compare.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_rows_of_a_comparison() -> None:
    done = compare(*ROWS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("1000 episodes of seed 0") == 2
    assert "transductive" in done.stdout and "prototypical" in done.stdout


def test_json_holds_what_the_tables_show() -> None:
    tasks: list[dict[str, Any]] = json.loads(compare(*ROWS, "--json").stdout)
    of_results = [json.loads((ROOT / row / "result.json").read_text())["evaluations"][0] for row in ROWS]
    entries = tasks[0]["entries"]
    assert [entry["accuracy"] for entry in entries] == [result["accuracy"] for result in of_results]
    difference = of_results[1]["accuracy"] - of_results[0]["accuracy"]
    assert entries[1]["difference"] == pytest.approx(difference)
    assert compare(*ROWS, "--markdown").stdout.count("| maml |") == len(tasks)


def test_a_mistake_is_one_sentence(tmp_path: Path) -> None:
    for arguments in ([str(tmp_path)], [ROWS[0], "results/flowers102/conv4"], []):
        done = compare(*arguments)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
