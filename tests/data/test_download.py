"""Downloading, against small servers on this machine that misbehave in every known way."""

import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ppfsl.data import download as module
from ppfsl.data.download import DownloadError, OfficialFile, download, fetch, file_md5
from ppfsl.errors import UserError

CONTENT = bytes(range(256)) * 4000  # more than one chunk
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT at any path.

    Attributes:
        ranges: whether it honours Range.
        break_after: bytes after which it hangs up, or None.
        length: whether it tells the content's length.
        shift: by how many bytes it misplaces a range.
        requests: the (path, Range header) of what it was asked.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges, self.length, self.shift = True, True, 0
        self.break_after: int | None = None
        self.stall = threading.Event()
        self.stalling = False
        self.requests: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/data.bin"

    def handle_error(self, *_: object) -> None:
        """Broken connections are meant."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.requests.append((self.path, asked))
        if self.path == "/absent":
            self.send_error(404)
            return
        body = CONTENT
        if asked and self.server.ranges:
            start = int(re.fullmatch(r"bytes=([0-9]+)-", asked)[1])  # type: ignore[index]
            if start >= len(CONTENT):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start -= self.server.shift
            body = CONTENT[start:]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        else:
            self.send_response(200)
        if self.server.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.break_after])
        if self.server.stalling:
            self.wfile.flush()
            self.server.stall.wait(20)

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.stall.set()
        running.shutdown()
        thread.join()


@pytest.fixture
def closed_port() -> int:
    """A port at which nobody answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(server: Server, target: Path, md5: str | None = MD5) -> None:
    download(server.url, target, md5, progress=False)


def test_whole_file_arrives_and_nothing_else_stays(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "data.bin"
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]
    assert server.requests == [("/data.bin", None)]


def test_broken_download_is_continued_where_it_stopped(server: Server, tmp_path: Path) -> None:
    target, part = tmp_path / "data.bin", tmp_path / "data.bin.part"
    server.break_after = 300_000
    with pytest.raises(
        DownloadError, match=r"the connection ended after 300000 of 1024000 bytes.*run the command again"
    ):
        get(server, target)
    assert not target.exists()
    assert part.read_bytes() == CONTENT[:300_000]
    with pytest.raises(DownloadError, match="ended after 600000 of 1024000 bytes"):
        get(server, target)
    server.break_after = None
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert not part.exists()
    assert [asked for _, asked in server.requests] == [None, "bytes=300000-", "bytes=600000-"]


