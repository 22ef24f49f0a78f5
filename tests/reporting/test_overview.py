"""The table at the head of docs/results.md."""

import json
from pathlib import Path
from typing import Any

import pytest

from ppfsl.errors import UserError
from ppfsl.reporting.tables import make_tables

LINE = "  - {{row: {row}, adaptation: {adaptation}, title: {title}, title_zh: 花}}\n"


def save(results: Path, row: str, shots: dict[int, float], about: str = "", seed_of_run: int = 0, **more: Any) -> None:
    folder = results / row
    folder.mkdir(parents=True)
    asked = {"part": "novel", "way": 5, "query": 2, "episodes": 2, "seed": 0, "support_set": False, "per_class": []}
    asked |= {"adaptation": "class_mean", "transductive": False, "ci95": 0.01, "episode_correct": [1, 1], **more}
    result = {"dataset": "flowers102", "split": "own", "backbone": "conv4", "pretrained": None, "seed": seed_of_run}
    result |= {"image_size": 28, "stages": [], "versions": {"paddle": "3.3.1"}}
    evaluations = [{**asked, "shot": shot, "accuracy": accuracy} for shot, accuracy in shots.items()]
    (folder / "result.json").write_text(json.dumps({**result, "evaluations": evaluations}))
    (folder / "about.yaml").write_text(
        f"order: 1\ntitle: {row.title()}\ncommand: python tools/train.py -c x.yaml\nmachine: m\nminutes: 1\n{about}"
    )


def pages(tmp_path: Path, *lines: str) -> tuple[str, str]:
    (tmp_path / "results" / "overview.yaml").write_text("lines:\n" + "".join(lines), encoding="utf-8")
    make_tables(tmp_path / "results", tmp_path / "results.md")
    english, chinese = ((tmp_path / name).read_text(encoding="utf-8") for name in ("results.md", "results_zh.md"))
    return english.split("## Contents")[0], chinese.split("## 目录")[0]


def test_a_line_links_to_its_rows_section(tmp_path: Path) -> None:
    save(tmp_path / "results", "rose", {1: 0.5, 5: 0.75, 10: 0.8}, 'reported: {"5-way 5-shot": 75.04}\n')
    line = LINE.format(row="rose", adaptation="class_mean", title="Roses")
    english, chinese = pages(tmp_path, line)
    assert "| what | data and split | 5-way 1-shot | reported | 5-way 5-shot | reported |" in english
    cells = "flowers102 `own` | 50.00 ± 1.00 |  | 75.00 ± 1.00 | 75.04 (-0.04) |"
    assert f"| [Roses](#rose) | {cells}" in english
    assert f"| [花](#rose) | {cells}" in chinese


def test_a_row_of_a_comparison_is_in_its_section(tmp_path: Path) -> None:
    save(tmp_path / "results", "rose", {1: 0.5, 5: 0.75}, "comparison: all\n")
    (tmp_path / "results" / "all.yaml").write_text("order: 1\ntitle: All of them\nreference: rose\n")
    assert (
        "| [Roses](#all-of-them) |"
        in pages(tmp_path, LINE.format(row="rose", adaptation="class_mean", title="Roses"))[0]
    )


def test_transductive_lines_stand_apart(tmp_path: Path) -> None:
    for row, transductive in (("seen", True), ("unseen", False)):
        save(tmp_path / "results", row, {1: 0.5, 5: 0.75}, transductive=transductive)
    lines = [LINE.format(row=row, adaptation="class_mean", title=row) for row in ("seen", "unseen")]
    inductive, transductive = pages(tmp_path, *lines)[0].split("\n**transductive**\n")
    assert "[unseen]" in inductive and "[seen]" not in inductive
    assert "[seen]" in transductive and "[unseen]" not in transductive


@pytest.mark.parametrize(
    ("row", "adaptation", "message"),
    [
        ("tulip", "class_mean", r"overview\.yaml: there is no row tulip that repeats none; mend it"),
        ("again", "class_mean", r"overview\.yaml: there is no row again that repeats none; mend it"),
        ("rose", "maml", r"overview\.yaml: rose has no 5-way 1-shot of maml on novel classes; mend it"),
        ("few", "class_mean", r"overview\.yaml: few has no 5-way 5-shot of class_mean on novel classes; mend it"),
        ("known", "class_mean", r"overview\.yaml: known has no 5-way 1-shot of class_mean on novel classes; mend it"),
    ],
)
def test_what_there_is_not_is_named(row: str, adaptation: str, message: str, tmp_path: Path) -> None:
    save(tmp_path / "results", "rose", {1: 0.5, 5: 0.75})
    save(tmp_path / "results", "few", {1: 0.5})
    save(tmp_path / "results", "known", {1: 0.5, 5: 0.75}, part="validation")
    save(tmp_path / "results", "again", {1: 0.5, 5: 0.75}, "repeats: rose\n", seed_of_run=1)
    with pytest.raises(UserError, match=message):
        pages(tmp_path, LINE.format(row=row, adaptation=adaptation, title="Roses"))


def test_a_malformed_file_is_named_with_what_says_its_keys(tmp_path: Path) -> None:
    save(tmp_path / "results", "rose", {1: 0.5, 5: 0.75})
    (tmp_path / "results" / "overview.yaml").write_text("lines: 3\n")
    with pytest.raises(UserError, match=r"overview\.yaml is missing or malformed .* see ppfsl/reporting/overview\.py"):
        make_tables(tmp_path / "results", tmp_path / "results.md")


def test_without_the_file_there_is_no_such_table(tmp_path: Path) -> None:
    save(tmp_path / "results", "rose", {1: 0.5, 5: 0.75})
    make_tables(tmp_path / "results", tmp_path / "results.md")
    assert "At a glance" not in (tmp_path / "results.md").read_text(encoding="utf-8")
