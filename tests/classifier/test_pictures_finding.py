"""Support sets in folders and lists, and pictures to be labelled: which are found, and in which order."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ppfsl.classifier import pictures
from ppfsl.classifier.pictures import Unreadable, find_pictures, find_support, read_square, read_support
from ppfsl.errors import UserError
from tests.closed import close_folders


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(folder / name, "PNG")


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Four pictures beside one another."""
    touch(tmp_path, "a.png", "b.png", "c.png", "花 1,2.png")
    return tmp_path


def refused(path: Path, *words: str) -> None:
    with pytest.raises(UserError) as caught:
        find_support(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    for word in words:
        assert word in text


# --- support sets


def test_folder_per_class_gives_its_names_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    touch(tmp_path, "tulip/2.png", "tulip/1.png", "玫瑰/below/x.JPG", "玫瑰/.hidden.png", ".git/x.png")
    (tmp_path / "tulip" / "notes.txt").write_text("no picture")
    found = find_support(tmp_path)
    assert found.class_names == ("tulip", "玫瑰")
    assert found.files == (tmp_path / "tulip/1.png", tmp_path / "tulip/2.png", tmp_path / "玫瑰/below/x.JPG")
    assert found.labels.tolist() == [0, 0, 1]
    assert found.labels.dtype == np.int64
    said = capsys.readouterr().err
    assert said.startswith("warning: left out") and said.endswith("/tulip/notes.txt\n"), "also to those who want quiet"


def test_the_same_pictures_in_either_list(flat: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    touch(elsewhere, "d.png")
    (flat / "list.json").write_text(
        json.dumps({"z": ["b.png", "a.png"], "花": ["花 1,2.png", str(elsewhere / "d.png")]}), encoding="utf-8"
    )
    rows = f'label,file\nz,b.png\n花,"花 1,2.png"\nz, a.png\n花,{elsewhere / "d.png"}\n'
    (flat / "list.CSV").write_text(rows, encoding="utf-8")
    by_json, by_csv = find_support(flat / "list.json"), find_support(flat / "list.CSV")
    assert by_json.class_names == by_csv.class_names == ("z", "花"), "in the order of the list"
    assert by_json.files == (flat / "b.png", flat / "a.png", flat / "花 1,2.png", elsewhere / "d.png")
    assert by_json.labels.tolist() == [0, 0, 1, 1]
    assert by_csv.files == (flat / "b.png", flat / "花 1,2.png", flat / "a.png", elsewhere / "d.png")
    assert by_csv.labels.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lists_as_windows_writes_them(flat: Path, newline: str) -> None:
    (flat / "list.csv").write_bytes("\ufefffile,label\na.png,x\nb.png,y\n".replace("\n", newline).encode())
    (flat / "list.json").write_bytes('\ufeff{"x": ["a.png"],\n"y": ["b.png"]}\n'.replace("\n", newline).encode())
    for name in ("list.csv", "list.json"):
        found = find_support(flat / name)
        assert (found.class_names, found.files) == (("x", "y"), (flat / "a.png", flat / "b.png"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a readable list"),
        ("{", "not a readable list"),
        ("[" * 100_000, "not a readable list"),
        ("[]", "must be a JSON object"),
        ('"a.png"', "must be a JSON object"),
        ("null", "must be a JSON object"),
        ('{"x": "a.png", "y": ["b.png"]}', "must be a JSON object"),
        ('{"x": {"file": "a.png"}, "y": ["b.png"]}', "must be a JSON object"),
        ('{"x": ["a.png"], "y": []}', "class 'y' has no picture"),
        ('{"x": ["a.png"], "y": [1]}', "1 is no file name"),
        ('{"x": ["a.png"], "y": [""]}', "'' is no file name"),
        ('{"x": ["a.png"], "y": [["b.png"]]}', "['b.png'] is no file name"),
        ('{"x": ["a.png"], " ": ["b.png"]}', "a class has no name"),
        ('{"x": ["a.png"], "y": ["b.png"], "x": ["c.png"]}', "'x' stands there twice"),
        ("{}", "names 0 classes and at least two are needed"),
        ('{"x": ["a.png", "b.png"]}', "names 1 class and at least two are needed"),
        ('{"x": ["a.png"], "y": ["nowhere.png"]}', "nowhere.png, which is no file"),
        ('{"x": ["a.png"], "y": ["."]}', "which is no file"),
        ('{"x": ["a.png"], "y": ["a\\u0000b"]}', "which is no file"),
        ('{"x": ["a.png"], "y": ["\\ud800"]}', "which is no file"),
        (json.dumps({"x": ["a.png"], "y": ["n" * 5000]}), "cannot be looked up: File name too long; mend that"),
        ('{"x": ["a.png"], "y": ["a.png"]}', "a.png twice"),
        ('{"x": ["a.png"], "y": ["./a.png"]}', "a.png twice"),
    ],
)
def test_json_lists_that_are_none_are_refused(flat: Path, text: str, words: str) -> None:
    (flat / "list.json").write_text(text, encoding="utf-8")
    refused(flat / "list.json", words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "columns file and label"),
        ("a.png,x\nb.png,y\n", "columns file and label"),
        ("file;label\na.png;x\n", "columns file and label"),
        ("file,label,label\na.png,x,y\n", "columns file and label"),
        ("file,label,note\na.png,x,n\n", "columns file and label"),
        ("file,label\n", "names 0 classes"),
        ("file,label\na.png,x\nb.png\n", "row 3: file and label must both be given"),
        ("file,label\na.png,x\nb.png,\n", "row 3: file and label must both be given"),
        ("file,label\na.png,x\n , y\n", "row 3: file and label must both be given"),
        ("file,label\na.png,x\n花 1,2.png,y\n", "row 3 has more than two values; put quotes"),
        ('file,label\na.png,x\nb.png,"y\n', "not a readable list"),
        ("file,label\na.png,x\nb.png," + "y" * 200_000, "not a readable list"),
    ],
)
def test_csv_lists_that_are_none_are_refused(flat: Path, text: str, words: str) -> None:
    (flat / "list.csv").write_text(text, encoding="utf-8")
    refused(flat / "list.csv", words)


