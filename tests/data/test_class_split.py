"""Class splits: the shipped ones, random ones, and what is wrong with bad ones."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfsl.data.class_split import (
    PART_NAMES,
    ClassSplit,
    Part,
    load_split,
    part_images,
    ratio_split,
    shipped_splits,
)
from ppfsl.data.table import ImageTable
from ppfsl.errors import UserError


def table_of(labels: list[int], **lists: list[int]) -> ImageTable:
    return ImageTable(
        name="flowers102",
        images=np.zeros((len(labels), 1, 1, 3), dtype=np.uint8),
        labels=np.asarray(labels, dtype=np.int64),
        class_names={label: str(label) for label in set(labels)},
        files=tuple(str(row) for row in range(len(labels))),
        lists={name: np.asarray(rows, dtype=np.int64) for name, rows in lists.items()},
        hash="0" * 64,
    )


def split_file(tmp_path: Path, value: object) -> str:
    path = tmp_path / "own.json"
    path.write_text(json.dumps(value))
    return str(path)


# --- shipped


def test_flower_splits_are_shipped() -> None:
    assert shipped_splits("flowers102") == ["article", "fsl_ssl", "metadataset"]
    assert shipped_splits("flowers") == []
    assert shipped_splits("folder") == []


@pytest.mark.parametrize(("name", "counts"), [("metadataset", (71, 15, 16)), ("fsl_ssl", (51, 26, 25))])
def test_shipped_parts_divide_the_102_classes(name: str, counts: tuple[int, int, int]) -> None:
    split = load_split("flowers102", name)
    assert split.name == name
    parts = [split.part(part) for part in PART_NAMES]
    assert parts == [split.base, split.validation, split.novel]
    assert tuple(len(part.classes) for part in parts) == counts
    assert sorted(label for part in parts for label in part.classes) == list(range(1, 103))
    assert all(part.list is None for part in parts)


def test_metadataset_novel_classes() -> None:
    novel = load_split("flowers102", "metadataset").novel.classes
    assert novel == (5, 9, 15, 19, 35, 40, 41, 42, 45, 46, 65, 85, 89, 94, 96, 98)


def test_fsl_ssl_follows_its_rule() -> None:
    split = load_split("flowers102", "fsl_ssl")
    for label in range(1, 103):
        part = {0: split.base, 1: split.validation, 2: split.base, 3: split.novel}[(label - 1) % 4]
        assert label in part.classes


def test_article_takes_base_and_novel_from_different_official_lists() -> None:
    split = load_split("flowers102", "article")
    assert split.base == Part(tuple(range(1, 26)), "test")
    assert split.validation == Part((), None)
    assert split.novel == Part((1, 2, 3, 4, 5), "train")


# --- files


def test_own_file_with_and_without_lists(tmp_path: Path) -> None:
    path = split_file(tmp_path, {"base": [3, 1], "validation": [], "novel": {"classes": [2], "list": "test"}})
    assert load_split("folder", path) == ClassSplit("own", Part((3, 1)), Part(()), Part((2,), "test"))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"base": [1], "novel": [2]}, "it has no key 'validation'"),
        ({"base": {"list": "x"}, "validation": [], "novel": []}, "it has no key 'classes'"),
        ({"base": ["1"], "validation": [], "novel": []}, "classes of 'base' must be a list of whole numbers, the data"),
        ({"base": [1.5], "validation": [], "novel": []}, "classes of 'base' must be a list of whole numbers, the data"),
        ({"base": {"classes": [1], "list": 3}, "validation": [], "novel": []}, "and its list a name"),
        ({"base": [1, 2], "validation": [3], "novel": [2]}, "class 2 is in 'base' and in 'novel'"),
        ({"base": [1], "validation": [3], "novel": [3]}, "class 3 is in 'validation' and in 'novel'"),
        ({"base": [1, 1], "validation": [], "novel": [2]}, "class 1 is in 'base' and in 'base'"),
        (
            {"base": {"classes": [1], "list": "a"}, "validation": [], "novel": {"classes": [1], "list": "a"}},
            "class 1 is in 'base' and in 'novel'",
        ),
        (
            {"base": [1], "validation": [], "novel": {"classes": [1], "list": "a"}},
            "class 1 is in 'base' and in 'novel'",
        ),
        (
            {"base": {"classes": [1], "list": "a"}, "validation": [], "novel": [1]},
            "class 1 is in 'base' and in 'novel'",
        ),
        (
            {"base": {"classes": [1], "list": "a"}, "validation": {"classes": [1], "list": "b"},
             "novel": {"classes": [1], "list": "b"}},
            "class 1 is in 'validation' and in 'novel'",
        ),
        ([1, 2], "it must be an object with the keys base, validation and novel"),
        ("text", "it must be an object with the keys base, validation and novel"),
        ({"base": 3, "validation": [], "novel": []}, "classes of 'base' must be a list of whole numbers, the data"),
        ({"base": [True], "validation": [], "novel": []}, "the classes of 'base' must be a list of whole numbers, "),
        ({"base": "12", "validation": [], "novel": []}, "the classes of 'base' must be a list of whole numbers, the d"),
        (
            {"base": [1], "validation": [], "novel": [2], "tset": [3]},
            "unknown key 'tset'; known: base, validation, novel, source, labels",
        ),
        (
            {"base": {"classes": [1], "lst": "a"}, "validation": [], "novel": [2]},
            "unknown key 'lst'; known: classes, list",
        ),
    ],
)  # fmt: skip
def test_malformed_file_is_named_with_what_is_wrong(tmp_path: Path, value: object, why: str) -> None:
    with pytest.raises(UserError, match=rf"own\.json cannot be used: .*{why}"):
        load_split("flowers102", split_file(tmp_path, value))


def test_missing_and_unreadable_files_and_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no file \S+nowhere\.json"):
        load_split("flowers102", str(tmp_path / "nowhere.json"))
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UserError, match=r"bad\.json cannot be used: Expecting"):
        load_split("flowers102", str(tmp_path / "bad.json"))
    with pytest.raises(
        UserError,
        match=r"flowers102 has no split 'metadata'; known: article, fsl_ssl, metadataset, or the path of a \.json file",
    ):
        load_split("flowers102", "metadata")
    with pytest.raises(UserError, match="known: none"):
        load_split("folder", "metadataset")


# --- ratio


@st.composite
def ratios(draw: st.DrawFn) -> list[float]:
    shares = draw(st.lists(st.integers(0, 20), min_size=3, max_size=3).filter(any))
    return [share / sum(shares) for share in shares]


@settings(deadline=None)
@given(labels=st.sets(st.integers(0, 10_000), min_size=3, max_size=200), ratio=ratios(), seed=st.integers(0, 2**40))
def test_ratio_split_divides_the_classes(labels: set[int], ratio: list[float], seed: int) -> None:
    split = ratio_split(np.asarray(sorted(labels)), ratio, seed)
    parts = [split.part(name).classes for name in PART_NAMES]
    assert sorted(label for part in parts for label in part) == sorted(labels)
    for part, share in zip(parts, ratio, strict=True):
        assert list(part) == sorted(part)
        assert all(type(label) is int for label in part), "JSON knows no numpy"
        assert (len(part) > 0) == (share > 0)
        assert abs(len(part) - share * len(labels)) < 2.5
    assert split.name == "ratio"


@settings(deadline=None)
@given(labels=st.lists(st.integers(0, 50), min_size=30, max_size=60), seed=st.integers(0, 100))
def test_ratio_split_depends_on_the_set_of_labels_alone(labels: list[int], seed: int) -> None:
    if len(set(labels)) >= 3:
        expected = ratio_split(sorted(set(labels)), (0.6, 0.2, 0.2), seed)
        assert ratio_split(labels, (0.6, 0.2, 0.2), seed) == expected
        assert ratio_split(np.asarray(labels[::-1]), (0.6, 0.2, 0.2), seed) == expected


def test_ratio_split_depends_on_the_seed_and_mixes_the_classes() -> None:
    splits = [ratio_split(range(100), (0.6, 0.2, 0.2), seed) for seed in range(20)]
    assert len({split.novel.classes for split in splits}) == 20
    assert {len(split.base.classes) for split in splits} == {60}
    assert {len(split.validation.classes) for split in splits} == {20}
    taken = np.bincount(np.concatenate([split.novel.classes for split in splits]), minlength=100)
    assert (taken > 0).sum() > 90, "every class gets its turn"


def test_small_shares_get_one_class_and_zero_shares_none() -> None:
    counts = [len(ratio_split(range(10), ratio, 0).part(name).classes)
              for ratio in ((0.98, 0.01, 0.01), (0.0, 0.5, 0.5), (1.0, 0.0, 0.0)) for name in PART_NAMES]  # fmt: skip
    assert counts == [8, 1, 1, 0, 5, 5, 10, 0, 0]


def test_too_few_classes_are_a_mistake() -> None:
    with pytest.raises(UserError, match=r"2 classes cannot be divided into 3 parts; add classes"):
        ratio_split([1, 1, 2], (0.6, 0.2, 0.2), 0)
    assert len(ratio_split([1, 2], (0.5, 0.0, 0.5), 0).novel.classes) == 1


# --- part_images


def test_part_images_are_the_rows_of_its_classes() -> None:
    table = table_of([3, 1, 2, 1, 3, 2])
    split = ClassSplit("s", Part((1, 3)), Part((2,)), Part(()))
    assert part_images(table, split, "base").tolist() == [0, 1, 3, 4]
    assert part_images(table, split, "validation").tolist() == [2, 5]
    assert part_images(table, split, "novel").tolist() == []
    assert part_images(table, split, "base").dtype == np.int64


def test_official_list_restricts_the_rows_ascending() -> None:
    table = table_of([1, 2, 1, 2, 1], train=[4, 3, 0], test=[1, 2])
    split = ClassSplit("s", Part((1,), "train"), Part(()), Part((1, 2), "test"))
    assert part_images(table, split, "base").tolist() == [0, 4]
    assert part_images(table, split, "novel").tolist() == [1, 2]
    assert table.lists["train"].tolist() == [4, 3, 0], "the table's own list keeps its order"


def test_part_that_the_table_cannot_serve_is_a_mistake() -> None:
    table = table_of([1, 2, 1], train=[0])
    with pytest.raises(UserError, match=r"split s: class 7 of its novel part has no image in flowers102"):
        part_images(table, ClassSplit("s", Part((1,)), Part(()), Part((7, 2))), "novel")
    with pytest.raises(UserError, match=r"split s: class 2 of its base part has no image"):
        part_images(table, ClassSplit("s", Part((1, 2), "train"), Part(()), Part(())), "base")
    with pytest.raises(UserError, match=r"flowers102 has no official list 'tests'; known: train"):
        part_images(table, ClassSplit("s", Part((1,), "tests"), Part(()), Part(())), "base")
