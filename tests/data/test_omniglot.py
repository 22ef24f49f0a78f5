"""The reader of the official Omniglot files, on a miniature of them with fewer characters, and on the real ones."""

import io
import json
import os
import shlex
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ppfsl.data import omniglot
from ppfsl.data.class_split import load_split
from ppfsl.data.omniglot import OFFICIAL_FILES, omniglot_source
from ppfsl.data.source import Source
from ppfsl.data.table import ImageTable, load_table
from ppfsl.errors import UserError

REMEDY = "python tools/prepare_data.py omniglot"
ARCHIVES = ["images_background.zip", "images_evaluation.zip"]
# The alphabets of the two files interleave, as the real ones do.
BACKGROUND = ["Burmese_(Myanmar)/character01", "Burmese_(Myanmar)/character02", "N_Ko/character01"]
EVALUATION = ["Aurek-Besh/character01", "Keble/character01"]
SORTED = [EVALUATION[0], BACKGROUND[0], BACKGROUND[1], EVALUATION[1], BACKGROUND[2]]
DRAWINGS = 3


def strokes(character: str, drawing: int) -> np.ndarray:
    """True where the paper is, [7, 7]; another picture for every drawing, and no two of its rotations are equal."""
    paper = np.random.default_rng([*character.encode(), drawing]).random((7, 7)) > 0.4
    paper[0, 0], paper[0, -1], paper[-1, 0], paper[-1, -1] = False, True, True, True
    return paper


