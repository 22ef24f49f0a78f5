"""tools/prepare_data.py as a user runs it, in a process of its own."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.real import real_data

TOOL = Path(__file__).parents[2] / "tools" / "prepare_data.py"


def prepare(
    *arguments: str, cwd: Path, options: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    kept = {
        key: value for key, value in os.environ.items() if not key.lower().endswith("proxy") and key != "PPFSL_DATA"
    }
    return subprocess.run(
        [sys.executable, *options, str(TOOL), *arguments],
        cwd=cwd, env={**kept, **environment}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.fixture
def no_network() -> dict[str, str]:
    """Environment in which every https connection is refused at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return {"https_proxy": f"http://127.0.0.1:{probe.getsockname()[1]}", "no_proxy": ""}


def test_help_fits_a_screen_answers_at_once_and_loads_no_paddle(tmp_path: Path) -> None:
    start = time.monotonic()
    done = prepare("--help", cwd=tmp_path, options=("-X", "importtime"))
    seconds = time.monotonic() - start
    assert done.returncode == 0
    assert "flowers102" in done.stdout
    assert "omniglot" in done.stdout
    assert "--root" in done.stdout
    assert len(done.stdout.splitlines()) <= 24
    loaded = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "ppfsl.cli" in loaded
    assert not loaded & {"paddle", "scipy", "scipy.io", "matplotlib"}
    assert seconds < 5, "a generous bound, for a busy machine"


def test_unknown_data_set_is_a_mistake(tmp_path: Path) -> None:
    done = prepare("roses", cwd=tmp_path)
    assert done.returncode == 2
    assert "flowers102" in done.stderr
    assert "omniglot" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("by_variable", [False, True])
def test_without_network_one_line_says_what_to_put_where(
    tmp_path: Path, no_network: dict[str, str], by_variable: bool
) -> None:
    if by_variable:
        done = prepare("flowers102", cwd=tmp_path, PPFSL_DATA="here", **no_network)
    else:
        done = prepare("flowers102", "--root", "here", cwd=tmp_path, **no_network)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "error: https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz cannot be downloaded"
    )
    for name in ("102flowers.tgz", "imagelabels.mat", "setid.mat"):
        url = f"https://www.robots.ox.ac.uk/~vgg/data/flowers/102/{name}"
        assert f"{url} as {tmp_path / 'here' / 'flowers102' / name}" in line


def test_files_that_are_there_are_kept(tmp_path: Path, no_network: dict[str, str]) -> None:
    folder = tmp_path / "flowers102"
    folder.mkdir()
    for name in ("102flowers.tgz", "imagelabels.mat", "setid.mat"):
        (folder / name).write_bytes(b"mine")
    done = prepare("flowers102", "--root", str(tmp_path), cwd=tmp_path, **no_network)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"{folder / name}: kept: not the official bytes" for name in ("102flowers.tgz", "imagelabels.mat", "setid.mat")
    ]
    assert {path.read_bytes() for path in folder.iterdir()} == {b"mine"}


def test_omniglot_without_network_says_what_to_put_where(tmp_path: Path, no_network: dict[str, str]) -> None:
    done = prepare("omniglot", "--root", "here", cwd=tmp_path, **no_network)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    for name in ("images_background.zip", "images_evaluation.zip"):
        url = f"https://raw.githubusercontent.com/brendenlake/omniglot/master/python/{name}"
        assert f"{url} as {tmp_path / 'here' / 'omniglot' / name}" in line


def test_omniglot_packed_anew_is_kept(tmp_path: Path, no_network: dict[str, str]) -> None:
    folder = tmp_path / "omniglot"
    folder.mkdir()
    for name in ("images_background.zip", "images_evaluation.zip"):
        (folder / name).write_bytes(b"mine")
    done = prepare("omniglot", "--root", str(tmp_path), cwd=tmp_path, **no_network)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"{folder / name}: kept: not the official bytes" for name in ("images_background.zip", "images_evaluation.zip")
    ]


@pytest.mark.real_data
def test_real_files_with_the_official_bytes_are_recognised(tmp_path: Path, no_network: dict[str, str]) -> None:
    done = prepare("flowers102", "--root", str(real_data("official files")), cwd=Path.cwd(), **no_network)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].endswith("imagelabels.mat: already there")
    assert done.stdout.splitlines()[2].endswith("setid.mat: already there")
