"""Results as tables in the terminal."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from ppfsl.data.names import printable
from ppfsl.reporting import wording
from ppfsl.reporting.pairing import Evaluation

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

PLAIN_WIDTH = 100  # columns, where the output is no terminal
BAR_WIDTH = 20  # characters for 100 %
MOST_TABLES = 3  # with more evaluations than this, only the first and the last show their classes
MOST_ROWS = 60  # with more classes than this, the hardest and the easiest half as many


def print_per_class(result: dict[str, Any], every: bool = False, stream: TextIO | None = None) -> None:
    """Print the accuracies of a run: a summary of its evaluations, per-class tables, then a line on verification.

    Inductive and transductive evaluations never share a table. A single evaluation needs no summary.

    Args:
        result: what result.json holds.
        every: the per-class table of every evaluation with all its classes. Otherwise more than three evaluations show
            the tables of the first and the last, and a table of more than sixty classes the hardest and easiest thirty.
        stream: where to print; the default is standard output. Colour only on a terminal; elsewhere 100 columns.
    """
    console = console_of(stream or sys.stdout)
    evaluations = result["evaluations"]
    if len(evaluations) > 1:
        for kind, group in wording.by_kind(evaluations):
            _print(console, f"{kind.capitalize()} evaluations", _summary(console, group))
    shown = evaluations if every or len(evaluations) <= MOST_TABLES else [evaluations[0], evaluations[-1]]
    for evaluation in shown:
        _print(console, wording.headline(evaluation), _classes(console, evaluation, None if every else MOST_ROWS))
    if "verification" in result:
        console.print(text_of(console, wording.verification(result["verification"])), soft_wrap=True)


def console_of(stream: TextIO) -> "Console":
    """Where to print: colours and the window's width on a terminal, 100 columns elsewhere."""
    from rich.console import Console

    class Passing(Console):
        def on_broken_pipe(self) -> None:  # where rich would end the process by itself
            raise BrokenPipeError

    return Passing(file=stream, width=None if stream.isatty() else PLAIN_WIDTH)


def text_of(console: "Console", text: str, style: str = "") -> "Text":
    """Text that the stream can encode; names may hold markup, control characters and any script."""
    from rich.text import Text

    encoding = console.encoding
    return Text(printable(text).encode(encoding, "replace").decode(encoding), style=style)


def _print(console: "Console", title: str, table: "Table") -> None:
    console.print(text_of(console, title, "bold"), soft_wrap=True)  # a title of a table is folded at its width
    console.print(table)


def _table(*columns: tuple[str, Any]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, justify in columns:
        table.add_column(name, justify=justify, overflow="fold")
    return table


def _summary(console: "Console", evaluations: Sequence[Evaluation]) -> "Table":
    """The evaluations of one kind, a row each."""
    columns = [("way", "right"), ("shot", "right"), ("adaptation", "left"), ("classes", "left")]
    columns += [("accuracy", "right"), ("over", "right"), ("seconds", "right")]
    table = _table(*columns)
    for e in evaluations:
        cells = [str(e["way"]), str(e["shot"]), e["adaptation"], wording.part(e)]
        cells += [wording.accuracy(e), wording.episodes(e), f"{e['seconds']:.1f}"]
        table.add_row(*(text_of(console, cell) for cell in cells))
    return table


def _classes(console: "Console", evaluation: Evaluation, most: int | None) -> "Table":
    """The classes of one evaluation, a row each, in their order; or the hardest and easiest of more than `most`."""
    columns = (("label", "right"), ("class", "left"), ("correct / total", "right"), ("accuracy", "right"), ("", "left"))
    table = _table(*columns)
    classes = evaluation["per_class"]
    if most is not None and len(classes) > most:
        table.caption = text_of(
            console, f"the {most // 2} hardest and the {most // 2} easiest of {len(classes)} classes"
        )
        classes = sorted(classes, key=lambda c: c["accuracy"])
        classes = classes[: most // 2] + classes[-(most // 2) :]
    block = "█" if "utf" in console.encoding else "#"
    for c in classes:
        share = f"{100 * c['accuracy']:.1f} %" if c["total"] else "no queries"
        table.add_row(
            text_of(console, str(c["label"])),
            text_of(console, c["name"]),
            text_of(console, f"{c['correct']} / {c['total']}"),
            text_of(console, share),
            text_of(console, block * round(BAR_WIDTH * c["accuracy"]), "cyan"),
        )
    return table
