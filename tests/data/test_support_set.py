"""Support sets: drawn by the seed, kept as files, checked when read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfsl.data.support_set import SupportSet, as_episode, draw_support_set, load_support_set, save_support_set
from ppfsl.data.table import ImageTable
from ppfsl.errors import UserError


def table_of(classes: int = 6, each: int = 5) -> ImageTable:
    labels = np.repeat(10 * np.arange(1, classes + 1), each)
    return ImageTable(
        name="flowers102",
        images=np.zeros((len(labels), 1, 1, 3), dtype=np.uint8),
        labels=labels,
        class_names={int(label): f"flower {label}" for label in labels},
        files=tuple(f"jpg/{label}_{row}.jpg" for row, label in enumerate(labels)),
        lists={},
        hash="0" * 64,
    )


TABLE = table_of()
ROWS = np.asarray([row for row in range(30) if row % 5])  # four images of each class


def drawn(way: int = 3, shot: int = 1, query: int = 2, seed: int = 0, **extra: Any) -> SupportSet:
    return draw_support_set(TABLE, ROWS, way, shot, query, seed, split="metadataset", part="novel", **extra)


# --- drawing


@settings(deadline=None)
@given(way=st.integers(2, 6), shot=st.integers(1, 3), seed=st.integers(0, 2**40))
def test_support_set_is_balanced_and_disjoint_from_its_queries(way: int, shot: int, seed: int) -> None:
    query = 4 - shot
    found = drawn(way, shot, query, seed)
    assert (found.way, found.shot, found.seed) == (way, shot, seed)
    labels = [label for label, _ in found.classes]
    assert len(set(labels)) == way
    assert [label for _, label in found.support] == [label for label in labels for _ in range(shot)]
    assert [label for _, label in found.query] == [label for label in labels for _ in range(query)]
    files = [file for file, _ in found.support + found.query]
    assert len(set(files)) == len(files)
    row_of = {file: row for row, file in enumerate(TABLE.files)}
    for file, label in found.support + found.query:
        assert row_of[file] in ROWS
        assert TABLE.labels[row_of[file]] == label
    assert found.classes == tuple((label, f"flower {label}") for label in labels)


def test_same_seed_same_support_set() -> None:
    assert drawn(seed=3) == drawn(seed=3)
    assert len({drawn(way=6, shot=2, seed=seed).support for seed in range(10)}) == 10
    assert len({drawn(seed=seed).classes for seed in range(10)}) > 1


def test_explicit_classes_keep_their_order() -> None:
    found = drawn(classes=[50, 10, 30])
    assert [label for label, _ in found.classes] == [50, 10, 30]
    assert [label for _, label in found.support] == [50, 10, 30]
    assert as_episode(found, TABLE).classes.tolist() == [50, 10, 30]


def test_drawn_classes_are_in_the_order_of_labels() -> None:
    for seed in range(5):
        labels = [label for label, _ in drawn(seed=seed).classes]
        assert labels == sorted(labels)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"way": 7},
            "a 7-way support set needs 7 classes, but there are 6 novel classes; lower evaluation.support_set.way",
        ),
        ({"classes": [10, 20]}, "classes lists 2 classes, 2 of them different, for a 3-way support set; make these"),
        ({"classes": [10, 10, 20]}, "classes lists 3 classes, 2 of them different, for a 3-way support set"),
        ({"classes": [10, 10, 20], "way": 2}, "classes lists 3 classes, 2 of them different, for a 2-way support"),
        ({"classes": [10, 20, 35]}, "support_set.classes: class 35 is not among the novel classes of metadataset"),
        (
            {"shot": 3},
            "class 10 (flower 10) has 4 images, but 3 shots and 2 queries need 5; lower evaluation.support_set.shot or",
        ),
    ],
)
def test_what_the_rows_cannot_serve_is_refused(arguments: dict[str, Any], sentence: str) -> None:
    if arguments.get("shot"):
        arguments = {**arguments, "classes": [10, 20, 30]}
    with pytest.raises(UserError) as caught:
        drawn(**arguments)
    assert sentence in str(caught.value)


def test_size_of_other_classes_does_not_matter() -> None:
    rows = np.concatenate([ROWS[ROWS >= 5], [1]])  # one image of class 10
    found = draw_support_set(TABLE, rows, 2, 1, 2, 0, split="s", part="novel", classes=[20, 30])
    assert len(found.query) == 4


# --- files


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "support_set.json"
    found = drawn(shot=2)
    save_support_set(found, path)
    assert load_support_set(path) == found
    stored = json.loads(path.read_text())
    assert stored["schema"] == 1
    assert stored["support"][0].keys() == {"file", "label"}


def test_names_beyond_ascii_survive(tmp_path: Path) -> None:
    classes, support = ((1, "向日葵"), (2, "牡丹")), (("花/1.jpg", 1), ("花/3.jpg", 2))
    found = SupportSet("folder", "s", "novel", 0, 2, 1, classes, support, (("花/2.jpg", 1), ("花/4.jpg", 2)))
    save_support_set(found, tmp_path / "s.json")
    assert load_support_set(tmp_path / "s.json") == found


def test_support_set_as_episode() -> None:
    found = drawn(way=4, shot=2, query=2)
    episode = as_episode(found, TABLE)
    assert episode.support.shape == (4, 2)
    assert episode.query.shape == (4, 2)
    assert [TABLE.files[row] for row in episode.support.ravel()] == [file for file, _ in found.support]
    assert [TABLE.files[row] for row in episode.query.ravel()] == [file for file, _ in found.query]
    assert (TABLE.labels[episode.support] == episode.classes[:, None]).all()
    assert (TABLE.labels[episode.query] == episode.classes[:, None]).all()


Edit = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda s: s.pop("query"), "query: Field required"),
        (lambda s: s.pop("way"), "way: Field required"),
        (lambda s: s["support"][0].pop("label"), "support.0.label: Field required"),
        (lambda s: s["query"].append(s["support"][0]), "is listed twice; support and query must not overlap"),
        (lambda s: s["support"].append(s["support"][0]), "is listed twice"),
        (lambda s: s["support"].pop(), "its support list must hold 1 images of each class"),
        (lambda s: s["query"].pop(), "its query list must hold 1 images of each class"),
        (lambda s: s.update(shot=2), "its support list must hold 2 images of each class"),
        (lambda s: s.update(way=4), "it lists 3 different classes for 4 ways"),
        (
            lambda s: s.update(way=0, classes=[], support=[], query=[]),
            "way: Input should be greater than or equal to 2",
        ),
        (lambda s: s["classes"].__setitem__(1, s["classes"][0]), "it lists 2 different classes for 3 ways"),
        (lambda s: s["support"].reverse(), "class by class"),
        (lambda s: s.update(query=[]), "query: List should have at least 1 item"),
        (lambda s: s.update(shot=0, support=[]), "shot: Input should be greater than or equal to 1"),
        (lambda s: s.update(seed="7"), "seed: Input should be a valid integer"),
        (lambda s: s.update(schema=2), "schema: Input should be 1"),
        (lambda s: s["query"][0].update(label="60"), "query.0.label: Input should be a valid integer"),
        (lambda s: s["support"][0].update(label=60), "its support list must hold 1 images of each class"),
        (lambda s: s.update(support=3), "support: Input should be a valid list"),
        (lambda s: s.update(classes=["daisy"] * 3), "classes.0: Input should be a valid dictionary"),
    ],
)
def test_malformed_file_is_refused_in_one_sentence(tmp_path: Path, edit: Edit, sentence: str) -> None:
    stored = drawn(classes=[10, 20, 30]).to_json()
    edit(stored)
    path = tmp_path / "support_set.json"
    path.write_text(json.dumps(stored))
    with pytest.raises(UserError) as caught:
        load_support_set(path)
    assert str(caught.value).startswith(f"{path} cannot be used: ")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "null", "\x00"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(UserError, match="cannot be used"):
        load_support_set(tmp_path / "s.json")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no file \S+none\.json"):
        load_support_set(tmp_path / "none.json")


def test_file_that_the_table_lacks_is_named() -> None:
    found = drawn()
    with pytest.raises(UserError, match=r"file jpg/\d+_\d+\.jpg is not in flowers102; draw the support set anew"):
        as_episode(found, table_of(classes=1))


def test_file_under_another_label_is_named() -> None:
    other = ImageTable(**{**TABLE.__dict__, "labels": TABLE.labels + 1})
    with pytest.raises(UserError, match=r"the support set gives jpg/\S+ label 10, flowers102 11"):
        as_episode(drawn(classes=[10, 20, 30]), other)
