"""The analysis and the README: a figure with its interval is a committed row's accuracy, or two rows' difference."""

import functools
import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from ppfsl.reporting.pairing import paired_difference, same_pictures, same_questions
from ppfsl.reporting.rows import read_rows

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"docs/analysis": 60, "docs/analysis_zh": 60, "README": 6, "README_zh": 6}
"""Page -> how many figures it has at least."""


def figures(page: str) -> list[str]:
    """What stands as "1.23 ± 0.45", with its sign if it has one, each once."""
    text = (ROOT / f"{page}.md").read_text(encoding="utf-8")
    return list(
        dict.fromkeys(f"{mean} ± {half}" for mean, half in re.findall(r"([-+]?\d+\.\d+) %? ?±\s+(\d+\.\d+)", text))
    )


@functools.cache
def asked() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Result and evaluation of all that the rows of Flowers102 have of novel classes."""
    results = [result for _, result, folder in read_rows(ROOT / "results") if folder.parent.name == "flowers102"]
    return [
        (result, entry)
        for result in results
        for entry in result["evaluations"]
        if entry["part"] == "novel" and not entry["support_set"]
    ]


@functools.cache
def known() -> set[str]:
    """The accuracies, and the paired differences of any two that were asked the same questions."""
    found = {f"{100 * entry['accuracy']:.2f} ± {100 * entry['ci95']:.2f}" for _, entry in asked()}
    for (result, entry), (other, reference) in itertools.permutations(asked(), 2):
        if same_questions(entry, reference) and same_pictures(result, other, "novel"):
            mean, half = paired_difference(entry, reference)
            found.add(f"{100 * mean:+.2f} ± {100 * half:.2f}")
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_figure_with_an_interval_comes_from_the_rows(page: str) -> None:
    assert len(figures(page)) >= PAGES[page]
    assert [figure for figure in figures(page) if figure not in known()] == []


@pytest.mark.parametrize("page", ["docs/analysis", "README"])
def test_both_languages_say_the_same_figures(page: str) -> None:
    assert sorted(figures(page)) == sorted(figures(f"{page}_zh"))


@pytest.mark.parametrize("page", ["docs/reproducing", "docs/reproducing_zh"])
def test_the_longest_row_is_said_to_take_what_it_took(page: str) -> None:
    (line,) = (line for line in (ROOT / f"{page}.md").read_text(encoding="utf-8").splitlines() if "`minutes`" in line)
    longest = max(about.minutes for about, _, _ in read_rows(ROOT / "results") if about.minutes is not None)
    assert str(longest).removesuffix(".0") in re.findall(r"[\d.]+", line)
