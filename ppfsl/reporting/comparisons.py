"""Several runs on the same episodes in one table: a section of docs/results.md."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ppfsl.reporting import wording
from ppfsl.reporting.pairing import Evaluation, same_questions
from ppfsl.reporting.phrases import Phrases
from ppfsl.reporting.repeats import repeats_of, seeds_of, spread
from ppfsl.reporting.rows import About, Comparison, Row
from ppfsl.reporting.sections import Home, needed


def comparison_section(
    comparison: Comparison, rows: Sequence[Row], all_rows: Sequence[Row], found: Mapping[Path, Home], phrases: Phrases
) -> str:
    """The section of a comparison: accuracies, how seeds differ, verification of pairs, the commands.

    Args:
        comparison: its title, remark and reference, in the language of the phrases.
        rows: in order, the reference among them, in the same language.
        all_rows: of the whole page, among them those that repeat one of these with another seed.
        found: where each run stands, see `ppfsl.reporting.sections.homes`.
        phrases: the page's fixed words.
    """
    compared, reference, _ = next(row for row in rows if row[2].name == comparison.reference)
    _, first, _ = rows[0]
    parts = [f"## {comparison.title}\n", f"{wording.subject(first, phrases)}{phrases.stop}\n"]
    parts.append(f"{_made(rows, phrases)}{phrases.reference.format(title=compared.title)}\n")
    if comparison.remark:
        parts.append(comparison.remark.strip() + "\n")
    repeats = {folder: repeats_of(folder, all_rows) for *_, folder in rows}
    for kind in ("inductive", "transductive"):
        if ways := _ways(rows, kind):
            tables = ("\n".join(_accuracies(rows, reference, kind, way, phrases)) + "\n" for way in ways)
            parts += [f"**{phrases.value(kind)}**\n", *tables]
        if table := list(_spreads(rows, repeats, kind, phrases)):
            parts += [f"{phrases.spreads}\n", "\n".join(table) + "\n"]
    if table := list(_verifications(rows, phrases)):
        parts += [f"{phrases.pairs}\n", "\n".join(table) + "\n"]
    commands = [_command(row, rows, needed(row[0].command, found, phrases, comparison.title), phrases) for row in rows]
    for about, _, folder in rows:
        for again, *_ in repeats[folder]:
            facts = {"title": about.title, "command": again.command, "machine": again.machine}
            commands.append(phrases.command_again.format(**facts))
    lines = "\n".join(f"* {line}" for line in commands)
    parts += [f'<details markdown="1">\n<summary>{phrases.commands}</summary>\n\n{lines}\n\n</details>\n']
    return "\n".join(parts)


def _made(rows: Sequence[Row], phrases: Phrases) -> str:
    """Seeds, versions, episodes and machines of all runs, each value once; several machines stand with the commands."""
    results = [result for _, result, _ in rows]
    episodic = [e for result in results for e in result["evaluations"] if _counts(e)]
    found = {
        "seed": [result["seed"] for result in results],
        "paddle": [result["versions"]["paddle"] for result in results],
        "episodes": [e["episodes"] for e in episodic],
        "query": [e["query"] for e in episodic],
        "machine": [about.machine for about, *_ in rows] if _one_machine(rows) else [phrases.machines],
    }
    return phrases.made.format(
        **{key: phrases.also.join(dict.fromkeys(str(value) for value in values)) for key, values in found.items()}
    )


def _one_machine(rows: Sequence[Row]) -> bool:
    return len({about.machine for about, *_ in rows}) == 1


def _command(row: Row, rows: Sequence[Row], before: str, phrases: Phrases) -> str:
    """A run's command, what it trained, how its subject differs from the first run's, what has to come before."""
    (about, result, _), (_, first, _) = row, rows[0]
    others = [
        said.format(result[fact] or phrases.no_weights)
        for fact, said in phrases.others.items()
        if result[fact] != first[fact]
    ]
    others += [before, "" if _one_machine(rows) else phrases.machine.format(about.machine)]
    stages = phrases.then.join(result["stages"]) or phrases.no_training
    return phrases.command.format(title=about.title, command=about.command, stages=stages, others="".join(others))


def _title(about: About, phrases: Phrases) -> str:
    """The title, with a link to the method's page where there is one."""
    return f"[{about.title}](algorithms/{about.page}{phrases.suffix}.md)" if about.page else about.title


