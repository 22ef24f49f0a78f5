"""How many threads a run gets."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ppfsl import threads
from ppfsl.config_file import threads_of
from ppfsl.threads import busy_cores, choose_threads, physical_cores

LINUX = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux has /proc/stat")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Four idle cores, and no word of the user or the launcher."""
    for name in ("OMP_NUM_THREADS", "PADDLE_LOCAL_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "physical_cores", lambda: 4)
    monkeypatch.setattr(threads, "busy_cores", lambda: 0.0)
    yield monkeypatch


def test_a_number_is_taken_as_it_is(machine: pytest.MonkeyPatch) -> None:
    assert choose_threads(7) == choose_threads(7, before=2) == 7


def test_the_environment_wins(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("OMP_NUM_THREADS", "3")
    assert choose_threads("auto") == choose_threads(7) == choose_threads("auto", before=2) == 3


@pytest.mark.parametrize("nonsense", ["", "0", "many", "-1"])
def test_an_environment_without_a_number_does_not_count(machine: pytest.MonkeyPatch, nonsense: str) -> None:
    machine.setenv("OMP_NUM_THREADS", nonsense)
    assert choose_threads("auto") == 4


@pytest.mark.parametrize(("busy", "expected"), [(0.0, 4), (0.4, 4), (0.6, 3), (1.2, 3), (2.9, 1), (4.0, 1), (4.3, 1)])
def test_other_work_keeps_its_cores(machine: pytest.MonkeyPatch, busy: float, expected: int) -> None:
    machine.setattr(threads, "busy_cores", lambda: busy)
    assert choose_threads("auto") == expected


def test_no_more_than_was_measured(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(threads, "physical_cores", lambda: 96)
    assert choose_threads("auto") == 8
    assert choose_threads(96) == 96


def test_a_resumed_run_keeps_its_threads(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(threads, "busy_cores", lambda: 3.0)
    assert choose_threads("auto", before=2) == 2


def test_processes_of_one_host_share_its_cores_and_are_no_other_work(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(threads, "busy_cores", lambda: 4.0)
    found = []
    for processes in ("2", "3", "9"):
        machine.setenv("PADDLE_LOCAL_SIZE", processes)
        found.append(choose_threads("auto"))
    assert found == [2, 1, 1]


def test_hardware_threads_of_one_core_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr(threads, "_core", lambda number: ("0", str(number // 2)))
    monkeypatch.setattr(threads, "_quotas", lambda: iter(()))
    assert physical_cores() == 3
    monkeypatch.setattr(threads, "_quotas", lambda: iter((1.5,)))
    assert physical_cores() == 1
    monkeypatch.setattr(threads, "_quotas", lambda: iter((0.5,)))
    assert physical_cores() == 1


@LINUX
def test_cores_that_the_process_may_not_use_do_not_count() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    code += "from ppfsl.threads import physical_cores; print(physical_cores())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_busy_cores_come_from_the_times_of_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([(1000, 400), (1080, 420)])  # of 80 ticks 20 idle: three quarters of all processors
    monkeypatch.setattr(threads, "_times", lambda: next(times))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert busy_cores() == 6.0


def test_times_that_stand_still_are_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_times", lambda: (1000, 400))
    assert busy_cores() == 0.0


def test_without_times_the_average_load_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_times", lambda: None)
    monkeypatch.setattr(os, "getloadavg", lambda: (1.25, 9.0, 9.0), raising=False)
    assert busy_cores() == 1.25
    monkeypatch.delattr(os, "getloadavg")
    assert busy_cores() == 0.0


@LINUX
def test_a_process_at_work_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_WATCH", 0.5)
    worker = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.2)
        assert busy_cores() > 0.5
    finally:
        worker.kill()
        worker.wait()


def test_threads_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("threads: 2\n")
    assert threads_of(tmp_path) is None  # nothing to resume
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.safetensors").touch()
    assert threads_of(tmp_path) == 2
    for text in ("threads: auto", "threads: 0", "[1]", "a: [", ""):
        (tmp_path / "config.yaml").write_text(text)
        assert threads_of(tmp_path) is None, text
    (tmp_path / "config.yaml").unlink()
    assert threads_of(tmp_path) is None