def png(paper: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(paper).save(buffer, "PNG")
    return buffer.getvalue()


def members(folder: str, characters: Iterable[str], drawings: int = DRAWINGS) -> dict[str, bytes]:
    return {
        f"{folder}/{character}/{900 + k:04d}_{d:02d}.png": png(strokes(character, d))
        for k, character in enumerate(characters)
        for d in range(1, drawings + 1)
    }


def pack(path: Path, content: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


@pytest.fixture(autouse=True)
def few_characters(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real" not in request.fixturenames and "real_table" not in request.fixturenames:
        monkeypatch.setattr(omniglot, "CHARACTERS", 5)
        monkeypatch.setattr(omniglot, "DRAWINGS", DRAWINGS)
        monkeypatch.setattr(omniglot, "_LISTS", {"background": (2, 3), "evaluation": (2, 2)})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A complete folder of files, with members in them that are none of ours and in an order of no meaning."""
    folder = tmp_path / "data root" / "omniglot"
    folder.mkdir(parents=True)
    decoys = {
        "images_background/": b"",
        "images_background/N_Ko/character01/": b"",
        "__MACOSX/images_background/N_Ko/character01/._0902_01.png": b"not ours",
        "images_background/N_Ko/character01/.DS_Store": b"not ours",
        "images_background/../N_Ko/character02/0902_01.png": b"outside",
        "images_evaluation/N_Ko/character03/0902_01.png": b"the other file's folder",
        "images_background/N_Ko/character٠٤/0902_01.png": b"digits, but not ours",
        "images_background/N_Ko/character01/O902_01.png": b"a letter",
        "images_background/N_Ko/character01/0902_01_png": b"another ending",
    }
    background = members("images_background", BACKGROUND)
    pack(folder / ARCHIVES[0], {**decoys, **dict(reversed(background.items()))}, zipfile.ZIP_DEFLATED)
    pack(folder / ARCHIVES[1], members("images_evaluation", EVALUATION))
    return folder


def pixels(source: Source) -> np.ndarray:
    """All rows by their index, [N, 7, 7]."""
    out: list[np.ndarray | None] = [None] * len(source.files)
    for row, load in source.images():
        assert out[row] is None, "the index came twice"
        out[row] = np.asarray(load())
    return np.stack(out)  # type: ignore[arg-type]


UPRIGHT = np.stack([strokes(character, d) for character in SORTED for d in (1, 2, 3)])


def test_upright_characters_are_numbered_in_order_over_both_files(root: Path) -> None:
    source = omniglot_source(root, rotations=False)
    assert source.name == "omniglot"
    assert source.class_names == dict(enumerate(SORTED))
    assert source.labels.dtype == np.int64
    assert source.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
    assert source.files[:4] == (
        *(f"Aurek-Besh/character01/0900_0{d}.png" for d in (1, 2, 3)),
        "Burmese_(Myanmar)/character01/0900_01.png",
    )
    assert source.lists["background"].tolist() == [3, 4, 5, 6, 7, 8, 12, 13, 14]
    assert source.lists["evaluation"].tolist() == [0, 1, 2, 9, 10, 11]
    assert all(rows.dtype == np.int64 for rows in source.lists.values())
    np.testing.assert_array_equal(pixels(source), UPRIGHT)


def test_rotations_are_classes_of_their_own_with_names_that_say_the_turn(root: Path) -> None:
    source = omniglot_source(root, rotations=True)
    upright = omniglot_source(root, rotations=False)
    assert len(source.files) == len(set(source.files)) == 4 * 15
    np.testing.assert_array_equal(source.labels, np.concatenate([upright.labels + 5 * r for r in range(4)]))
    for r, turn in enumerate(("rot000", "rot090", "rot180", "rot270")):
        for k, name in enumerate(SORTED):
            assert source.class_names[k + 5 * r] == f"{name}/{turn}"
        assert source.files[15 * r] == f"Aurek-Besh/character01/{turn}/0900_01.png"
    assert len(source.class_names) == 20
    for part, rows in upright.lists.items():
        np.testing.assert_array_equal(source.lists[part], np.concatenate([rows + 15 * r for r in range(4)]))


def test_rotated_rows_are_the_upright_ones_turned_counter_clockwise(root: Path) -> None:
    before = sorted(root.iterdir())
    turned = pixels(omniglot_source(root, rotations=True))
    for r in range(4):
        np.testing.assert_array_equal(turned[15 * r : 15 * (r + 1)], np.rot90(UPRIGHT, r, axes=(1, 2)))
    assert sorted(root.iterdir()) == before, "the files must not be extracted"


@pytest.mark.parametrize("rotations", [False, True])
def test_every_drawing_is_read_once(root: Path, monkeypatch: pytest.MonkeyPatch, rotations: bool) -> None:
    read: list[str] = []
    original = zipfile.ZipFile.open
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *a, **k: (read.append(a[1].filename), original(*a, **k))[1])
    pixels(omniglot_source(root, rotations))
    assert len(read) == len(set(read)) == 15


def test_a_resized_table_has_grey_values_and_dark_ink(root: Path, tmp_path: Path) -> None:
    table = load_table(omniglot_source(root, rotations=False), tmp_path / "cache", size=4, channels=1, progress=False)
    assert table.images.shape == (15, 4, 4, 1)
    assert ((table.images > 0) & (table.images < 255)).any()
    same = load_table(omniglot_source(root, rotations=False), tmp_path / "cache", size=7, channels=1, progress=False)
    np.testing.assert_array_equal(same.images[..., 0], np.where(UPRIGHT, 255, 0))


def test_tables_with_and_without_rotations_are_cached_side_by_side(root: Path, tmp_path: Path) -> None:
    for rotations in (False, True, False):
        load_table(omniglot_source(root, rotations), tmp_path / "cache", size=7, channels=1, progress=False)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_identity_follows_the_files_the_rotations_and_nothing_else(root: Path) -> None:
    def identity(rotations: bool = True) -> str:
        return json.dumps(omniglot_source(root, rotations).identity, sort_keys=True)

    seen = {identity()}
    assert identity() in seen
    assert omniglot_source(root, True).identity["root"] == str(root.resolve())
    assert identity(rotations=False) not in seen
    for file in ARCHIVES:
        os.utime(root / file, ns=(1, 1))
        assert identity() not in seen, file
        seen.add(identity())


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


def test_official_files_are_those_that_the_reader_reads() -> None:
    assert [file.name for file in OFFICIAL_FILES] == ARCHIVES
    for file in OFFICIAL_FILES:
        assert file.url == f"https://raw.githubusercontent.com/brendenlake/omniglot/master/python/{file.name}"
        assert len(file.md5) == 32


def test_shipped_split_keeps_the_rotations_of_a_character_together() -> None:
    split = load_split("omniglot", "vinyals")
    parts = [split.base.classes, split.validation.classes, split.novel.classes]
    assert [len(part) for part in parts] == [4112, 688, 1692]
    assert sorted(sum(parts, ())) == list(range(6492))
    for part in parts:
        assert list(part) == sorted(part)
        assert {label % 1623 + 1623 * r for label in part for r in range(4)} == set(part)


def test_trainval_moves_the_validation_classes_to_the_base_and_leaves_the_novel_ones() -> None:
    chosen_on, trained_on = load_split("omniglot", "vinyals"), load_split("omniglot", "vinyals_trainval")
    assert trained_on.base.classes == tuple(sorted(chosen_on.base.classes + chosen_on.validation.classes))
    assert trained_on.validation.classes == ()
    assert trained_on.novel == chosen_on.novel


@pytest.fixture(scope="module")
def real() -> Path:
    if "PPFSL_DATA" not in os.environ:
        pytest.skip("PPFSL_DATA is not set, so there are no drawings")
    folder = Path(os.environ["PPFSL_DATA"]) / "omniglot"
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing")
    return folder


@pytest.fixture(scope="module")
def real_table(real: Path, tmp_path_factory: pytest.TempPathFactory) -> ImageTable:
    return load_table(omniglot_source(real, True), tmp_path_factory.mktemp("cache"), 28, channels=1, progress=False)


@pytest.mark.real_data
def test_real_files_have_the_published_counts(real: Path) -> None:
    for rotations, classes in ((False, 1623), (True, 6492)):
        source = omniglot_source(real, rotations)
        assert len(source.class_names) == classes
        assert (np.bincount(source.labels) == np.full(classes, 20)).all()
        assert len(set(source.files)) == len(source.files) == 20 * classes
        assert len({name.split("/")[0] for name in source.class_names.values()}) == 50
        alphabets = {
            part: {source.files[row].split("/")[0] for row in rows.tolist()} for part, rows in source.lists.items()
        }
        assert {part: len(found) for part, found in alphabets.items()} == {"background": 30, "evaluation": 20}
        assert alphabets["background"] & {"Greek", "Korean", "Angelic"} == {"Greek", "Korean"}
        assert sorted(np.concatenate(list(source.lists.values()))) == list(range(20 * classes))


@pytest.mark.real_data
def test_real_split_holds_the_classes_of_the_published_lists(real: Path) -> None:
    names = omniglot_source(real, True).class_names
    labels = {name: label for label, name in names.items()}
    split = load_split("omniglot", "vinyals")
    for line, part in (
        ("Angelic/character01/rot000", split.base),
        ("Angelic/character01/rot270", split.base),
        ("Hebrew/character01/rot090", split.validation),
        ("Gurmukhi/character42/rot000", split.novel),
        ("Gurmukhi/character42/rot180", split.novel),
    ):
        assert labels[line] in part.classes, line


@pytest.mark.real_data
def test_real_rotations_are_exact_at_the_published_size(real: Path) -> None:
    upright: dict[int, np.ndarray] = {}
    compared = 0
    for row, load in omniglot_source(real, True).images():
        if row % 32460 % 500 == 0:
            turns, drawing = divmod(row, 32460)
            image = load()
            assert (image.mode, image.size) == ("1", (105, 105))
            if turns == 0:
                upright[drawing] = np.asarray(image)
                assert upright[drawing].mean() > 0.8, "paper is white"
            np.testing.assert_array_equal(np.asarray(image), np.rot90(upright[drawing], turns))
            compared += 1
    assert compared == 4 * 65


@pytest.mark.real_data
@pytest.mark.slow
def test_real_table_of_28_pixels_is_grey_and_turned(real_table: ImageTable) -> None:
    images = np.asarray(real_table.images).reshape(4, 32460, 28, 28)
    assert len(np.unique(images)) > 200, "resized from black and white without grey values in between"
    for r in range(1, 4):
        turned = np.rot90(images[0], r, axes=(1, 2))
        # Pillow resizes the rows first, then the columns, and rounds in between.
        assert np.abs(images[r].astype(np.int16) - turned).max() <= 1
    assert real_table.class_names[1623] == "Alphabet_of_the_Magi/character01/rot090"
    assert real_table.labels[32460 + 20] == 1624
