"""The analysis, the README and remarks: a figure with its interval is a row's accuracy, or two rows' difference."""

import functools
import itertools
import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from ppfsl.reporting.pairing import paired_difference, same_pictures, same_questions
from ppfsl.reporting.rows import read_comparisons, read_rows

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"docs/analysis": 60, "docs/analysis_zh": 60, "README": 6, "README_zh": 6}
"""Page -> how many figures it has at least."""

# A line of a table: row and adaptation of each pair of accuracies, at one shot and at five.
README = [
    [("frozen_mobilenet_v1_fsl_ssl", "class_mean"), ("frozen_mobilenet_v1_metadataset", "class_mean")],
    [("finetuned_mobilenet_v1", "fine-tuned head"), ("finetuned_metadataset", "fine-tuned head")],
    [("finetuned_mobilenet_v1", "soft_kmeans"), ("finetuned_metadataset", "soft_kmeans")],
]
# The same, after the row that a line's gains refer to.
FINETUNED = "finetuned_mobilenet_v1"
STAGES = "resnet18_stages_metadataset"
FROM_SCRATCH = [
    *((None, "resnet18_stages_0"), ("resnet18_stages_0", "resnet18_stages_1")),
    *(("resnet18_stages_1", "resnet18_stages_2"), (None, "resnet18_stages_3")),
    *((None, f"{STAGES}_0"), (f"{STAGES}_0", f"{STAGES}_1"), (f"{STAGES}_1", f"{STAGES}_2"), (None, STAGES)),
]
FIRST = "frozen_mobilenet_v1_fsl_ssl"
FROM_IMAGENET = ["frozen_288px", "frozen_finished", "finetuned_last_block", "finishing_none", FINETUNED]
PARTS = ["finishing_none", "finishing_mirror", "finishing_power", "finishing_center", "finishing_whitening"]
HEADS = ["fine-tuned head", "entropy over support", "entropy over queries", "soft_kmeans", "soft_kmeans, balanced"]
ANALYSIS = [
    *((reference, row, "class_mean") for reference, row in FROM_SCRATCH),
    (None, FIRST, "class_mean"),
    *((FIRST, row, "class_mean") for row in FROM_IMAGENET),
    *((FIRST, FINETUNED, adaptation) for adaptation in ("fine-tuned head", "soft_kmeans")),
    *((reference, row, "class_mean") for reference, row in zip([None, *PARTS], PARTS, strict=False)),
    *((None, FINETUNED, adaptation) for adaptation in ["class_mean", *HEADS]),
]


def found_in(text: str) -> list[str]:
    """What stands as "1.23 ± 0.45", with its sign if it has one."""
    return [f"{mean} ± {half}" for mean, half in re.findall(r"([-+]?\d+\.\d+) %? ?±\s+(\d+\.\d+)", text)]


def read(page: str) -> str:
    return (ROOT / f"{page}.md").read_text(encoding="utf-8")


def lines_of_tables(page: str) -> list[list[str]]:
    """The figures of each line that has any."""
    lines = (found_in(line) for line in read(page).splitlines() if line.startswith("|"))
    return [line for line in lines if line]


@functools.cache
def evaluation(row: str, adaptation: str, shot: int) -> dict[str, Any]:
    """5-way, of a row of Flowers102."""
    result = json.loads((ROOT / "results" / "flowers102" / row / "result.json").read_text(encoding="utf-8"))
    (found,) = (
        entry
        for entry in result["evaluations"]
        if (entry["adaptation"], entry["way"], entry["shot"], entry["support_set"]) == (adaptation, 5, shot, False)
    )
    return found


def accuracy(entry: dict[str, Any]) -> str:
    return f"{100 * entry['accuracy']:.2f} ± {100 * entry['ci95']:.2f}"


def difference(entry: dict[str, Any], reference: dict[str, Any]) -> str:
    mean, half = paired_difference(entry, reference)
    return f"{100 * mean:+.2f} ± {100 * half:.2f}"


@functools.cache
def known(dataset: str) -> set[str]:
    """The accuracies of a data set's rows, and the paired differences of any two that were asked the same questions."""
    asked = [
        (result, entry)
        for _, result, folder in read_rows(ROOT / "results")
        for entry in result["evaluations"]
        if folder.parent.name == dataset and not entry["support_set"]
    ]
    found = {accuracy(entry) for _, entry in asked}
    for (result, entry), (other, reference) in itertools.permutations(asked, 2):
        if same_questions(entry, reference) and same_pictures(result, other, entry["part"]):
            found.add(difference(entry, reference))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_figure_with_an_interval_comes_from_the_rows(page: str) -> None:
    figures = found_in(read(page))
    assert len(figures) >= PAGES[page]
    assert [figure for figure in figures if figure not in known("flowers102")] == []


@pytest.mark.parametrize("page", ["README", "README_zh"])
def test_the_readmes_lines_are_those_of_their_rows(page: str) -> None:
    expected = [[accuracy(evaluation(*pair, shot)) for pair in line for shot in (1, 5)] for line in README]
    assert lines_of_tables(page) == expected


@pytest.mark.parametrize("page", ["docs/analysis", "docs/analysis_zh"])
def test_the_analysiss_lines_are_those_of_their_rows(page: str) -> None:
    expected = []
    for reference, row, adaptation in ANALYSIS:
        entries = [(evaluation(row, adaptation, shot), shot) for shot in (1, 5)]
        line = [
            [accuracy(entry), *([difference(entry, evaluation(reference, "class_mean", shot))] if reference else [])]
            for entry, shot in entries
        ]
        expected.append([*line[0], *line[1]])
    assert lines_of_tables(page) == expected


@pytest.mark.parametrize("page", ["docs/analysis", "docs/analysis_zh"])
def test_the_analysis_says_how_much_seeds_differ(page: str) -> None:
    expected = []
    for row, shot in itertools.product((FINETUNED, "finetuned_metadataset"), (1, 5)):
        runs = [evaluation(name, "class_mean", shot) for name in (row, f"{row}_seed_1", f"{row}_seed_2")]
        accuracies = [100 * entry["accuracy"] for entry in runs]
        expected.append(f"{statistics.mean(accuracies):.2f} ({statistics.stdev(accuracies):.2f})")
    assert re.findall(r"\d+\.\d+ \(\d+\.\d+\)", read(page)) == expected


@pytest.mark.parametrize("page", ["docs/analysis", "README"])
def test_both_languages_say_the_same_figures(page: str) -> None:
    assert sorted(found_in(read(page))) == sorted(found_in(read(f"{page}_zh")))


def test_figures_of_remarks_come_from_the_rows() -> None:
    checked = 0
    rows = read_rows(ROOT / "results")
    texts = [(folder.parent.name, about) for about, _, folder in rows]
    texts += [(members[0][2].parent.name, comparison) for comparison, members in read_comparisons(rows)]
    for dataset, prose in texts:
        for figure in found_in(prose.remark) + found_in(prose.remark_zh):
            assert {figure, f"+{figure}", f"-{figure}"} & known(dataset), f"{prose.title}: {figure}"
            checked += 1
    assert checked > 10


@pytest.mark.parametrize("page", ["docs/reproducing", "docs/reproducing_zh"])
def test_the_shortest_and_the_longest_row_are_said_to_take_what_they_took(page: str) -> None:
    (line,) = (line for line in read(page).splitlines() if "`minutes`" in line)
    minutes = [about.minutes for about, _, _ in read_rows(ROOT / "results") if about.minutes is not None]
    assert {f"{min(minutes):g}", f"{max(minutes):g}"} <= set(re.findall(r"\d[\d.]*", line))
