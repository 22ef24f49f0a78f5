"""Medians, spreads, ratios and tables."""

import pytest

from benchmarks.summary import Spread, markdown, number, times_as_fast


def test_the_spread_is_the_median_with_the_least_and_the_greatest() -> None:
    assert Spread.of([5.0, 1.0, 2.0]) == Spread(2.0, 1.0, 5.0)


def test_the_median_of_an_even_number_of_runs_lies_between_the_middle_two() -> None:
    assert Spread.of([4.0, 1.0, 10.0, 2.0]) == Spread(3.0, 1.0, 10.0)


def test_nothing_has_no_spread() -> None:
    with pytest.raises(ValueError, match="nothing"):
        Spread.of([])


def test_a_spread_is_told_with_its_range() -> None:
    assert Spread(1.5, 1.416, 1.606).text() == "1.50 (1.42..1.61)"


def test_a_single_run_is_told_without_a_range() -> None:
    assert Spread.of([2.0]).text() == "2.00"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.001234, "0.00123"),
        (0.5, "0.500"),
        (1.005, "1.00"),
        (12.34, "12.3"),
        (123.4, "123"),
        (45678.9, "45679"),
        (-12.34, "-12.3"),
        (0, "0"),
        (float("nan"), "nan"),
    ],
)
def test_numbers_have_three_digits_that_count_and_no_exponent(value: float, text: str) -> None:
    assert number(value) == text


def test_fewer_seconds_are_faster() -> None:
    assert times_as_fast([1.0, 2.0], [4.0, 4.0], "less") == Spread(3.0, 2.0, 4.0)


def test_more_images_a_second_are_faster() -> None:
    assert times_as_fast([100.0], [25.0], "more") == Spread(4.0, 4.0, 4.0)


def test_ratios_are_taken_within_each_round() -> None:
    """The machine was slow in the second round, for both alike; medians of the two sides would tell otherwise."""
    own, other = [1.0, 10.0, 3.0], [2.0, 20.0, 3.3]
    ratio = times_as_fast(own, other, "less")
    assert (ratio.median, ratio.high) == (2.0, 2.0)
    assert ratio.low == pytest.approx(1.1)


def test_rounds_that_do_not_match_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="argument"):
        times_as_fast([1.0, 2.0], [1.0], "less")


def test_a_table_is_markdown() -> None:
    assert markdown(["a", "b"], [["1", "x|y"], ["2", ""]]) == "| a | b |\n|---|---|\n| 1 | x\\|y |\n| 2 |  |\n"


def test_a_row_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="column"):
        markdown(["a", "b"], [["1"]])
