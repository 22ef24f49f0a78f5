"""docs/results.md and its Chinese twin from committed result files: no figure in their tables is typed by hand.

What the files are: `ppfsl.reporting.rows`. What the page says in each language: `ppfsl.reporting.phrases`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ppfsl.errors import UserError
from ppfsl.files import make_folder, write_json, write_text
from ppfsl.reporting import wording
from ppfsl.reporting.comparisons import comparison_section
from ppfsl.reporting.overview import overview
from ppfsl.reporting.pairing import Evaluation, same_questions
from ppfsl.reporting.phrases import CHINESE, ENGLISH, Phrases
from ppfsl.reporting.repeats import check_repeats, repeats_of, seeds_of, spread
from ppfsl.reporting.rows import About, Comparison, Row, read_comparisons, read_rows
from ppfsl.reporting.sections import Home, contents, homes, needed
from ppfsl.result_file import read_result

MOST_CLASSES = 200
"""Rows keep what was right class by class, and confusion matrices, of no more classes than this."""


def make_tables(results: Path, target: Path) -> int:
    """Write the page in English, and beside it in Chinese under the same name with `_zh`.

    Args:
        results: folder of the rows.
        target: the Markdown file in English.

    Returns:
        How many sections each page has.

    Raises:
        UserError: when a row's folder lacks a file or holds a malformed one, or a row repeats or the overview names one
            that there is not.
    """
    rows = read_rows(results)
    check_repeats(rows)
    comparisons = read_comparisons(rows)
    twin = chinese_page(target)
    for path, other, phrases in ((target, twin, ENGLISH), (twin, target, CHINESE)):
        said, side_by_side = translated(rows, comparisons, phrases.suffix)
        found = sections(said, side_by_side, phrases)
        parts = [phrases.head.format(twin=other.name)]
        if table := overview(results, said, side_by_side, phrases):
            parts += [f"## {phrases.overview_title}\n", phrases.overview_head, table]
        titles = [phrases.reading_title, *found]
        parts += [f"## {phrases.contents}\n", contents(titles)]
        parts += [f"## {phrases.reading_title}\n", phrases.reading, *found.values()]
        write_text(path, "\n".join(parts))
    return len(found)


def chinese_page(target: Path) -> Path:
    """Where the Chinese twin of a page stands."""
    return target.with_stem(target.stem + CHINESE.suffix)


def translated(
    rows: Sequence[Row], comparisons: Sequence[tuple[Comparison, Sequence[Row]]], suffix: str
) -> tuple[list[Row], list[tuple[Comparison, list[Row]]]]:
    """Rows and comparisons, with what they say in a language said in it: see `Prose.translated`."""
    said = [(about.translated(suffix), result, folder) for about, result, folder in rows]
    side_by_side = [
        (comparison.translated(suffix), [row for row in said if row[2] in {folder for *_, folder in members}])
        for comparison, members in comparisons
    ]
    return said, side_by_side


def sections(
    said: Sequence[Row], side_by_side: Sequence[tuple[Comparison, Sequence[Row]]], phrases: Phrases
) -> dict[str, str]:
    """The page's sections in their order, in the language of the rows: title -> text."""
    found = homes(said, side_by_side)
    texts = [
        (about.order, about.title, _section(about, result, repeats_of(folder, said), found, phrases))
        for about, result, folder in said
        if not (about.comparison or about.repeats)
    ]
    for comparison, members in side_by_side:
        texts.append(
            (comparison.order, comparison.title, comparison_section(comparison, members, said, found, phrases))
        )
    return {title: text for _, title, text in sorted(texts, key=lambda section: section[0])}


def add_row(run: Path, folder: Path) -> None:
    """Copy a run's result.json to a row's folder, without what it says of each of many classes, which is large, but for
    what a fixed support set was asked about.

    Beside it goes validation.json, where validations were made: [{"epoch", "name", "value"}] of metrics.jsonl.

    Raises:
        UserError: when the run has no result, or a damaged one.
    """
    result = read_result(run / "result.json")
    for evaluation in result["evaluations"]:
        if len(evaluation["per_class"]) > MOST_CLASSES and not evaluation["support_set"]:
            del evaluation["confusion"], evaluation["per_class"]
    make_folder(folder)
    write_json(folder / "result.json", result)
    target, validations = folder / "validation.json", _validations(run / "metrics.jsonl")
    if validations:
        write_json(target, validations)
    else:
        target.unlink(missing_ok=True)


