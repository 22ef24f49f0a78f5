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
from ppfsl.errors import UserError
from ppfsl.threads import busy_cores, choose_threads, physical_cores

LINUX = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux has /proc/stat")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Four idle cores, and no word of the user or the launcher."""
    for name in ("OMP_NUM_THREADS", *(name for name in os.environ if name.startswith("PADDLE_"))):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "_cores", lambda: 4)
    monkeypatch.setattr(threads, "_quotas", lambda: iter(()))
    monkeypatch.setattr(threads, "busy_cores", lambda: 0.0)
    yield monkeypatch


def test_a_number_is_taken_as_it_is(machine: pytest.MonkeyPatch) -> None:
    assert choose_threads(7) == choose_threads(7, before=2) == 7


def test_the_environment_wins(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("OMP_NUM_THREADS", "3")
    assert choose_threads("auto") == choose_threads(7) == choose_threads("auto", before=2) == 3


def test_of_a_list_in_the_environment_the_first_counts(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("OMP_NUM_THREADS", " 2,1")  # OpenMP's notation for nested levels
    assert choose_threads("auto") == 2


def test_more_threads_than_paddle_bears_are_refused(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("OMP_NUM_THREADS", "1024")
    assert choose_threads("auto") == 1024
    machine.setenv("OMP_NUM_THREADS", "1025")
    with pytest.raises(UserError, match="OMP_NUM_THREADS is 1025, and at most 1024 threads are possible; set fewer"):
        choose_threads(2)


@pytest.mark.parametrize("nonsense", ["", "0", "many", "-1", ",2"])
def test_an_environment_without_a_number_does_not_count(machine: pytest.MonkeyPatch, nonsense: str) -> None:
    machine.setenv("OMP_NUM_THREADS", nonsense)
    assert choose_threads("auto") == 4


@pytest.mark.parametrize(("busy", "expected"), [(0.0, 4), (0.4, 4), (0.6, 3), (1.2, 3), (2.9, 1), (4.0, 1), (4.3, 1)])
def test_other_work_keeps_its_cores(machine: pytest.MonkeyPatch, busy: float, expected: int) -> None:
    machine.setattr(threads, "busy_cores", lambda: busy)
    assert choose_threads("auto") == expected


@pytest.mark.parametrize(("quota", "busy", "expected"), [(2.5, 0.0, 2), (2.5, 1.0, 2), (2.0, 3.0, 1), (9.0, 1.0, 3)])
def test_a_container_gets_what_its_host_leaves_up_to_its_quota(
    machine: pytest.MonkeyPatch, quota: float, busy: float, expected: int
) -> None:
    """Other work takes the host's cores first, not those of the quota."""
    machine.setattr(threads, "_quotas", lambda: iter((quota,)))
    machine.setattr(threads, "busy_cores", lambda: busy)
    assert choose_threads("auto") == expected


def test_one_core_is_not_watched(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(threads, "_quotas", lambda: iter((1.5,)))
    machine.setattr(threads, "busy_cores", lambda: pytest.fail("0.1 seconds for nothing"))
    assert choose_threads("auto") == 1


def test_no_more_than_was_measured(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(threads, "_cores", lambda: 96)
    assert choose_threads("auto") == 8
    assert choose_threads(96) == 96


def test_a_resumed_run_keeps_its_threads(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(threads, "busy_cores", lambda: 3.0)
    assert choose_threads("auto", before=2) == 2
    assert choose_threads("auto", before=6) == 6


def test_a_run_resumed_by_more_processes_gets_no_more_threads_than_cores(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("PADDLE_LOCAL_SIZE", "2")
    assert [choose_threads("auto", before=before) for before in (1, 2, 4)] == [1, 2, 2]
    machine.setenv("PADDLE_LOCAL_SIZE", "9")
    assert choose_threads("auto", before=4) == 1


def test_processes_of_one_host_share_its_cores_and_are_no_other_work(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(threads, "busy_cores", lambda: 4.0)
    found = []
    for processes in ("2", "3", "9"):
        machine.setenv("PADDLE_LOCAL_SIZE", processes)
        found.append(choose_threads("auto"))
    assert found == [2, 1, 1]


def test_endpoints_tell_how_many_processes_a_host_has(machine: pytest.MonkeyPatch) -> None:
    """Where the launcher was given a backend, nothing else does."""
    machine.setenv("PADDLE_CURRENT_ENDPOINT", "10.0.0.1:6171")
    machine.setenv("PADDLE_TRAINER_ENDPOINTS", "10.0.0.1:6170,10.0.0.1:6171,110.0.0.2:6170,10.0.0.11:6170")
    assert choose_threads("auto") == 2


def test_the_launchers_own_setting_is_nobodys_wish(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("PADDLE_TRAINER_ID", "0")
    machine.setenv("OMP_NUM_THREADS", "1")
    machine.setattr(threads, "_launcher_was_told", lambda: False)
    assert choose_threads("auto") == 4 and choose_threads(3) == 3
    machine.setattr(threads, "_launcher_was_told", lambda: True)
    assert choose_threads("auto") == choose_threads(3) == 1
    machine.setattr(threads, "_launcher_was_told", lambda: False)
    machine.setenv("OMP_NUM_THREADS", "2")  # which is not what Paddle sets
    assert choose_threads("auto") == 2
    machine.delenv("PADDLE_TRAINER_ID")
    machine.setenv("OMP_NUM_THREADS", "1")
    assert choose_threads("auto") == 1


@LINUX
@pytest.mark.parametrize(("given", "expected"), [(None, "3\n"), ("1", "1\n"), ("2", "2\n")])
def test_under_the_launcher_the_configuration_counts_unless_the_user_says_otherwise(
    given: str | None, expected: str, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "from ppfsl.threads import choose_threads\nprint(choose_threads(3))\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "PADDLE_"))}
    environment |= {} if given is None else {"OMP_NUM_THREADS": given}
    launcher = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "1", "--log_dir", str(tmp_path)]
    subprocess.run([*launcher, str(script)], env=environment, capture_output=True, check=True, timeout=300)
    assert (tmp_path / "workerlog.0").read_text() == expected


def test_hardware_threads_of_one_core_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr(threads, "_core", lambda number: ("0", str(number // 2)))
    monkeypatch.setattr(threads, "_quotas", lambda: iter(()))
    assert physical_cores() == 3
    monkeypatch.setattr(threads, "_quotas", lambda: iter((1.5,)))
    assert physical_cores() == 1
    monkeypatch.setattr(threads, "_quotas", lambda: iter((0.5,)))
    assert physical_cores() == 1


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000"}, [1.5]),
        ("0::/\n", {"cpu.max": "max 100000"}, []),
        ("0::/\n", {"cpu.max": "max 0"}, []),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000", "b/cpu.max": "1 2"}, [2.0]),
        ("0::/of/the/host\n", {"cpu.max": "300000 100000"}, [3.0]),  # a container's own group is the mounted one
        ("4:cpu,cpuacct:/a\n0::/\n", {"cpu,cpuacct/a/cpu.cfs": "50000 100000"}, [0.5]),
        ("4:cpuset:/a\n", {"cpuset/a/cpu.cfs": "50000 100000", "cpu.max": "100000 100000"}, []),
        ("1:cpu:/\n", {"cpu/cpu.cfs": "-1 100000"}, []),
        (None, {"cpu.max": "150000 100000"}, []),
    ],
)
def test_quotas_are_those_of_all_groups_above(
    groups: str | None, files: dict[str, str], expected: list[float], tmp_path: Path
) -> None:
    own, root = tmp_path / "own", tmp_path / "cgroup"
    if groups is not None:
        own.write_text(groups)
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("cpu.max"):
            file.write_text(text + "\n")
        else:  # version 1
            for part, value in zip(("quota", "period"), text.split(), strict=True):
                file.with_name(f"cpu.cfs_{part}_us").write_text(value + "\n")
    assert list(threads._quotas(root, own)) == expected


@LINUX
def test_cores_that_the_process_may_not_use_do_not_count() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    code += "from ppfsl.threads import physical_cores; print(physical_cores())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_busy_cores_come_from_the_times_of_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([(1000, 400), (1080, 420)])  # of 80 ticks 20 idle: three quarters of all processors
    monkeypatch.setattr(threads, "_times", lambda: next(times))
    monkeypatch.setattr(threads, "_allowed", lambda: set(range(8)))
    assert busy_cores() == 6.0


def test_only_the_processors_that_this_process_may_use_are_watched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "stat"
    file.write_text(
        "cpu  999 99 99 999 99 9 9 9 99 9\n"
        "cpu0 1 2 3 4 5 6 7 8 100 100\n"
        "cpu1 500 0 0 0 0 0 0 0 0 0\n"
        "cpu10 10 0 0 20 0 0 0 0 0 0\n"
        "intr 7 7 7\n"
    )
    monkeypatch.setattr(threads, "_allowed", lambda: {0, 10})
    assert threads._times(file) == (36 + 30, 9 + 20)
    monkeypatch.setattr(threads, "_allowed", lambda: {3})
    assert threads._times(file) is None
    assert threads._times(tmp_path / "none") is None


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
