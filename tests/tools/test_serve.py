"""The command line of the local page; the page itself is tested in tests/serving."""

import http.client
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ppfsl.backbones.embedder import Architecture, build_embedder
from ppfsl.backbones.weights import weights_of
from ppfsl.training.checkpoint import Checkpoint, save_checkpoint
from tests.tools.calling import TOOLS, tool

pytest.importorskip("uvicorn", reason="needs requirements-serve.txt", exc_type=ImportError)


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    architecture = Architecture("conv4", 16, options=(("width", 4),))
    weights = tmp_path / "weights.safetensors"
    save_checkpoint(Checkpoint(architecture, weights_of(build_embedder(architecture, seed=0))), weights)
    return ["--checkpoint", str(weights), "-o", "device=cpu"]


def test_it_serves_until_interrupted(arguments: list[str], tmp_path: Path) -> None:
    command = [sys.executable, str(TOOLS / "serve.py"), *arguments, "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=-1, stderr=-1, encoding="utf-8") as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip().removeprefix("http://")
            asked = http.client.HTTPConnection(address, timeout=60)
            asked.request("GET", "/")
            assert asked.getresponse().status == 200
            asked.close()
            server.send_signal(signal.SIGINT)
            assert server.communicate(timeout=60) == ("", "")
            assert server.returncode == 0
        finally:
            server.kill()


def test_an_address_that_cannot_be_had_is_one_line(arguments: list[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        done = tool("serve", tmp_path, *arguments, "--port", taken)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            f"error: cannot listen at --host 127.0.0.1 --port {taken}: address already in use; "
            "choose another address or port\n"
        )
    for host, port in (("203.0.113.1", "0"), ("a" * 100 + ".b", "0"), ("127.0.0.1", "65536")):
        done = tool("serve", tmp_path, *arguments, "--host", host, "--port", port)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
