"""Processes of tools/train.py killed without warning: the run ends like an uninterrupted one, results included."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.training.resume.runs import STAGES, Tree, assert_each_step_is_shown_once, assert_same_training

TRAIN = Path(__file__).parents[3] / "tools" / "train.py"


@pytest.mark.slow
def test_killed_processes_end_like_an_uninterrupted_one(tree: Tree, tmp_path: Path) -> None:
    """`tools/train.py`, six times killed without warning, then left to end."""
    seed = int(time.time())
    chance = random.Random(seed)
    moments = chance.sample(["write", "write", "row", "epoch"], 4)
    print(f"random seed {seed}: {moments}")  # pytest shows it when the test fails
    tree = {**tree, "pretrain": STAGES, "adaptations": [{"name": "class_mean"}, {"name": "finetune", "steps": 20}]}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert finish(tree, whole) == 0
    for moment in moments:
        kill_at(moment, chance.randint(1, 6), chance.uniform(0, 0.03), tree, killed)
    kill_at("stage", 1, chance.uniform(0, 0.5), tree, killed)
    kill_at("result", 1, chance.uniform(0, 0.1), tree, killed)
    assert finish(tree, killed) == 0
    assert_same_training(whole, killed)
    assert_each_step_is_shown_once(killed)
    first, second = (timeless(folder / "result.json") for folder in (whole, killed))
    assert first == second
    assert (whole / "support_set.json").read_bytes() == (killed / "support_set.json").read_bytes()
    assert (killed / "report.html").is_file()


def timeless(path: Path) -> Tree:
    result = json.loads(path.read_text(encoding="utf-8"))
    # Files of the checkout may change between two runs, if not their results.
    return {**result, "git": "", "evaluations": [{**entry, "seconds": 0} for entry in result["evaluations"]]}


def start(tree: Tree, folder: Path) -> "subprocess.Popen[bytes]":
    config = folder.with_name("tiny.yaml")
    config.write_text(yaml.safe_dump(tree), encoding="utf-8")
    command = [sys.executable, str(TRAIN), "-c", str(config), "-o", f"output_dir={folder}"]
    with folder.with_name(f"{folder.name}.stderr").open("ab") as stream:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stream)


def finish(tree: Tree, folder: Path) -> int:
    status = start(tree, folder).wait(timeout=600)
    print(folder.with_name(f"{folder.name}.stderr").read_text(encoding="utf-8"))
    return status


def kill_at(moment: str, times: int, delay: float, tree: Tree, folder: Path) -> None:
    """Start the tool, wait for some changes in its folder, kill it; it may have ended before."""
    before = seen(moment, folder)
    process = start(tree, folder)
    try:
        while process.poll() is None and times:
            time.sleep(0.0005)
            if (now := seen(moment, folder)) != before:
                before, times = now, times - 1
        if moment != "write":  # a write lasts a few milliseconds only
            time.sleep(delay)
    finally:
        process.kill()
        status = process.wait()
    print(f"{moment}, {times} more, {delay:.3f} s: {'killed' if status == -signal.SIGKILL else f'ended with {status}'}")
    assert status in (0, -signal.SIGKILL)


def seen(moment: str, folder: Path) -> Any:
    """What changes at the moment: temporary files of checkpoints, the log, or a file that is written then."""
    try:
        if moment == "write":
            return sorted(path.name for path in (folder / "checkpoints").glob(".*.tmp"))
        name = {
            "row": "metrics.jsonl",
            "epoch": "checkpoints/last.safetensors",
            "stage": "checkpoints/1_cross_entropy.safetensors",
            "result": "result.json",
        }[moment]
        found = (folder / name).stat()
        return found.st_mtime_ns, found.st_size
    except OSError:
        return None if moment != "write" else []
