"""Fetching official files: resumable, checked by md5, renamed into place when whole."""

import hashlib
import http.client
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from ppfsl.errors import UserError
from ppfsl.files import kind_of, make_folder, sync_folder
from ppfsl.version import __version__

_TIMEOUT = 30.0  # seconds without an answer
_CHUNK = 2**18  # bytes


class OfficialFile(NamedTuple):
    """One file of a data set as its owners publish it: its name below the data set's folder, where it lies, its md5."""

    name: str
    url: str
    md5: str


class DownloadError(UserError):
    """The network or the server did not deliver."""


def fetch(files: Sequence[OfficialFile], folder: Path, say: Callable[[str], None] = print) -> None:
    """Put official files into a folder, telling with `say` what became of each.

    Files that are there already are never overwritten, whether or not they hold the official bytes.

    Raises:
        UserError: when a file cannot be downloaded, naming every file still to come and its place.
    """
    folder = folder.absolute()
    wanted = [file for file in files if kind_of(folder / file.name) != "file"]
    for file in files:
        target = folder / file.name
        if file not in wanted:
            official = file_md5(target) == file.md5
            say(f"{target}: {'already there' if official else 'kept: not the official bytes'}")
            continue
        try:
            download(file.url, target, file.md5)
        except DownloadError as error:
            by_hand = ", ".join(f"{rest.url} as {folder / rest.name}" for rest in wanted[wanted.index(file) :])
            raise UserError(f"{error}; without a network, put the files there yourself: {by_hand}") from None
        say(f"{target}: downloaded")


def download(url: str, target: Path, md5: str | None, progress: bool = True) -> None:
    """Download a file to `target`, replacing it, by way of `<target>.part`.

    A part file left by a broken download is continued where the server can do that. Without an md5 nothing could tell
    whether the two pieces belong together, so the download begins anew.

    Args:
        url: http or https.
        target: the file to write; its folder is created.
        md5: 32 hexadecimal digits that the bytes must have, or None.
        progress: whether to draw a bar on stderr.

    Raises:
        DownloadError: (a UserError) when the network fails, or the bytes have another md5; those are thrown away.
        UserError: when the file cannot be written.
    """
    part = target.with_name(target.name + ".part")
    make_folder(target.parent)
    try:
        _complete(url, part, resume=md5 is not None, progress=progress)
        found = file_md5(part)
        if md5 is not None and found != md5:
            part.unlink()
            raise DownloadError(f"{url} came with md5 {found} instead of {md5} and was thrown away; try again")
        part.replace(target)
    except OSError as error:
        raise UserError(f"cannot write {part}: {error.strerror or error}; mend that or choose another folder") from None
    sync_folder(target.parent)


def file_md5(path: Path) -> str:
    """The md5 of a file's bytes, 32 hexadecimal digits."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _complete(url: str, part: Path, resume: bool, progress: bool) -> None:
    """Write the whole of `url` to `part`, continuing what is there if that is asked for and the server can."""
    from tqdm import tqdm

    have = part.stat().st_size if resume and part.exists() else 0
    response, start, total = _open(url, have)
    if response is None:
        return
    with (
        response,
        part.open("ab" if start else "wb") as stream,
        tqdm(
            desc=part.stem,
            total=total,
            initial=start,
            unit="B",
            unit_scale=True,
            mininterval=0.1 if sys.stderr.isatty() else 30.0,
            disable=not progress,
        ) as bar,
    ):
        for chunk in _chunks(url, response):
            stream.write(chunk)
            bar.update(len(chunk))
        stream.flush()
        os.fsync(stream.fileno())
        size = stream.tell()
    if total is not None and size != total:
        raise _failure(url, f"the connection ended after {size} of {total} bytes")


def _open(url: str, have: int) -> tuple[IO[bytes] | None, int, int | None]:
    """The response that brings the rest of a file of which `have` bytes are here.

    Returns:
        the response (None when nothing is left to bring), the byte it starts at, and the file's size, if known.
    """
    headers = {"User-Agent": f"ppfsl/{__version__}"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 416 or not have:
                raise _failure(url, f"HTTP status {error.code}, {error.reason}") from None
            complete = error.headers.get("Content-Range") == f"bytes */{have}"
        return (None, have, have) if complete else _open(url, 0)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _failure(url, str(getattr(error, "reason", error))) from None
    if response.status != 206:
        length = response.headers.get("Content-Length", "")
        return response, 0, int(length) if length.isdecimal() else None
    given = re.fullmatch(r"bytes ([0-9]+)-[0-9]+/([0-9]+)", response.headers.get("Content-Range", ""))
    if given is None or int(given[1]) != have:
        response.close()
        if not have:
            raise _failure(url, "the server sent a part of it unasked")
        return _open(url, 0)
    return response, have, int(given[2])


def _chunks(url: str, response: IO[bytes]) -> Iterator[bytes]:
    try:
        while chunk := response.read(_CHUNK):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise _failure(url, str(error)) from None


def _failure(url: str, why: str) -> DownloadError:
    return DownloadError(f"{url} cannot be downloaded ({why}); run the command again to go on where it stopped")
