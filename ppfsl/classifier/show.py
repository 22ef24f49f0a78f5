"""A classifier's answers as a table, JSON lines or CSV."""

import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np

from ppfsl.classifier.build import Built
from ppfsl.classifier.pictures import Unreadable
from ppfsl.classifier.predict import Answer
from ppfsl.data.names import printable
from ppfsl.reporting.terminal import console_of, text_of

Form = Literal["table", "json", "csv"]
_COLUMNS = ("picture", "label", "probability", "similarity", "unlike", "nearest", "error")
_NO_TEXT = re.compile("[\ud800-\udfff]")  # lone surrogates


def print_answers(
    answers: Iterable[Answer | Unreadable], form: Form, stream: TextIO | None = None, nearest: bool = True
) -> list[Answer | Unreadable]:
    """Print answers as they come; tables, whose columns need all of them, at the end.

    Args:
        answers: of `Labeller.label`.
        form: "json" prints an object a line.
        stream: None: standard output.
        nearest: whether tables name the nearest support pictures, where answers do.

    Returns:
        The same answers.
    """
    stream = stream or sys.stdout
    seen: list[Answer | Unreadable] = []
    if form == "json":
        for answer in answers:
            seen.append(answer)
            print(_json_line(answer, stream), file=stream, flush=True)
    elif form == "csv":
        writer = csv.DictWriter(stream, _COLUMNS, lineterminator="\n", extrasaction="ignore", restval="")
        writer.writeheader()
        for answer in answers:
            seen.append(answer)
            writer.writerow({key: _written(value, stream) for key, value in _flat(as_json(answer)).items()})
    else:
        seen = list(answers)
        _print_table(seen, stream, nearest)
    return seen


def complaint(answers: list[Answer | Unreadable]) -> str | None:
    """What to say of pictures that could not be read; None: all could."""
    unreadable = [answer for answer in answers if isinstance(answer, Unreadable)]
    if not unreadable:
        return None
    first, count, asked = unreadable[0], len(unreadable), len(answers)
    which = f"{'the first is ' * (count > 1)}{printable(first.name)}: {first.reason}"
    others = "; all others are labelled" if asked > count else ""
    return f"{count} of {asked} picture{'s' * (asked != 1)} could not be read ({which}){others}"


def print_summary(built: Built, path: Path, stream: TextIO | None = None) -> None:
    """Print what was built; `stream` None: standard output."""
    console = console_of(stream or sys.stdout)
    for line in summary(built, path).splitlines():
        console.print(text_of(console, line), soft_wrap=True)


def summary(built: Built, path: Path) -> str:
    """What was built, in a few lines."""
    classifier, counts = built.classifier, np.bincount(built.classifier.labels)
    few, most = int(counts.min()), int(counts.max())
    shots = f"{few} each" if few == most else f"{few} to {most} each"
    lines = [
        f"{path}: {len(classifier.class_names)} classes, {shots}, embedder {classifier.origin}",
        f"classes: {'; '.join(classifier.class_names)}",
    ]
    if built.left_out:
        lines.append(
            f"each support picture, itself left out of the class means: {built.right} of {built.left_out} right"
        )
    rejection = classifier.rejection
    if rejection is None:
        lines.append(
            "no rejection threshold: it takes three classes that can be told apart and two pictures of one, or a run "
            "with validation classes"
        )
    else:
        lines.append(
            f"a picture is taken for none of these below a similarity of {rejection.threshold:.3f}, chosen on "
            f"{rejection.chosen_on}: {100 * rejection.known_kept:.0f} % of known kept, "
            f"{100 * rejection.unknown_rejected:.0f} % of unknown rejected"
        )
    return "\n".join(lines)


def as_json(answer: Answer | Unreadable) -> dict[str, Any]:
    """An answer in JSON's types; one that could not be given has `picture` and `error` alone."""
    if isinstance(answer, Unreadable):
        return {"picture": answer.name, "error": answer.reason}
    return {
        "picture": answer.name,
        "label": answer.label,
        "probability": answer.probability,
        "unlike": answer.unlike,
        "similarity": answer.similarity,
        "probabilities": answer.probabilities,
        "nearest": [{"file": file, "label": label, "similarity": cosine} for file, label, cosine in answer.nearest],
    }


def _json_line(answer: Answer | Unreadable, stream: TextIO) -> str:
    """JSON in the stream's encoding where it has all of its characters, else with escapes, which all encodings have.

    Bytes of file names that are no text become replacement characters, since JSON is text.
    """
    text = _NO_TEXT.sub("\N{REPLACEMENT CHARACTER}", json.dumps(as_json(answer), ensure_ascii=False, allow_nan=False))
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(json.loads(text))
    return text


def _written(value: Any, stream: TextIO) -> Any:
    """A text in the characters that the stream has: backslashes and numbers stand for others, as in Python."""
    if not isinstance(value, str):
        return value
    encoding = stream.encoding or "utf-8"
    return value.encode(encoding, "backslashreplace").decode(encoding)


def _flat(value: dict[str, Any]) -> dict[str, Any]:
    """One row: the nearest support picture's name alone."""
    nearest = value.get("nearest")
    return {**value, "nearest": nearest[0]["file"] if nearest else ""}


def _print_table(answers: list[Answer | Unreadable], stream: TextIO, nearest: bool) -> None:
    from rich.table import Table

    console = console_of(stream)
    table = Table(box=None, pad_edge=False)
    several = nearest and any(isinstance(answer, Answer) and answer.nearest for answer in answers)
    for title in ("picture", "label", "probability", "similarity", *(["nearest support pictures"] if several else [])):
        table.add_column(title, justify="right" if title in ("probability", "similarity") else "left", overflow="fold")
    for answer in answers:
        table.add_row(*(text_of(console, cell) for cell in _cells(answer, several)))
    console.print(table)


def _cells(answer: Answer | Unreadable, several: bool) -> Iterator[str]:
    yield answer.name
    if isinstance(answer, Unreadable):
        yield f"not readable: {answer.reason}"
        yield from [""] * (3 if several else 2)
        return
    yield f"none of these? (most like {answer.label})" if answer.unlike else answer.label
    yield f"{100 * answer.probability:.1f} %"
    yield f"{answer.similarity:.3f}"
    if several:
        yield ", ".join(f"{file} ({cosine:.2f})" for file, _, cosine in answer.nearest)
