"""How command lines end."""

import contextlib
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from ppfsl import cli
from ppfsl.cli import Parser, device, run
from ppfsl.errors import UserError
from ppfsl.progress import detail, progress_bar, say, set_talk, warn
from tests.tools.calling import TOOLS


def raising(error: BaseException) -> None:
    def main() -> None:
        raise error

    run(main)


def test_success_returns(capsys: pytest.CaptureFixture[str]) -> None:
    run(lambda: print("done"))
    assert capsys.readouterr() == ("done\n", "")


def test_mistake_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        raising(UserError("there is no\nfile x"))
    assert caught.value.code == 2
    assert capsys.readouterr() == ("", "error: there is no file x\n")


def test_interruption_is_one_line_and_status_130(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        raising(KeyboardInterrupt())
    assert caught.value.code == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"interrupted\b.*\n", err)


@pytest.mark.parametrize("reason", ["", "Fail to alloc 8 bytes.\n  [Hint: none]"])
def test_lack_of_memory_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str], reason: str) -> None:
    with pytest.raises(SystemExit) as caught:
        raising(MemoryError(reason))
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"error: out of memory(: Fail to alloc 8 bytes\.)?; free some, .*\n", err)


def test_names_that_are_too_long_are_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    name = 300 * "x"
    with pytest.raises(SystemExit) as caught:
        run(lambda: print(Path(name).is_file()))
    assert caught.value.code == 2
    assert capsys.readouterr() == ("", f"error: {name}: File name too long; choose a shorter one\n")


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError("a bug"), KeyError("a bug")])
def test_programming_errors_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error), match="a bug"):
        raising(error)


def test_chosen_exit_status_passes() -> None:
    with pytest.raises(SystemExit) as caught:
        raising(SystemExit(3))
    assert caught.value.code == 3


def test_tools_for_one_process_refuse_several(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    monkeypatch.setattr(cli, "together", contextlib.nullcontext)
    monkeypatch.setattr("sys.argv", ["tools/verify.py"])
    with pytest.raises(SystemExit) as caught:
        run(lambda: print("worked"))
    assert caught.value.code == 2
    sentence = "error: verify.py is for one process; start it without paddle.distributed.launch\n"
    assert capsys.readouterr() == ("", sentence)
    run(lambda: print("worked"), several=True)
    assert capsys.readouterr() == ("worked\n", "")


def test_interrupted_tools_say_how_to_go_on_and_promise_no_more(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.argv", ["tools/train.py", "-c", "my file.yaml"])
    to_go_on = "to go on: python tools/train.py -c 'my file.yaml'"
    for resumes, words in ((True, to_go_on), (False, "the same command begins anew")):
        with pytest.raises(SystemExit):
            run(interrupted, resumes=resumes)
        assert capsys.readouterr().err == f"interrupted; {words}\n"


@pytest.mark.parametrize("tool", sorted(path.stem for path in TOOLS.glob("*.py")))
def test_tools_promise_to_go_on_where_they_do(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(cli, "run", lambda main, several=False, resumes=False: asked.append(resumes))
    monkeypatch.setattr(sys, "path", list(sys.path))
    runpy.run_path(str(TOOLS / f"{tool}.py"), run_name="__main__")
    assert asked == [tool in ("train", "eval", "prepare_data")]


@pytest.mark.parametrize("lines", [1, 100_000])  # as many as the pipe holds, and more
def test_reader_that_leaves_is_no_error(lines: int) -> None:
    code = f"import sys; from ppfsl.cli import run; sys.stdin.read(); run(lambda: print('line\\n' * {lines}))"
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    tool = subprocess.Popen([sys.executable, "-c", code], env=buffered, **pipes)
    assert tool.stdin is not None and tool.stdout is not None and tool.stderr is not None
    tool.stdout.close()
    tool.stdin.close()
    assert (tool.wait(timeout=60), tool.stderr.read()) == (141, b"")


def test_broken_pipes_of_others_keep_their_traceback() -> None:
    with pytest.raises(BrokenPipeError, match="a socket"):
        raising(BrokenPipeError("a socket"))


def test_closed_standard_output_is_no_error() -> None:
    code = "import sys; from ppfsl.cli import run; run(sys.stdout.close)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 0


def test_standard_output_that_the_shell_has_closed_is_no_error() -> None:
    code = "import sys; from ppfsl.cli import run; run(lambda: sys.stdout.write('x'))"
    done = subprocess.run(["bash", "-c", f'"$0" -c "{code}" >&-', sys.executable], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


def talked(talk: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """What a tool shows that does a little of everything."""

    def tool() -> None:
        Parser().parse_args(talk)
        say("progress")
        detail("a detail")
        warn("beware")
        with progress_bar(2, "work", "it") as bar:
            bar.update(2)
        print("result")
        raise UserError("no")

    with pytest.raises(SystemExit):
        run(tool)
    set_talk("normal")
    return tuple(capsys.readouterr())


def test_results_warnings_and_errors_are_shown_whatever_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert talked(["--quiet"], capsys) == ("result\n", "warning: beware\nerror: no\n")
    assert talked([], capsys) == ("result\n", "progress\nwarning: beware\nerror: no\n")
    out, err = talked(["-v"], capsys)
    assert out == "result\n"
    assert err.startswith("progress\na detail\nwarning: beware\nTraceback") and err.endswith("\nerror: no\n")


def test_quiet_hides_progress_bars(capsys: pytest.CaptureFixture[str]) -> None:
    set_talk("quiet")
    assert progress_bar(2, "work", "it").disable
    set_talk("normal")
    bar = progress_bar(2, "work", "it")
    assert not bar.disable
    bar.close()


@pytest.mark.parametrize("name", ["auto", "cpu", "gpu", "gpu:0", "gpu:12"])
def test_devices_pass(name: str) -> None:
    assert device(name) == name


@pytest.mark.parametrize("name", ["", "tpu", "cuda", "cpu:0", "gpu:", "gpu:x", "gpu:٣", "gpu "])
def test_what_is_no_device_is_named(name: str) -> None:
    parser = Parser(prog="tool.py")
    parser.add_argument("--device", type=device)
    with pytest.raises(UserError) as caught:
        parser.parse_args(["--device", name])
    what = f"must be auto, cpu, gpu, or gpu:1 and the like, not {name!r}"
    assert str(caught.value) == f"argument --device: {what}; tool.py --help says how"


def test_quiet_and_verbose_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="not allowed with argument"):
        Parser().parse_args(["-q", "-v"])
