from typing import Any

import pytest

from ppfsl.reporting import wording


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "5-way 1-shot, class_mean, inductive: 72.3 % ± 0.6 (1000 episodes)"),
        ({"transductive": True}, "5-way 1-shot, class_mean, transductive: 72.3 % ± 0.6 (1000 episodes)"),
        ({"episodes": 1, "ci95": 0.0}, "5-way 1-shot, class_mean, inductive: 72.3 % (one support set)"),
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
