"""What sections of docs/results.md have to do with one another: their links, and which row's weights another needs."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ppfsl.config_file import config_name
from ppfsl.reporting.phrases import Phrases
from ppfsl.reporting.rows import Comparison, Row


def anchor(title: str) -> str:
    """What links to a heading of that title name, on GitHub as on the site."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def link(title: str, text: str = "") -> str:
    """A link to the section of that title on the same page, which says the text, or else the title."""
    return f"[{text or title}](#{anchor(title)})"


def contents(titles: Sequence[str]) -> str:
    """A list of links to the sections."""
    return "".join(f"* {link(title)}\n" for title in titles)


def run_of(command: str) -> Path:
    """Where the run of a row's command is: its `output_dir`, else the folder of the configuration's name."""
    words = shlex.split(command)
    told = [word.removeprefix("output_dir=") for word in words if word.startswith("output_dir=")]
    return Path(told[-1]) if told else Path("output") / config_name(Path(words[words.index("-c") + 1]))


def weights_of(command: str) -> Path | None:
    """The file of another run that a row's command starts from, below that run's `checkpoints`; None: there is none."""
    words = shlex.split(command)
    start = "backbone.pretrained="
    named = [word.removeprefix(start) for word in words if word.startswith(start)]
    named += [words[place + 1] for place, word in enumerate(words) if word == "--checkpoint"]
    return next((Path(file) for file in named if Path(file).parent.name == "checkpoints"), None)


class Home(NamedTuple):
    """Where on the page a run stands."""

    section: str
    row: str
    """Its title among the section's runs; empty: the section is of it alone."""


def shared_sections(comparisons: Sequence[tuple[Comparison, Sequence[Row]]]) -> dict[Path, str]:
    """Title of the section of each row that has none of its own: folder of the row -> title."""
    return {folder: comparison.title for comparison, members in comparisons for *_, folder in members}


def homes(rows: Sequence[Row], comparisons: Sequence[tuple[Comparison, Sequence[Row]]]) -> dict[Path, Home]:
    """Where each run stands: folder of the run -> its home; what evaluates the weights of another run is none."""
    shared = shared_sections(comparisons)
    return {
        run_of(about.command): Home(shared[folder], about.title) if folder in shared else Home(about.title, "")
        for about, _, folder in rows
        if not about.repeats and "tools/train.py" in shlex.split(about.command)
    }


def needed(command: str, found: Mapping[Path, Home], phrases: Phrases, here: str = "") -> str:
    """Whose command has to come before a row's; empty: none has to.

    Args:
        command: the row's.
        found: see `homes`.
        phrases: the page's fixed words.
        here: title of the section of several runs that the row is in, to which no link is needed.
    """
    weights = weights_of(command)
    home = None if weights is None else found.get(weights.parent.parent)
    if home is None:
        return ""
    if not home.row:
        return phrases.needs.format(section=link(home.section))
    if home.section == here:
        return phrases.needs_here.format(row=home.row)
    return phrases.needs_row.format(row=home.row, section=link(home.section))