@pytest.mark.parametrize("name", ["list.csv", "list.json"])
def test_lists_that_are_not_utf8_are_refused(flat: Path, name: str) -> None:
    (flat / name).write_bytes("file,label\na.png,玫瑰\n".encode("gb18030"))
    with pytest.raises(UserError) as caught:
        find_support(flat / name)
    assert str(caught.value) == f"{flat / name} is not a readable list: it is not in UTF-8; save it as UTF-8"


def test_spaces_around_the_values_of_a_csv_do_not_count(flat: Path) -> None:
    (flat / "list.csv").write_text('file , label\na.png , tulip \nb.png,tulip\nc.png,"rose "\n')
    found = find_support(flat / "list.csv")
    assert found.class_names == ("tulip", "rose")
    assert found.files == (flat / "a.png", flat / "b.png", flat / "c.png")


@pytest.mark.parametrize("name", ["list.csv", "list.json"])
def test_a_picture_has_one_class_however_its_path_is_spelt(flat: Path, name: str) -> None:
    again = f"../{flat.name}/a.png"
    texts = {"list.csv": f"file,label\na.png,x\n{again},y\n", "list.json": json.dumps({"x": ["a.png"], "y": [again]})}
    (flat / name).write_text(texts[name])
    with pytest.raises(UserError) as caught:
        find_support(flat / name)
    assert str(caught.value) == (
        f"{flat / name} lists {flat / 'a.png'} twice, the second time as {flat / again}; each picture has one class"
    )


@pytest.mark.parametrize("name", ["list.csv", "list.json", "tree"])
def test_classes_that_look_alike_are_refused(flat: Path, name: str) -> None:
    composed, decomposed = "L\N{LATIN SMALL LETTER O WITH DIAERESIS}we", "Lo\N{COMBINING DIAERESIS}we"
    (flat / "list.csv").write_text(f"file,label\na.png,{decomposed}\nb.png,{composed}\n", encoding="utf-8")
    (flat / "list.json").write_text(json.dumps({decomposed: ["a.png"], composed: ["b.png"]}), encoding="utf-8")
    touch(flat / "tree", f"{composed}/a.png", f"{decomposed}/b.png")
    with pytest.raises(UserError) as caught:
        find_support(flat / name)
    assert str(caught.value) == (
        f"{flat / name}: the class names 'Lo\\u0308we' and 'L\\xf6we' look alike; spell them in one way, or rename one"
    )


