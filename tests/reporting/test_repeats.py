"""Rows that repeat another row with another seed; how the page shows them is tested with its tables."""

from pathlib import Path
from typing import Any

import pytest

from ppfsl.errors import UserError
from ppfsl.reporting.repeats import check_repeats, repeats_of, spread
from ppfsl.reporting.rows import About, Row

RESULTS = Path("results")


def row(name: str, seed: int, repeats: str = "", comparison: str = "", **facts: Any) -> Row:
    about = About(order=1, title=name, command="x", machine="m", minutes=1, repeats=repeats, comparison=comparison)
    result = {"dataset": "flowers102", "split": "fsl_ssl", "backbone": "conv4", "pretrained": None, "seed": seed}
    return about, result | {"image_size": 84, "stages": ["cosine"]} | facts, RESULTS / name


def evaluation(accuracy: float, **other: Any) -> dict[str, Any]:
    asked = {"part": "novel", "way": 2, "shot": 1, "query": 5, "episodes": 2, "seed": 0, "support_set": False}
    return asked | {"adaptation": "class_mean", "accuracy": accuracy} | other


def test_rows_with_other_seeds_repeat_a_row() -> None:
    rows = [row("a", 0, comparison="c"), row("b", 2, repeats="a"), row("c", 1, repeats="a"), row("d", 0)]
    check_repeats(rows)
    assert [folder.name for *_, folder in repeats_of(RESULTS / "a", rows)] == ["c", "b"]
    assert repeats_of(RESULTS / "d", rows) == repeats_of(RESULTS / "b", rows) == []


def test_a_row_of_the_same_name_in_another_folder_is_another() -> None:
    rows = [row("x/a", 0), row("y/a", 0), row("y/b", 1, repeats="a")]
    check_repeats(rows)
    assert repeats_of(RESULTS / "x" / "a", rows) == []
    with pytest.raises(UserError, match="there is no row a that it could repeat"):
        check_repeats([rows[0], rows[2]])


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({}, {"repeats": "b"}, r"b/about\.yaml: there is no row b that it could repeat and that repeats none itself"),
        ({}, {"repeats": "z"}, r"b/about\.yaml: there is no row z that it could repeat and that repeats none itself"),
        ({"repeats": "b"}, {}, r"a/about\.yaml: b or another run that repeats it has the seed 3 already; run it with"),
        ({}, {"repeats": "a"}, r"b/about\.yaml: a or another run that repeats it has the seed 3 already; run it with"),
        ({}, {"repeats": "a", "comparison": "c"}, "a row cannot both repeat a and be in a comparison; leave one out"),
    ],
)
def test_no_repetition_is_dropped_in_silence(first: dict[str, str], second: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_repeats([row("a", 3, **first), row("b", 3, **second)])


def test_two_repetitions_have_two_seeds() -> None:
    with pytest.raises(UserError, match=r"c/about\.yaml: a or another run that repeats it has the seed 1 already"):
        check_repeats([row("a", 0), row("b", 1, repeats="a"), row("c", 1, repeats="a")])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("dataset", "omniglot"), ("split", "metadataset"), ("backbone", "resnet18"), ("image_size", 64)),
        *(("pretrained", "imagenet"), ("stages", ["triplet"]), ("embedding", {"mirror": True})),
    ],
)
def test_another_run_is_no_repetition(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"b/about.yaml: a has {key} .* a repetition differs in its seed alone"):
        check_repeats([row("a", 0), row("b", 1, repeats="a", **{key: value})])


def test_a_spread_is_that_of_the_same_questions() -> None:
    again = [evaluation(0.9, shot=5), evaluation(0.6), evaluation(0.1, support_set=True)]
    assert spread(evaluation(0.7), [{"evaluations": again}]) == "65.00 (7.07)"
    assert spread(evaluation(1.0, shot=5), [{"evaluations": again}]) == "95.00 (7.07)"
    assert spread(evaluation(0.7), [{"evaluations": again}, {"evaluations": [evaluation(0.8)]}]) == "70.00 (10.00)"


def test_there_is_no_spread_where_a_run_lacks_an_answer() -> None:
    runs = [{"evaluations": [evaluation(0.6)]}, {"evaluations": [evaluation(0.6, adaptation="finetune")]}]
    assert spread(evaluation(0.7), runs) == ""
