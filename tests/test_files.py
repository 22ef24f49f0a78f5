"""Files appear whole or not at all."""

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ppfsl.errors import UserError
from ppfsl.files import (
    check_readable,
    check_replaceable,
    check_writable,
    kind_of,
    make_folder,
    only_one,
    read_json,
    replacing,
    write_json,
    write_text,
)


def test_file_and_its_folders_appear(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.txt"
    write_text(path, "Löwe 牡丹\n")
    assert path.read_bytes() == "Löwe 牡丹\n".encode()
    assert list(path.parent.iterdir()) == [path]


def test_failing_body_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_readers_see_the_old_file_until_the_body_ends(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with path.open() as reader, replacing(path) as temporary:
        assert temporary.parent == path.parent, "a rename must not cross file systems"
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert reader.closed


def test_bytes_are_synced_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def spy_fsync(handle: int) -> None:
        events.append("sync " + ("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file"))  # noqa: PTH112
        fsync(handle)

    def spy_replace(self: Path, target: Path) -> Path:
        events.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(Path, "replace", spy_replace)
    write_text(tmp_path / "file", "x")
    assert events == ["sync file", "rename", "sync folder"]


def test_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    script = (
        "import os, sys; from pathlib import Path; from ppfsl.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('new'); os.kill(os.getpid(), 9)"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", script, str(path)], cwd=root, timeout=60)
    assert done.returncode == -9
    assert path.read_text() == "old"


def test_permissions_are_those_of_an_ordinary_new_file(tmp_path: Path) -> None:
    for mask in (0o022, 0o077):
        before = os.umask(mask)
        try:
            write_text(tmp_path / "file", "x")
            assert os.umask(mask) == mask, "the mask is left as it was"
        finally:
            os.umask(before)
        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~mask


def test_unwritable_places_are_mistakes(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot create the folder \S+/file/sub: Not a directory; choose another one"):
        write_text(tmp_path / "file" / "sub" / "x", "x")
    with pytest.raises(UserError, match=r"cannot create the folder \S+/file: File exists"):
        make_folder(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"cannot write \S+/folder: it is a folder; choose another name"):
        write_text(tmp_path / "folder", "x")
    with pytest.raises(
        UserError, match=r"cannot write \S+/loop: Too many levels of symbolic links; choose another name"
    ):
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        write_text(tmp_path / "loop", "x")
    (tmp_path / "loop").unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    with pytest.raises(UserError, match="cannot write in /proc"):
        write_text(Path("/proc/ppfsl"), "x")


def test_names_as_long_as_names_can_be(tmp_path: Path) -> None:
    write_text(tmp_path / ("x" * 250 + ".html"), "x")
    with pytest.raises(UserError, match=r"^cannot write \S+/x{251}\.html: File name too long; choose another name$"):
        write_text(tmp_path / ("x" * 251 + ".html"), "x")
    assert len(list(tmp_path.iterdir())) == 1


def test_json_round_trip(tmp_path: Path) -> None:
    value = {"name": "牡丹", "numbers": [1, 2.5, None, True], "nested": {"a": []}}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value
    assert "牡丹" in (tmp_path / "x.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [-float("inf")], {1, 2}])
def test_what_json_cannot_say_is_refused_and_the_old_file_stays(tmp_path: Path, value: object) -> None:
    write_json(tmp_path / "x.json", "old")
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "x.json", {"accuracy": value})
    assert read_json(tmp_path / "x.json") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_unusable_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(UserError, match=r"there is no file \S+/x\.json"):
        read_json(path)
    for content, why in (
        (b"{", "cannot be used: Expecting"),
        (b"\xff\xfe", "cannot be used: .*decode"),
        (b'{"a": 1, "b": [{"c": 1, "c": 2}]}', "cannot be used: 'c' stands there twice; leave one out"),
        (b"[" * 100_000, "cannot be used: it is nested too deeply"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"x\.json {why}"):
            read_json(path)
    with pytest.raises(UserError, match=r"cannot be used: .*Is a directory"):
        read_json(tmp_path)


def test_check_translates_and_refuses(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"a": 1}))
    assert read_json(path, lambda value: value["a"] + 1) == 2
    with pytest.raises(UserError, match=r"x\.json cannot be used: it has no key 'b'"):
        read_json(path, lambda value: value["b"])
    with pytest.raises(UserError, match=r"x\.json cannot be used: invalid literal"):
        read_json(path, lambda value: int("one"))
    with pytest.raises(UserError, match=r"x\.json cannot be used: .*not subscriptable"):
        read_json(path, lambda value: value["a"][0])
    with pytest.raises(ZeroDivisionError):
        read_json(path, lambda value: 1 / 0)


def test_what_cannot_be_written_is_found_out_without_writing(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("old", encoding="utf-8")
    check_writable(tmp_path / "old.txt")
    check_writable(tmp_path / "new" / "new.txt")
    assert (tmp_path / "old.txt").read_text(encoding="utf-8") == "old"
    assert list((tmp_path / "new").iterdir()) == []
    for path in (tmp_path, tmp_path / "old.txt" / "x"):
        with pytest.raises(UserError):
            check_writable(path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_what_is_no_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("link").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for name, kind in (("pipe", "pipe"), ("link", "pipe"), ("socket", "socket")):
            before = Path(name).lstat()
            for act in (check_writable, lambda path: write_text(path, "x")):
                with pytest.raises(UserError, match=rf"^cannot write {name}: it is a {kind}; choose another name$"):
                    act(Path(name))
            assert Path(name).lstat() == before
    assert sorted(path.name for path in Path().iterdir()) == ["link", "pipe", "socket"]


def test_devices_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in: a test that fails must not cost the machine a real one."""
    really = Path.stat

    def with_device(self: Path, **arguments: bool) -> Any:
        return SimpleNamespace(st_mode=stat.S_IFCHR) if self.name == "null" else really(self, **arguments)

    monkeypatch.setattr(Path, "stat", with_device)
    for act in (check_writable, lambda path: write_text(path, "x")):
        with pytest.raises(UserError, match=r"^cannot write \S+/null: it is a device; choose another name$"):
            act(tmp_path / "null")
    assert list(tmp_path.iterdir()) == []


def test_symbolic_links_stay_and_lead_to_the_new_file(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for target in ("old", "new"):
        link = tmp_path / f"link to {target}"
        link.symlink_to(Path("there") / target)
    (tmp_path / "there" / "old").write_text("old")
    for target in ("old", "new"):
        link = tmp_path / f"link to {target}"
        check_writable(link)
        write_text(link, "x")
        assert link.is_symlink() and (tmp_path / "there" / target).read_text() == "x"
    assert len(list(tmp_path.rglob("*"))) == 5


def test_files_of_another_kind_are_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    check_replaceable(path, "list", read_json)
    for content in ("", "[]"):
        path.write_text(content)
        check_replaceable(path, "list", read_json)
    path.write_text("a: 1")
    with pytest.raises(UserError, match=r"^cannot write \S+/x\.json: it exists and is no list; choose another name$"):
        check_replaceable(path, "list", read_json)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["a: 1"]


def test_what_a_path_leads_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "lost").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe")
    found = {name: kind_of(tmp_path / name) for name in ("file", "link", "lost", "pipe", ".", "file/below", "a\0b")}
    assert found == {
        "file": "file", "link": "file", "lost": None, "pipe": "other", ".": "folder", "file/below": None, "a\0b": None,
    }  # fmt: skip


def test_a_path_that_cannot_be_looked_up_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ("n" * 300)
    with pytest.raises(UserError) as caught:
        kind_of(path)
    assert str(caught.value) == f"{path} cannot be looked up: File name too long; mend that, or name another path"

    def refuse(path: object, **_: object) -> object:  # root may enter every folder, so the refusal is played
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(UserError) as caught:
        kind_of(Path("run"))
    assert str(caught.value) == "run cannot be looked up: Permission denied; mend that, or name another path"


def test_a_file_that_may_not_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    check_readable(Path(__file__))
    with pytest.raises(UserError) as caught:
        check_readable(tmp_path)
    assert str(caught.value) == f"{tmp_path} cannot be read: Is a directory; mend that, or name another file"


def test_a_folder_that_may_not_be_opened_cannot_be_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object, *_: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UserError) as caught, only_one(tmp_path):
        pass
    assert str(caught.value) == (
        f"{tmp_path} cannot be read: Permission denied; mend that, or choose another output_dir"
    )
