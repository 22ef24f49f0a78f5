"""The reader of the official Omniglot files: classes, rotations, tables and identity."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ppfsl.data.omniglot import omniglot_source
from ppfsl.data.table import load_table
from tests.data.omniglot.files import ARCHIVES, SORTED, UPRIGHT, pixels


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
