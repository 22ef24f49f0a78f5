"""Omniglot files that are missing, damaged, other than the official ones or not to be read."""

import shlex
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ppfsl.data import omniglot
from ppfsl.data.omniglot import omniglot_source
from ppfsl.data.table import load_table
from ppfsl.errors import UserError
from tests.data.omniglot.files import ARCHIVES, BACKGROUND, UPRIGHT, members, pack, pixels, png, strokes

REMEDY = "python tools/prepare_data.py omniglot"


@pytest.mark.parametrize("missing", ARCHIVES)
def test_missing_file_is_named_with_the_command_that_fetches_it_there(root: Path, missing: str) -> None:
    (root / missing).unlink()
    with pytest.raises(UserError) as caught:
        omniglot_source(root, True)
    assert str(caught.value) == f"{root / missing} is missing; run `{REMEDY} --root {shlex.quote(str(root.parent))}`"


def assert_damaged(caught: pytest.ExceptionInfo[UserError], path: Path, why: str = "") -> None:
    text = str(caught.value)
    assert text.startswith(f"{path} is damaged ({why}")
    assert text.endswith(f"); delete it and run `{REMEDY} --root {shlex.quote(str(path.parents[1]))}`")
    assert "()" not in text
    assert "\n" not in text


@pytest.mark.parametrize("archive", ARCHIVES)
@pytest.mark.parametrize("damage", ["empty", "a tenth", "half", "cut at the end", "html", "head cut"])
def test_damaged_file_is_named_before_any_image_is_read(root: Path, archive: str, damage: str) -> None:
    good = (root / archive).read_bytes()
    bad = {
        "empty": b"",
        "a tenth": good[: len(good) // 10],
        "half": good[: len(good) // 2],
        "cut at the end": good[:-30],
        "html": b"<html>404</html>" * 99,
        "head cut": good[-22:],
    }[damage]
    (root / archive).write_bytes(bad)
    with pytest.raises(UserError) as caught:
        omniglot_source(root, True)
    assert_damaged(caught, root / archive)


def test_altered_drawing_is_noticed_by_the_check_sum(root: Path, tmp_path: Path) -> None:
    path = root / ARCHIVES[1]
    content = bytearray(path.read_bytes())
    drawing = png(strokes("Keble/character01", 2))
    content[content.index(drawing) + len(drawing) // 2] ^= 1
    path.write_bytes(content)
    source = omniglot_source(root, True)
    with pytest.raises(UserError) as caught:
        load_table(source, tmp_path / "cache", size=7, channels=1, progress=False)
    assert_damaged(caught, path, "images_evaluation/Keble/character01/0901_02.png: Bad CRC-32")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("function", ["__init__", "open"])
def test_error_without_words_is_told_by_its_kind(root: Path, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    def fail(*_: object) -> None:
        raise EOFError

    source = omniglot_source(root, True)
    monkeypatch.setattr(zipfile.ZipFile, function, fail)
    monkeypatch.setattr(zipfile.ZipFile, "__del__", lambda _: None)
    with pytest.raises(UserError, match=r"\.zip is damaged \(.*EOFError\); delete it"):
        next(source.images())


def test_random_damage_ends_in_an_error_or_in_the_same_pixels(root: Path) -> None:
    path = root / ARCHIVES[0]
    good, rng = path.read_bytes(), np.random.default_rng(0)
    errors = 0
    for _ in range(150):
        content = bytearray(good)
        for at in rng.integers(len(good), size=3):
            content[at] = rng.integers(256)
        path.write_bytes(content)
        try:
            np.testing.assert_array_equal(pixels(omniglot_source(root, False)), UPRIGHT)
        except UserError as error:
            assert str(error).startswith(f"{path} is damaged ("), error
            errors += 1
    assert errors > 50


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({}, "it holds 0 characters of 0 alphabets, not 3 of 2"),
        (members("images_evaluation", BACKGROUND), "it holds 0 characters of 0 alphabets, not 3 of 2"),
        (members("images_background", BACKGROUND[:2]), "it holds 2 characters of 1 alphabets, not 3 of 2"),
        (members("images_background", [*BACKGROUND, "N_Ko/character02"]), "it holds 4 characters of 2 alphabets"),
        (members("images_background", [*BACKGROUND[:2], "Burmese_(Myanmar)/character03"]), "it holds 3 characters of"),
        (members("images_background", BACKGROUND, 2), "Burmese_(Myanmar)/character01 has 2 of its 3 drawings"),
        (members("images_background", BACKGROUND, 4), "Burmese_(Myanmar)/character01 has 4 of its 3 drawings"),
    ],
    ids=["empty", "the other file", "short", "too many", "an alphabet short", "a drawing short", "a drawing too many"],
)  # fmt: skip
def test_wrong_content_is_named(root: Path, content: dict[str, bytes], why: str) -> None:
    pack(root / ARCHIVES[0], content)
    with pytest.raises(UserError) as caught:
        omniglot_source(root, True)
    assert_damaged(caught, root / ARCHIVES[0], why)


def test_character_of_both_files_is_refused(root: Path) -> None:
    pack(root / ARCHIVES[1], members("images_evaluation", ["Keble/character01", "N_Ko/character01"]))
    with pytest.raises(UserError) as caught:
        omniglot_source(root, True)
    assert_damaged(caught, root / ARCHIVES[1], "N_Ko/character01 is in images_background.zip too")


def test_member_of_insane_size_is_refused_unread(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(omniglot, "_MAX_IMAGE_BYTES", 1000)
    content = members("images_background", BACKGROUND)
    content["images_background/N_Ko/character01/0902_02.png"] = bytes(1001)
    pack(root / ARCHIVES[0], content, zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError) as caught:
        omniglot_source(root, True)
    assert_damaged(caught, root / ARCHIVES[0], "images_background/N_Ko/character01/0902_02.png has 1001 bytes")


@pytest.mark.parametrize("when", ["listed", "images"])
def test_file_that_may_not_be_read_is_no_damage(root: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    images = omniglot_source(root, True).images
    monkeypatch.setattr(zipfile.ZipFile, "__init__", refuse)
    monkeypatch.setattr(zipfile.ZipFile, "__del__", lambda _: None)
    with pytest.raises(UserError) as caught:
        omniglot_source(root, True) if when == "listed" else next(images())
    assert str(caught.value) in {f"{root / name} may not be read; give yourself the permission to" for name in ARCHIVES}