def test_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(b"old and wrong")
    server.ranges = False
    get(server, tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_server_that_misplaces_the_range_is_asked_for_everything(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:5000])
    server.shift = 3
    get(server, tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == ["bytes=5000-", None]


def test_complete_part_file_only_needs_its_name(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(CONTENT)
    get(server, tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [f"bytes={len(CONTENT)}-"]


def test_part_file_longer_than_the_file_starts_over(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(CONTENT + b"more")
    get(server, tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_part_file_of_other_bytes_fails_its_md5_and_is_thrown_away(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "data.bin.part"
    part.write_bytes(b"x" * 1000)
    with pytest.raises(DownloadError, match=rf"came with md5 [0-9a-f]{{32}} instead of {MD5} and was thrown away"):
        get(server, tmp_path / "data.bin")
    assert list(tmp_path.iterdir()) == []
    get(server, tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_wrong_md5_leaves_an_existing_target_alone(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "data.bin"
    target.write_bytes(b"older")
    with pytest.raises(DownloadError, match=f"came with md5 {MD5} instead of {'0' * 32}"):
        get(server, target, md5="0" * 32)
    assert target.read_bytes() == b"older"
    get(server, target)
    assert target.read_bytes() == CONTENT


def test_without_md5_nothing_is_continued(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(b"x" * 1000)
    get(server, tmp_path / "data.bin", md5=None)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert server.requests == [("/data.bin", None)]


def test_without_md5_an_early_end_is_noticed_all_the_same(server: Server, tmp_path: Path) -> None:
    server.break_after = 10
    with pytest.raises(DownloadError, match="ended after 10 of 1024000 bytes"):
        get(server, tmp_path / "data.bin", md5=None)
    assert not (tmp_path / "data.bin").exists()


def test_server_that_tells_no_length(server: Server, tmp_path: Path) -> None:
    server.length = False
    get(server, tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    server.break_after = 1000
    with pytest.raises(DownloadError, match="came with md5"):
        get(server, tmp_path / "other.bin")


def test_silent_server_times_out(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", 0.2)
    server.break_after, server.stalling = 1000, True
    with pytest.raises(DownloadError, match="timed out"):
        get(server, tmp_path / "data.bin")


def test_refused_connection_missing_page_and_bad_url_are_named(
    server: Server, closed_port: int, tmp_path: Path
) -> None:
    for url, why in (
        (f"http://127.0.0.1:{closed_port}/x", "Connection refused"),
        (server.url.replace("data.bin", "absent"), "HTTP status 404"),
        ("no url", "unknown url type"),
        ("http://127.0.0.1:notaport/", "port"),
    ):
        with pytest.raises(DownloadError) as caught:
            download(url, tmp_path / "data.bin", MD5, progress=False)
        assert str(caught.value).startswith(f"{url} cannot be downloaded (")
        assert why in str(caught.value)
        assert list(tmp_path.iterdir()) == []


def test_unwritable_place_is_not_blamed_on_the_network(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot create the folder") as caught:
        get(server, tmp_path / "file" / "data.bin")
    assert not isinstance(caught.value, DownloadError)
    (tmp_path / "data.bin.part").mkdir()
    with pytest.raises(UserError, match=r"cannot write \S+/data\.bin\.part: Is a directory") as caught:
        get(server, tmp_path / "data.bin")
    assert not isinstance(caught.value, DownloadError)


def test_bar_is_drawn_on_request_only(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    get(server, tmp_path / "quiet.bin")
    assert capsys.readouterr() == ("", "")
    download(server.url, tmp_path / "loud.bin", MD5)
    out, err = capsys.readouterr()
    assert out == ""
    assert "loud.bin" in err
    assert "100%" in err


def test_file_md5(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    assert file_md5(tmp_path / "file") == MD5
    (tmp_path / "file").write_bytes(b"")
    assert file_md5(tmp_path / "file") == "d41d8cd98f00b204e9800998ecf8427e"


def official(server: Server, *names: str) -> list[OfficialFile]:
    return [OfficialFile(name, server.url.replace("data.bin", name), MD5) for name in names]


def test_fetch_skips_what_is_there_and_never_overwrites(server: Server, tmp_path: Path) -> None:
    (tmp_path / "right").write_bytes(CONTENT)
    (tmp_path / "other").write_bytes(b"a resized copy")
    said: list[str] = []
    fetch(official(server, "right", "other", "new"), tmp_path, said.append)
    assert said == [
        f"{tmp_path / 'right'}: already there",
        f"{tmp_path / 'other'}: kept: not the official bytes",
        f"{tmp_path / 'new'}: downloaded",
    ]
    assert (tmp_path / "other").read_bytes() == b"a resized copy"
    assert (tmp_path / "new").read_bytes() == CONTENT
    assert [path for path, _ in server.requests] == ["/new"]


def test_fetch_without_network_says_which_files_to_put_where(
    server: Server, closed_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = [
        OfficialFile(name, f"http://127.0.0.1:{closed_port}/{name}", MD5)
        for name in ("absent one", "here", "absent two")
    ]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "here").write_bytes(CONTENT)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        fetch([*official(server, "first"), *dead], Path("data"), lambda _: None)
    hint = str(caught.value).split("put the files there yourself: ")[1]
    assert hint == (
        f"http://127.0.0.1:{closed_port}/absent one as {tmp_path}/data/absent one, "
        f"http://127.0.0.1:{closed_port}/absent two as {tmp_path}/data/absent two"
    )
    assert "\n" not in str(caught.value)
    assert (tmp_path / "data" / "first").read_bytes() == CONTENT
