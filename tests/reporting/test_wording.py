from typing import Any

import pytest

from ppfsl.reporting import wording


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "5-way 1-shot, class_mean, inductive: 72.3 % ± 0.6 (1000 episodes)"),
        ({"transductive": True}, "5-way 1-shot, class_mean, transductive: 72.3 % ± 0.6 (1000 episodes)"),
        (
            {"episodes": 1, "ci95": 0.0, "support_set": True},
            "5-way 1-shot, class_mean, inductive: 72.3 % (one support set)",
        ),
        ({"episodes": 1, "ci95": 0.0}, "5-way 1-shot, class_mean, inductive: 72.3 % (1 episode)"),
        ({"part": "novel"}, "5-way 1-shot, class_mean, inductive: 72.3 % ± 0.6 (1000 episodes)"),
        (
            {"part": "validation"},
            "5-way 1-shot, class_mean, inductive, validation classes: 72.3 % ± 0.6 (1000 episodes)",
        ),
        ({"ci95": 0.0004}, "5-way 1-shot, class_mean, inductive: 72.31 % ± 0.04 (1000 episodes)"),
        ({"adaptation": "a\x1b[31m\udcff"}, "5-way 1-shot, a\ufffd[31m\ufffd, inductive: 72.3 % ± 0.6 (1000 episodes)"),
    ],
)
def test_a_headline_says_what_was_asked_how_and_how_well(evaluation: Any, changes: dict[str, Any], text: str) -> None:
    numbers = {"accuracy": 0.7231, "ci95": 0.0062, "episodes": 1000}
    assert wording.headline({**evaluation(), **numbers, **changes}) == text


def test_kinds_are_never_mixed_and_keep_their_order() -> None:
    evaluations = [{"transductive": flag, "n": n} for n, flag in enumerate([True, False, True, False])]
    groups = wording.by_kind(evaluations)
    assert [(kind, [e["n"] for e in group]) for kind, group in groups] == [
        ("inductive", [1, 3]),
        ("transductive", [0, 2]),
    ]
    assert [kind for kind, _ in wording.by_kind(evaluations[:1])] == ["transductive"]


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (None, ""),
        (98.8, "98.8 (-26.5)"),
        (72.0, "72.0 (+0.3)"),
        ("72.3", "72.3 (+0.0)"),
        ("72.32", "72.32 (-0.01)"),
        ("72.3121", "72.3121 (-0.0001)"),
        ("72.35", "72.35 (-0.04)"),
        ("70", "70 (+2.3)"),
        ("98.8 ± 0.2", "98.8 ± 0.2 (-26.5)"),
        ("85.29 ± 0.51 (224 px)", "85.29 ± 0.51 (224 px) (-12.98)"),
    ],
)
def test_a_papers_figure_stands_with_ours_minus_it(figure: float | str | None, text: str) -> None:
    evaluation = {"way": 5, "shot": 1, "accuracy": 0.72312, "ci95": 0.0064}
    reported = {"5-way 5-shot": 99.0} | ({} if figure is None else {"5-way 1-shot": figure})
    assert wording.figures(evaluation, reported) == ("72.31 ± 0.64", text)


def test_a_difference_that_rounds_to_nothing_has_no_minus() -> None:
    evaluation = {"way": 5, "shot": 1, "accuracy": 0.72298, "ci95": 0.0064}
    assert wording.figures(evaluation, {"5-way 1-shot": 72.3})[1] == "72.3 (+0.0)"


def test_an_evaluation_does_not_differ_from_itself() -> None:
    one, other = ({"way": 5, "query": 2, "episode_correct": correct} for correct in ([9, 7], [8, 7]))
    assert wording.difference(one, one) == ""
    assert wording.difference(one, other) == "+5.00 ± 6.93"
