"""Which evaluations are compared episode by episode."""

from typing import Any

import pytest

from ppfsl.reporting.pairing import same_pictures, same_questions

ASKED: dict[str, Any] = {"part": "novel", "way": 5, "shot": 1, "query": 15, "episodes": 600, "seed": 0}
OLD: dict[str, Any] = {"dataset": "omniglot", "split": "vinyals"}


@pytest.mark.parametrize(
    "change", [{"part": "validation"}, {"way": 20}, {"shot": 5}, {"query": 5}, {"episodes": 300}, {"seed": 1}]
)
def test_every_part_of_a_question_counts(change: dict[str, Any]) -> None:
    assert same_questions(ASKED, ASKED | {"adaptation": "another"})
    assert not same_questions(ASKED, ASKED | change)


def test_results_that_say_their_pictures_are_compared_by_these() -> None:
    one = OLD | {"pictures": "1"}
    assert same_pictures(one, {"dataset": "omniglot", "split": "own", "pictures": "1"}, "novel")
    assert not same_pictures(one, OLD | {"pictures": "2"}, "novel")


@pytest.mark.parametrize(
    ("changes", "part", "same"),
    [
        ({}, "novel", True),
        ({"dataset": "flowers102"}, "novel", False),
        ({"split": "vinyals_trainval"}, "novel", True),  # which has the same novel classes
        ({"split": "vinyals_trainval"}, "validation", False),
        ({"split": "own"}, "novel", False),
        ({"split": None}, "novel", False),
    ],
)
def test_older_results_are_compared_by_their_splits(changes: dict[str, Any], part: Any, same: bool) -> None:
    for one, other in ((OLD, OLD | changes), (OLD | changes, OLD), (OLD | {"pictures": "1"}, OLD | changes)):
        assert same_pictures(one, other, part) == same


def test_splits_of_one_data_set_with_other_novel_classes_differ() -> None:
    flowers = {"dataset": "flowers102", "split": "fsl_ssl"}
    assert not same_pictures(flowers, flowers | {"split": "metadataset"}, "novel")
