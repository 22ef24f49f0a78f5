"""The reader of folder-per-class trees."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ppfsl.data.folder import folder_source
from ppfsl.data.source import Source
from ppfsl.data.table import load_table
from ppfsl.errors import UserError


def paint(path: Path, colour: tuple[int, int, int] = (0, 0, 0)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), colour).save(path)
    return path


def tree(root: Path, *files: str) -> Path:
    for file in files:
        paint(root / file)
    return root


def by_class(source: Source) -> dict[str, list[str]]:
    """Class name -> its files."""
    named = [source.class_names[int(label)] for label in source.labels]
    return {
        name: [file for file, its in zip(source.files, named, strict=True) if its == name]
        for name in source.class_names.values()
    }


def test_labels_follow_the_sorted_folder_names(tmp_path: Path) -> None:
    tree(tmp_path, "zebra/1.png", "ant/2.png", "ant/1.png", "Mole/x.png")
    source = folder_source(tmp_path)
    assert source.name == "folder"
    assert source.class_names == {1: "Mole", 2: "ant", 3: "zebra"}
    assert source.files == ("Mole/x.png", "ant/1.png", "ant/2.png", "zebra/1.png")
    assert source.labels.tolist() == [1, 2, 2, 3]
    assert source.labels.dtype == np.int64
    assert source.lists == {}


def test_images_load_by_their_index(tmp_path: Path) -> None:
    paint(tmp_path / "b" / "1.png", (1, 2, 3))
    paint(tmp_path / "a" / "deep" / "er" / "1.png", (4, 5, 6))
    source = folder_source(tmp_path)
    loaded = {source.files[row]: load().getpixel((0, 0)) for row, load in source.images()}
    assert loaded == {"b/1.png": (1, 2, 3), "a/deep/er/1.png": (4, 5, 6)}


def test_nested_images_belong_to_the_outermost_folder(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.png", "a/b/2.png", "a/c/d/3.png", "b/1.png")
    assert by_class(folder_source(tmp_path)) == {"a": ["a/1.png", "a/b/2.png", "a/c/d/3.png"], "b": ["b/1.png"]}


def test_extensions_count_in_any_case_and_other_files_do_not(tmp_path: Path) -> None:
    images = [f"a/{n}{e}" for n, e in enumerate(
        (".jpg", ".JPEG", ".Png", ".bmp", ".webp", ".gif", ".tif", ".TIFF", ".ppm")
    )]  # fmt: skip
    tree(tmp_path, *images, "b/1.png")
    for other in ("notes.txt", "Thumbs.db", "noextension", "1.png.bak", "png"):
        (tmp_path / "a" / other).write_text("no image")
    (tmp_path / "stray.png").write_text("in no class folder")
    (tmp_path / "a" / "folder.png").mkdir()
    os.mkfifo(tmp_path / "a" / "pipe.png")
    assert by_class(folder_source(tmp_path)) == {"a": images, "b": ["b/1.png"]}


def test_what_is_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree(tmp_path, "a/1.png", "b/1.jfif", "b/2.JPE", "c/.hidden.png", "c/1.png")
    (tmp_path / ".hidden").write_text("not said")
    assert len(folder_source(tmp_path).files) == 4
    assert capsys.readouterr().err == ""
    for other in ("b/2.heic", "a/deep/notes\n.txt", "list.csv"):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_text("no image")
    (tmp_path / "stray.png").write_text("in no class folder")
    assert len(folder_source(tmp_path).files) == 4
    kinds = ".bmp, .gif, .jfif, .jpe, .jpeg, .jpg, .png, .ppm, .tif, .tiff, .webp"
    assert capsys.readouterr().err == (
        f"warning: left out, since they are no pictures ({kinds}): {tmp_path}/a/deep/notes\N{REPLACEMENT CHARACTER}.txt"
        f" and 2 more\nwarning: left out, since they lie in no class folder: {tmp_path}/stray.png\n"
    )


def test_hidden_files_and_folders_do_not_count(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.png", "a/.2.png", "a/.cache/3.png", ".git/4.png", "b/1.png")
    assert by_class(folder_source(tmp_path)) == {"a": ["a/1.png"], "b": ["b/1.png"]}


def test_stanford_dogs_names(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "n02085620-Chihuahua/1.png",
        "n02085782-Japanese_spaniel/1.png",
        "n02088466-black-and-tan/1.png",
        "own_dog/1.png",
        "n123-short/1.png",
        "xn02085620-Chihuahua/1.png",
    )
    assert list(folder_source(tmp_path).class_names.values()) == [
        "Chihuahua", "Japanese spaniel", "black-and-tan", "n123-short", "own_dog", "xn02085620-Chihuahua",
    ]  # fmt: skip


def test_names_that_would_collide_stay_whole(tmp_path: Path) -> None:
    tree(tmp_path, "n02012849-crane/1.png", "n03126707-crane/1.png", "n02085782-Japanese_spaniel/1.png")
    assert list(folder_source(tmp_path).class_names.values()) == [
        "n02012849-crane", "n02085782-Japanese_spaniel", "n03126707-crane",
    ]  # fmt: skip


def test_names_beyond_ascii_work_through_the_table(tmp_path: Path) -> None:
    paint(tmp_path / "images" / "牡丹" / "花 1.png", (9, 8, 7))
    paint(tmp_path / "images" / "Löwe" / "é.png", (1, 1, 1))
    table = load_table(folder_source(tmp_path / "images"), tmp_path / "cache", size=2, progress=False)
    assert table.files == ("Löwe/é.png", "牡丹/花 1.png")
    assert table.class_names == {1: "Löwe", 2: "牡丹"}
    assert table.images[1, 0, 0].tolist() == [9, 8, 7]


def test_name_that_is_not_utf8_is_reported(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.png", "b/1.png")
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/a/\xff.png")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(UserError, match=r"'a/\\udcff\.png' .* is not valid UTF-8; rename it"):
        folder_source(tmp_path)


def test_links_to_files_and_class_folders_are_followed(tmp_path: Path) -> None:
    real = paint(tmp_path / "elsewhere" / "real.png", (5, 5, 5))
    root = tree(tmp_path / "root", "a/1.png")
    (root / "a" / "2.png").symlink_to(real)
    (root / "b").symlink_to(real.parent)
    assert by_class(folder_source(root)) == {"a": ["a/1.png", "a/2.png"], "b": ["b/real.png"]}
    source = folder_source(root)
    loaded = {source.files[row]: load().getpixel((0, 0)) for row, load in source.images()}
    assert loaded["a/2.png"] == loaded["b/real.png"] == (5, 5, 5)


@pytest.mark.parametrize(
    ("link", "target"), [("a/myself", "a"), ("a/up", "."), ("a/other", "b"), ("loop", "."), ("above", "..")]
)
def test_loops_of_links_neither_hang_nor_mix_classes(tmp_path: Path, link: str, target: str) -> None:
    root = tree(tmp_path / "root", "a/1.png", "b/2.png")
    (root / link).symlink_to(root / target)
    assert by_class(folder_source(root)) == {"a": ["a/1.png"], "b": ["b/2.png"]}


def test_links_further_down_are_followed_out_of_the_tree(tmp_path: Path) -> None:
    tree(tmp_path / "elsewhere", "2.png", "deep/3.png")
    root = tree(tmp_path / "root", "a/1.png", "b/4.png")
    (root / "a" / "link").symlink_to(tmp_path / "elsewhere")
    assert by_class(folder_source(root)) == {"a": ["a/1.png", "a/link/2.png", "a/link/deep/3.png"], "b": ["b/4.png"]}


def test_broken_link_is_reported_not_dropped(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "b" / "2.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(UserError, match=r"b/2\.png cannot be read: No such file or directory; mend or remove it"):
        folder_source(tmp_path)


def test_unreadable_folder_is_reported_not_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "a/1.png", "a/closed/2.png", "b/1.png")
    scandir = os.scandir

    def refuse(path: str) -> object:  # root may read everything, so the refusal is played
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"a/closed cannot be read: Permission denied"):
        folder_source(tmp_path)


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere does not exist; give a folder that holds one folder of images per"):
        folder_source(tmp_path / "nowhere")
    file = paint(tmp_path / "file.png")
    with pytest.raises(UserError, match=r"file\.png is not a folder"):
        folder_source(file)
    with pytest.raises(UserError, match=r"holds no class folder and at least two are needed"):
        folder_source(tmp_path)
    tree(tmp_path, "only/1.png", ".hidden/1.png")
    with pytest.raises(UserError, match=r"holds one class folder, only, and at least two are needed"):
        folder_source(tmp_path)
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    (tmp_path / "empty" / "list.txt").write_text("")
    with pytest.raises(UserError, match=r"class folder \S+/empty holds no image; put images there or remove it"):
        folder_source(tmp_path)


def test_identity_changes_with_any_file_and_with_the_place(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", "a/1.png", "a/2.png", "b/1.png")

    def identity(path: Path = root) -> str:
        return json.dumps(folder_source(path).identity, sort_keys=True)

    seen = [identity()]
    assert identity() == seen[0]
    assert folder_source(root).identity["root"] == str(root.resolve())

    def changed() -> None:
        assert identity() not in seen
        seen.append(identity())

    os.utime(root / "a" / "1.png", ns=(1, 1))
    changed()
    (root / "a" / "1.png").write_bytes((root / "a" / "1.png").read_bytes() + b"x")
    os.utime(root / "a" / "1.png", ns=(1, 1))
    changed()
    (root / "a" / "2.png").rename(root / "a" / "3.png")
    changed()
    (root / "b").rename(root / "c")
    changed()
    paint(root / "c" / "9.png")
    changed()
    (root / "c" / "9.png").unlink()
    assert identity() == seen[-2]
    root.rename(tmp_path / "moved")
    assert identity(tmp_path / "moved") not in seen


def test_relative_and_linked_paths_are_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(tmp_path / "root", "a/1.png", "b/1.png")
    (tmp_path / "link").symlink_to(root)
    monkeypatch.chdir(tmp_path)
    expected = folder_source(root).identity
    assert folder_source(Path("root")).identity == expected
    assert folder_source(tmp_path / "link").identity == expected
