"""What sections of docs/results.md have to do with one another: their links, and which row's weights another needs."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from ppfsl.config_file import config_name
from ppfsl.reporting.phrases import Phrases
from ppfsl.reporting.rows import Comparison, Row


def anchor(title: str) -> str:
    """What links to a heading of that title name, on GitHub as on the site."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def link(title: str) -> str:
    """A link to the section of that title on the same page."""
    return f"[{title}](#{anchor(title)})"


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


def homes(rows: Sequence[Row], comparisons: Sequence[tuple[Comparison, Sequence[Row]]]) -> dict[Path, str]:
    """In which section each run stands: folder of the run -> title; what evaluates the weights of a run is none."""
    titles = {folder: comparison.title for comparison, members in comparisons for *_, folder in members}
    return {
        run_of(about.command): titles.get(folder, about.title)
        for about, _, folder in rows
        if not about.repeats and "tools/train.py" in shlex.split(about.command)
    }


def needed(command: str, found: Mapping[Path, str], phrases: Phrases) -> str:
    """Which section's command has to come before a row's; empty: none has to."""
    weights = weights_of(command)
    title = None if weights is None else found.get(weights.parent.parent)
    return "" if title is None else phrases.needs.format(section=link(title))
