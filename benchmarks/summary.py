"""From measurements to tables: median, spread, ratios by round, Markdown."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Better = Literal["less", "more"]


@dataclass(frozen=True)
class Spread:
    """The median of several runs, the least and the greatest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value.

        Raises:
            ValueError: when there is none.
        """
        if not values:
            raise ValueError("there is nothing to summarise")
        return cls(statistics.median(values), min(values), max(values))

    def text(self) -> str:
        """Such as "1.50 (1.42..1.61)"; a single value has no range."""
        if self.low == self.high:
            return number(self.median)
        return f"{number(self.median)} ({number(self.low)}..{number(self.high)})"


def number(value: float) -> str:
    """Three significant digits, without an exponent: 0.00123, 12.3, 4560."""
    if value == 0 or value != value:
        return f"{value:.0f}"
    size = abs(value)
    digits = 0
    while size < 100 and digits < 9:
        size, digits = size * 10, digits + 1
    rounded = f"{value:.{digits}f}"
    return str(round(value)) if digits == 0 else rounded


def times_as_fast(variant: Sequence[float], other: Sequence[float], better: Better) -> Spread:
    """How many times as fast as another a variant was, round by round: both ran in each round, one after the other.

    Args:
        variant, other: a figure for every round, in the order of the rounds.
        better: whether less (seconds) or more (images per second) is faster.

    Raises:
        ValueError: when the rounds do not match.
    """
    pairs = list(zip(variant, other, strict=True))
    return Spread.of([theirs / own if better == "less" else own / theirs for own, theirs in pairs])


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; bars inside a cell are escaped.

    Raises:
        ValueError: when a row is not as long as the header.
    """
    if any(len(row) != len(header) for row in rows):
        raise ValueError("every row needs a cell for each column")
    lines = [_line(header), "|" + "---|" * len(header), *map(_line, rows)]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
