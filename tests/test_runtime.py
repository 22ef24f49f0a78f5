"""The device, the threads, and the revision that a run notes."""

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import paddle
import pytest

from ppfsl import runtime
from ppfsl.errors import UserError
from ppfsl.runtime import choose_device, git_revision, prepare


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, from which ppfsl seems to run."""
    for name in list(os.environ):
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)
    (tmp_path / "ppfsl").mkdir()
    module = tmp_path / "ppfsl" / "runtime.py"
    module.write_text("first\n", encoding="utf-8")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    monkeypatch.setattr(runtime, "__file__", str(module))
    return tmp_path


def test_revision_is_the_commit(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    assert len(commit) == 40
    assert git_revision() == commit


def test_changed_files_add_a_plus_untracked_ones_do_not(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    (checkout / "notes.txt").write_text("mine", encoding="utf-8")
    assert git_revision() == commit
    (checkout / "ppfsl" / "runtime.py").write_text("second\n", encoding="utf-8")
    assert git_revision() == f"{commit}+"


def test_outside_a_checkout_there_is_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "__file__", str(tmp_path / "site-packages" / "ppfsl" / "runtime.py"))
    assert git_revision() is None


def test_a_checkout_around_the_environment_is_not_ours(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = checkout / "venv" / "site-packages" / "ppfsl"
    installed.mkdir(parents=True)
    monkeypatch.setattr(runtime, "__file__", str(installed / "runtime.py"))
    assert git_revision() is None


def test_without_commits_or_without_git_there_is_no_revision(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing here"))
    assert git_revision() is None
    monkeypatch.undo()
    empty = tmp_path / "empty"
    (empty / "ppfsl").mkdir(parents=True)
    git(empty, "init", "--quiet")
    monkeypatch.setattr(runtime, "__file__", str(empty / "ppfsl" / "runtime.py"))
    assert git_revision() is None


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call it to have Paddle say that it sees so many GPUs (None: a build for CPUs); gives the devices it is set to."""
    chosen: list[str] = []

    def pretend(count: int | None) -> list[str]:
        monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: count is not None)
        monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: count or 0)
        monkeypatch.setattr(paddle, "set_device", lambda name: chosen.append(name) or f"Place({name})")
        return chosen

    return pretend


def test_auto_takes_a_gpu_where_there_is_one(gpus: Any) -> None:
    for count, expected in ((None, "cpu"), (0, "cpu"), (1, "gpu:0"), (2, "gpu:0")):
        chosen = gpus(count)
        assert choose_device("auto") == expected
        assert chosen[-1] == expected


def test_a_numbered_gpu_is_taken(gpus: Any) -> None:
    chosen = gpus(2)
    assert choose_device("gpu:1") == "gpu:1"
    assert choose_device("cpu") == "cpu"
    assert chosen == ["gpu:1", "cpu"]


@pytest.mark.parametrize("name", ["gpu", "gpu:0", "gpu:3"])
def test_a_cpu_build_has_no_gpu(gpus: Any, name: str) -> None:
    chosen = gpus(None)
    with pytest.raises(UserError) as caught:
        choose_device(name)
    assert str(caught.value).startswith(f"device: {name} needs a GPU build of PaddlePaddle")
    assert "set device to cpu" in str(caught.value)
    assert chosen == []


@pytest.mark.parametrize(("name", "count"), [("gpu", 0), ("gpu:0", 0), ("gpu:2", 2)])
def test_a_gpu_that_is_not_there_is_refused(gpus: Any, name: str, count: int) -> None:
    chosen = gpus(count)
    with pytest.raises(UserError) as caught:
        choose_device(name)
    assert str(caught.value).startswith(f"device: {name} does not exist, Paddle sees {count} GPUs")
    assert chosen == []


def test_the_real_paddle_takes_the_cpu() -> None:
    assert choose_device("cpu") == "cpu"
    assert paddle.get_device() == "cpu"


def test_threads_are_set_unless_the_user_has_set_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    prepare(3)
    assert os.environ["OMP_NUM_THREADS"] == "3"
    prepare(4)
    assert os.environ["OMP_NUM_THREADS"] == "3"
    for nonsense in ("", "many", "0"):  # which Paddle would take for 1
        monkeypatch.setenv("OMP_NUM_THREADS", nonsense)
        prepare(5)
        assert os.environ["OMP_NUM_THREADS"] == "5"
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    prepare(5)
    assert os.environ["OMP_NUM_THREADS"] == "2"


def test_paddle_says_nothing_when_it_is_imported() -> None:
    code = (
        "from ppfsl.runtime import prepare; import sys; prepare(1); assert 'paddle' not in sys.modules; import paddle"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_kill_ends_a_process_without_a_word() -> None:
    code = (
        "import os, signal, time\nfrom ppfsl.runtime import choose_device, prepare\nprepare(1)\nchoose_device('cpu')\n"
    )
    code += "os.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(9)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "", "")


def test_paddle_says_nothing_of_several_threads_but_other_words_pass(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "KMP_"))}
    code = "from ppfsl.runtime import prepare; prepare(2); import os; print(os.environ['KMP_BLOCKTIME'])"
    where = {"capture_output": True, "text": True, "cwd": Path(__file__).parents[1]}
    done = subprocess.run([sys.executable, "-c", code], env=environment, **where)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
    (tmp_path / "paddle.py").write_text("import sys\nprint('OMP_NUM_THREADS!\\nother words', file=sys.stderr)\n")
    done = subprocess.run([sys.executable, "-c", code], env={**environment, "PYTHONPATH": str(tmp_path)}, **where)
    assert (done.returncode, done.stderr) == (0, "other words\n")


def test_freed_memory_is_kept_for_the_next_tensor() -> None:
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("glibc alone has mallopt")
    script = """
import resource, sys
import numpy as np
from ppfsl.runtime import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(100_000_000, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults(), faults())
assert keep_freed_memory()
print(faults(), faults())
"""
    root = Path(__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root)
    (_, again), (_, kept) = (map(int, line.split()) for line in run.stdout.splitlines())
    assert again >= 40  # 48 pages of 2 MB, or 24,414 of 4 kB
    assert kept < 10
