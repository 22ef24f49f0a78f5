"""What counts as the same work."""

import pytest

from benchmarks.compare import DisagreementError
from benchmarks.plans.agreement import close, close_within, same_answers, same_photographs


def test_numbers_may_differ_by_the_tolerance_of_the_largest() -> None:
    close(1e-2)({"one": [100.0, 0.0], "other": [100.0, 0.9], "silent": None})


def test_numbers_that_differ_by_more_are_named() -> None:
    with pytest.raises(DisagreementError, match=r"other differs from one by 2\.0e-02"):
        close(1e-2)({"one": [100.0, 0.0], "third": [100.0, 0.0], "other": [100.0, 2.0]})


def test_numbers_that_are_none_do_not_agree() -> None:
    with pytest.raises(DisagreementError):
        close(1e-2)({"one": [1.0], "other": [float("nan")]})


def test_another_shape_does_not_agree() -> None:
    with pytest.raises(DisagreementError, match="numbers"):
        close(1e-2)({"one": [1.0, 1.0], "other": [1.0]})


def test_numbers_are_compared_within_their_group() -> None:
    check = close_within((("a", "b", "absent"), ("c", "d"), ("none",)), 1e-2)
    check({"a": [1.0], "b": [1.0], "c": [5.0], "d": [5.0]})
    with pytest.raises(DisagreementError, match="d differs from c"):
        check({"a": [1.0], "b": [1.0], "c": [5.0], "d": [6.0]})


GROUPS = (("a", "b"), ("c", "d"))


def test_answers_are_compared_within_their_group_in_the_episodes_that_all_ran() -> None:
    same_answers(10, GROUPS, 0.0)({"a": [1, 2, 3], "b": [1, 2], "c": [9], "e": [5, 5, 5]})


def test_answers_may_differ_in_the_share_that_rounding_decides() -> None:
    same_answers(10, GROUPS, 0.05)({"a": [1, 2], "b": [2, 2]})


def test_more_than_that_is_told() -> None:
    with pytest.raises(DisagreementError, match=r"b answers 10\.00% of the queries otherwise than a"):
        same_answers(10, GROUPS, 0.05)({"a": [1, 2], "b": [2, 1]})


PHOTOGRAPHS = {"shape": [2, 3], "images": 5, "mean_and_deviation": [0.4, 0.2]}


def test_photographs_agree_but_for_chance() -> None:
    same_photographs({"one": PHOTOGRAPHS, "other": PHOTOGRAPHS | {"mean_and_deviation": [0.42, 0.2]}})


@pytest.mark.parametrize("change", [{"shape": [3, 2]}, {"images": 4}, {"mean_and_deviation": [0.4, 0.3]}])
def test_other_batches_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(DisagreementError):
        same_photographs({"one": PHOTOGRAPHS, "other": PHOTOGRAPHS | change})
