"""Image tables that several processes build at once, or that a killed one leaves half built."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ppfsl.data import table as table_module
from ppfsl.data.source import Load
from ppfsl.data.table import load_table
from tests.data.table.drawings import Drawings, assert_holds, load, only_folder

ROOT = Path(__file__).parents[3]


_SLOW = """
import signal, sys, time
from pathlib import Path
import numpy as np
from PIL import Image
from ppfsl.data.source import Source
from ppfsl.data.table import load_table
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
cache, pace, state = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
def decode(row):
    time.sleep(pace)
    print(row, flush=True)
    return Image.new("RGB", (4, 4), (row, row, row))
def images():
    for row in range(60):
        yield row, lambda row=row: decode(row)
source = Source("drawings", tuple(f"{k}.png" for k in range(60)), np.arange(60) % 3 + 1, {1: "a", 2: "b", 3: "c"},
                {"root": "here", "state": state}, images)
print("ready", flush=True)
sys.stdin.readline()
table = load_table(source, cache, 4, progress=False)
assert table.images[:, 3, 3, 2].tolist() == list(range(60))
print("hash", table.hash, flush=True)
"""


def start(cache: Path, pace: float, state: str = "first") -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOW, str(cache), str(pace), state],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_killed_build_leaves_nothing_in_place(cache: Path) -> None:
    process = start(cache, pace=0.05)
    go(process)
    assert process.stdout is not None
    for _ in range(5):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    (rest,) = cache.iterdir()
    assert rest.name.startswith(".building-")

    with start(cache, pace=0) as second:
        out, _ = second.communicate("\n", timeout=60)
        assert second.returncode == 0
    assert len(out.splitlines()) == 61, "all images were decoded anew"
    assert rest.exists(), "it could be another run's, still at work"

    old = time.time() - 25 * 3600
    os.utime(rest, (old, old))
    with start(cache, pace=0, state="second") as third:
        third.communicate("\n", timeout=60)
        assert third.returncode == 0
    assert not rest.exists(), "after a day it is nobody's"


def test_interrupted_build_cleans_up(cache: Path) -> None:
    process = start(cache, pace=0.05)
    go(process)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("stale", [False, True])
def test_processes_that_build_at_once_all_succeed(cache: Path, stale: bool) -> None:
    if stale:
        with start(cache, pace=0, state="older") as process:
            process.communicate("\n", timeout=60)
    processes = [start(cache, pace=0.002) for _ in range(3)]
    for process in processes:
        go(process)
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len({output.splitlines()[-1] for output in outputs}) == 1, "all have the same hash"
    assert not only_folder(cache).name.startswith("."), "one cache, and no remains"


def test_build_that_another_run_overtook_keeps_the_other_cache(cache: Path) -> None:
    drawings = Drawings()
    inodes = []

    def images() -> Iterator[tuple[int, Load]]:
        load(Drawings(), cache)  # the other run, from beginning to end
        inodes.append(next(cache.glob("drawings-*/images.npy")).stat().st_ino)
        return drawings.images()

    table = load_table(dataclasses.replace(drawings.source(), images=images), cache, 4, progress=False)
    assert_holds(table, list(range(10)))
    assert [(only_folder(cache) / "images.npy").stat().st_ino] == inodes


def test_a_cache_that_another_run_is_exchanging_is_waited_for(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That run took it for the stale one, and has moved it away before it puts its own in place."""
    really = table_module._put_in_place
    threads: list[threading.Timer] = []

    def exchanged(temporary: Path, folder: Path, fingerprint: str) -> None:
        really(temporary, folder, fingerprint)
        away = folder.with_name(".stale-other")
        folder.rename(away)
        threads.append(threading.Timer(0.1, away.rename, [folder]))
        threads[0].start()

    monkeypatch.setattr(table_module, "_put_in_place", exchanged)
    assert_holds(load(Drawings(), cache), list(range(10)))
    threads[0].join()


def test_run_that_gets_in_between_the_last_look_and_the_rename_is_no_harm(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename
    overtaken = []

    def late(self: Path, target: Path) -> Path:
        if self.name.startswith(".building-") and not overtaken:
            overtaken.append(self)
            load(Drawings(), cache)  # the other run puts its cache in place, so this rename fails
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    assert_holds(load(Drawings(), cache), list(range(10)))
    assert len(overtaken) == 1
    assert not only_folder(cache).name.startswith(".")
