"""The official Omniglot files: their addresses, the shipped splits, and what the real ones hold."""

from pathlib import Path

import numpy as np
import pytest

from ppfsl.data.class_split import load_split
from ppfsl.data.omniglot import OFFICIAL_FILES, omniglot_source
from ppfsl.data.table import ImageTable, load_table
from tests.data.omniglot.files import ARCHIVES
from tests.real import real_folder


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
    return real_folder("omniglot", "drawings")


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
