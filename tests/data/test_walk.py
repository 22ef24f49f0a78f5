"""What lies below a folder, through links and past what cannot be read."""

from pathlib import Path

import pytest

from ppfsl.data.walk import files_below
from tests.closed import close_folders


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def below(folder: Path, root: Path | None = None) -> list[str]:
    """Names relative to the folder, sorted; no folder may fail."""

    def failed(error: OSError) -> None:
        raise error

    return sorted(file.relative_to(folder).as_posix() for file in files_below(folder, root or folder, failed))


def test_files_of_all_kinds_but_hidden_ones(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b/c/d.txt", ".hidden.png", ".git/x.png", "b/.cache/y.png")
    (tmp_path / "lost").symlink_to(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    assert below(tmp_path) == ["a.png", "b/c/d.txt", "lost"]


def test_links_out_of_the_tree_are_followed(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "1.png", "deep/2.png")
    root = touch(tmp_path / "root", "a/0.png", ".store/3.png")
    (root / "a" / "link").symlink_to(tmp_path / "elsewhere")
    (root / "stored").symlink_to(root / ".store")
    assert below(root) == ["a/0.png", "a/link/1.png", "a/link/deep/2.png", "stored/3.png"]


@pytest.mark.parametrize("target", ["root", "root/a", "root/b", ".", "elsewhere/back"])
def test_what_is_found_anyhow_or_lies_above_is_not_entered_by_a_link(tmp_path: Path, target: str) -> None:
    root = touch(tmp_path / "root", "a/0.png", "b/1.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "back").symlink_to(root)
    (root / "a" / "link").symlink_to(tmp_path / target)
    assert below(root) == ["a/0.png", "b/1.png"]
    assert below(root / "a", root) == ["0.png"]


def test_loops_outside_the_tree_end_and_no_folder_is_entered_twice(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "1.png", "deep/2.png")
    (tmp_path / "elsewhere" / "deep" / "up").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "myself").symlink_to(tmp_path / "elsewhere" / "myself")
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "elsewhere" / "deep")
    root = touch(tmp_path / "root", "0.png")
    for name in ("x", "y"):
        (root / name).symlink_to(tmp_path / "elsewhere")
    assert below(root) == ["0.png", "x/1.png", "x/deep/2.png", "x/myself"]


def test_folders_that_cannot_be_read_are_told_and_the_others_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.png", "closed/b.png", "open/c.png")
    close_folders(monkeypatch, "closed")
    failures: list[OSError] = []
    found = files_below(tmp_path, tmp_path, failures.append)
    assert sorted(file.name for file in found) == ["a.png", "c.png"]
    assert [(error.filename, error.strerror) for error in failures] == [(str(tmp_path / "closed"), "Permission denied")]