def _shown(result: dict[str, Any], kind: str) -> list[Evaluation]:
    return [e for e in result["evaluations"] if _counts(e) and wording.kind(e) == kind]


def _ways(rows: Sequence[Row], kind: str) -> list[int]:
    return sorted({e["way"] for _, result, _ in rows for e in _shown(result, kind)})


def _accuracies(rows: Sequence[Row], reference: dict[str, Any], kind: str, way: int, phrases: Phrases) -> Iterator[str]:
    """A line per run and adaptation, a group of columns per task of so many classes.

    Figures of papers have columns where any are known.
    """
    tasks = sorted({(way, e["shot"]) for _, result, _ in rows for e in _shown(result, kind) if e["way"] == way})
    baseline = [e for e in reference["evaluations"] if _counts(e)]
    names = [f"{way}-way {shot}-shot" for way, shot in tasks]
    reported = any(name in about.reported for about, *_ in rows for name in names)
    of_tasks = [column for name in names for column in (name, *phrases.task[: 1 + reported])]
    yield from wording.table_head((*phrases.methods, *of_tasks, phrases.minutes))
    for about, result, _ in rows:
        mine = [e for e in _shown(result, kind) if e["way"] == way]
        for adaptation in dict.fromkeys(e["adaptation"] for e in mine):
            own = [e for e in mine if e["adaptation"] == adaptation]
            cells = [cell for task in tasks for cell in _cells(own, task, baseline, about.reported)[: 2 + reported]]
            said = wording.adaptation(own[0], phrases)
            line = [_title(about, phrases), said, *cells, f"{about.minutes:g}"]
            yield "| " + " | ".join(line) + " |"


def _spreads(rows: Sequence[Row], repeats: Mapping[Path, Sequence[Row]], kind: str, phrases: Phrases) -> Iterator[str]:
    """A line per task and adaptation of each run that was repeated with other seeds."""
    repeated = [row for row in rows if repeats[row[2]] and _shown(row[1], kind)]
    if not repeated:
        return
    yield from wording.table_head(phrases.spread_columns)
    for about, result, folder in repeated:
        runs = [run for _, run, _ in repeats[folder]]
        seeds = phrases.comma.join(seeds_of(result, runs))
        for evaluation in _shown(result, kind):
            said = wording.task(evaluation), wording.adaptation(evaluation, phrases), seeds, spread(evaluation, runs)
            yield f"| {about.title} | " + " | ".join(said) + " |"


def _counts(evaluation: Evaluation) -> bool:
    return not evaluation["support_set"]


def _cells(
    evaluations: Sequence[Evaluation],
    task: tuple[int, int],
    baseline: Sequence[Evaluation],
    reported: Mapping[str, float | str],
) -> tuple[str, str, str]:
    """The accuracy at a task, the difference to the reference's first adaptation on the same episodes, the paper's."""
    found = next((e for e in evaluations if (e["way"], e["shot"]) == task), None)
    if found is None:
        return "", "", ""
    accuracy, paper = wording.figures(found, reported)
    first = next((e for e in baseline if same_questions(e, found)), found)
    return accuracy, wording.difference(found, first), paper


def _verifications(rows: Sequence[Row], phrases: Phrases) -> Iterator[str]:
    """A line per run whose pairs were evaluated."""
    found = [(about.title, result["verification"]) for about, result, _ in rows if "verification" in result]
    if not found:
        return
    yield from wording.table_head(phrases.verification)
    for title, pairs in found:
        yield (
            f"| {title} | {phrases.value(pairs['similarity'])} | {pairs['pairs']} | {pairs['roc_auc']:.4f} "
            f"| {100 * pairs['equal_error_rate']:.2f} | {100 * pairs['accuracy']:.2f} ± {100 * pairs['ci95']:.2f} |"
        )