def _validations(metrics: Path) -> list[dict[str, Any]]:
    """Epoch, name and value of every validation in a metrics.jsonl; none where there is no such file."""
    lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.is_file() else []
    try:
        rows = [json.loads(line) for line in lines]
    except ValueError as error:
        raise UserError(f"{metrics} is damaged ({error}); let the run come to its end") from None
    return [{key: row[key] for key in ("epoch", "name", "value")} for row in rows if row["split"] == "validation"]


def _section(
    about: About, result: dict[str, Any], repeats: Sequence[Row], found: Mapping[Path, Home], phrases: Phrases
) -> str:
    episodic = [row for row in result["evaluations"] if not row["support_set"]]
    run = phrases.run.format(
        stages=phrases.then.join(result["stages"]) or phrases.no_training,
        seed=result["seed"],
        paddle=result["versions"]["paddle"],
        query=phrases.also.join(dict.fromkeys(str(row["query"]) for row in episodic)),
        minutes=about.minutes,
        machine=about.machine,
    )
    parts = [
        f"## {about.title}\n",
        f"    {about.command}\n",
        f"{wording.subject(result, phrases)}{run}{needed(about.command, found, phrases)}{phrases.stop}\n",
    ]
    if about.remark:
        parts.append(about.remark.strip() + "\n")
    if about.page:
        parts.append(phrases.page.format(page=about.page) + "\n")
    for kind, rows in wording.by_kind(episodic):
        parts.append(f"**{phrases.value(kind)}**\n")
        parts.append("\n".join(_table(about, rows, episodic, [run for _, run, _ in repeats], phrases)) + "\n")
    if repeats:
        seeds = phrases.comma.join(seeds_of(result, [run for _, run, _ in repeats]))
        commands = "".join(f"* `{again.command}`{phrases.machine.format(again.machine)}\n" for again, *_ in repeats)
        parts.append(f"{phrases.seeds.format(seeds=seeds)}\n\n{commands}")
    if about.support_set:
        parts += [_per_class(row, phrases) for row in result["evaluations"] if row["support_set"]]
    return "\n".join(parts)


def _table(
    about: About,
    rows: Sequence[Evaluation],
    all_rows: Sequence[Evaluation],
    repeats: Sequence[dict[str, Any]],
    phrases: Phrases,
) -> Iterator[str]:
    reported = (phrases.task[1],) if about.reported else ()
    yield from wording.table_head(phrases.evaluations + reported + ((phrases.spread,) if repeats else ()))
    for row in sorted(rows, key=lambda row: (row["way"], row["shot"])):
        first = next(other for other in all_rows if same_questions(other, row))
        ours, paper = wording.figures(row, about.reported)
        yield (
            f"| {row['way']} | {row['shot']} | {phrases.value(row['part'])} | {wording.adaptation(row, phrases)} "
            f"| {ours} | {wording.difference(row, first)} | {row['episodes']} |"
            + (f" {paper} |" if reported else "")
            + (f" {spread(row, repeats)} |" if repeats else "")
        )


def _per_class(row: Evaluation, phrases: Phrases) -> str:
    correct, total = (sum(entry[key] for entry in row["per_class"]) for key in ("correct", "total"))
    asked = {key: row[key] for key in ("way", "shot", "adaptation")}
    lines = [
        phrases.support_set.format(**asked, correct=correct, total=total) + "\n",
        *wording.table_head(phrases.classes),
    ]
    for entry in row["per_class"]:
        lines.append(
            f"| {entry['label']} | {wording.cell(entry['name'])} | {entry['correct']} / {entry['total']} "
            f"| {100 * entry['accuracy']:.0f} |"
        )
    return "\n".join(lines) + "\n"