def test_what_is_no_support_set_is_named(flat: Path) -> None:
    refused(flat / "nowhere", "does not exist; give a folder")
    refused(flat / "a.png", "is neither a folder nor a .json or .csv list")
    refused(flat, "holds no class folder and at least two are needed")
    (flat / "rose").mkdir()
    (flat / "tulip").mkdir()
    touch(flat, "rose/a.png")
    with pytest.raises(UserError, match=r"class folder .*tulip holds no image"):
        find_support(flat)


def test_support_sets_are_small(flat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (flat / "list.json").write_text('{"x": ["a.png"], "y": ["b.png", "c.png"]}')
    touch(flat, "tree/x/a.png", "tree/y/b.png", "tree/y/c.png")
    for most, words in (((2, 3), ""), ((1, 3), "2 classes and 3 pictures, more than 1 or 3"), ((2, 2), "or 2; ")):
        monkeypatch.setattr(pictures, "MOST_CLASSES", most[0])
        monkeypatch.setattr(pictures, "MOST_PICTURES", most[1])
        for path in (flat / "list.json", flat / "tree"):
            if words:
                refused(path, words, "a support set is small")
            else:
                assert len(find_support(path).files) == 3


def test_support_set_is_read_in_order_and_its_bad_picture_named(tmp_path: Path) -> None:
    for name, grey in (("x/1.png", 10), ("x/2.png", 20), ("y/1.png", 30)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (9, 7), grey).save(tmp_path / name)
    squares = read_support(find_support(tmp_path), 6, 3)
    assert (squares.shape, squares.dtype) == ((3, 6, 6, 3), np.uint8)
    assert squares[:, 0, 0, 0].tolist() == [10, 20, 30]
    (tmp_path / "x" / "2.png").write_bytes(b"<html>")
    with pytest.raises(UserError, match=r"x/2\.png is not a readable picture \(it is none of JPEG.*\); mend it or"):
        read_support(find_support(tmp_path), 6, 3)


# --- pictures to be labelled


def test_pictures_and_folders_in_the_order_given(tmp_path: Path) -> None:
    touch(tmp_path, "f/b.png", "f/a.PNG", "f/sub/花.webp", "f/.hidden.png", "f/.cache/x.png", "z.png")
    (tmp_path / "odd name").write_bytes(b"")
    found = find_pictures([tmp_path / "z.png", tmp_path / "f", tmp_path / "odd name"])
    assert found == [tmp_path / name for name in ("z.png", "f/a.PNG", "f/b.png", "f/sub/花.webp", "odd name")]


def test_other_files_of_a_folder_are_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    touch(tmp_path, "a.png")
    assert find_pictures([tmp_path]) == [tmp_path / "a.png"]
    assert capsys.readouterr().err == ""
    (tmp_path / "b.heic").write_bytes(b"")
    (tmp_path / ".hidden").write_bytes(b"")
    assert find_pictures([tmp_path]) == [tmp_path / "a.png"]
    assert re.fullmatch(r"left out, since they are no pictures \(\.bmp, .*\): \S+/b\.heic\n", capsys.readouterr().err)
    (tmp_path / "c\x1b[31m.txt").write_bytes(b"")
    find_pictures([tmp_path])
    assert capsys.readouterr().err.endswith("/b.heic and 1 more\n")


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere does not exist; name a picture or a folder of pictures"):
        find_pictures([tmp_path / "nowhere"])
    with pytest.raises(UserError, match=r"holds no picture \(\.bmp, .*\.webp\); name another folder"):
        find_pictures([tmp_path])
    with pytest.raises(UserError, match=r"cannot be looked up: File name too long; mend that, or name another path"):
        find_pictures([tmp_path / ("n" * 5000)])


def test_linked_folders_are_looked_into(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/b.png", "f/a.png")
    (tmp_path / "f" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "f" / "loop").symlink_to(tmp_path / "f")
    assert find_pictures([tmp_path / "f"]) == [tmp_path / "f/a.png", tmp_path / "f/link/b.png"]


def test_folders_that_cannot_be_read_are_named_in_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.png", "closed/b.png", "z.png")
    close_folders(monkeypatch, "closed")
    closed = Unreadable(str(tmp_path / "closed"), "the folder cannot be read: Permission denied")
    assert find_pictures([tmp_path]) == [tmp_path / "a.png", closed, tmp_path / "z.png"]


def test_lost_pictures_are_not_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    found = find_pictures([tmp_path])
    assert found == [tmp_path / "a.png", tmp_path / "b.png"]
    assert isinstance(found[1], Path)
    with pytest.raises(ValueError, match="No such file or directory"):
        read_square(found[1], 8, 3)
