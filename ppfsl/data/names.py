"""Names of classes and files: those that people could not tell apart are refused, others made fit to be shown."""

import unicodedata
from collections.abc import Iterable

from ppfsl.errors import UserError


def printable(text: object) -> str:
    """Text without control characters or lone surrogates, which file names may hold and pages and terminals may not."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def check_names(names: Iterable[str], origin: str) -> None:
    """Raise where two names look alike: they differ in the way their accents are written, or in spaces around them.

    Args:
        names: of classes, no two of them the same.
        origin: where they stand, for the error.

    Raises:
        UserError: naming both, with codes for the letters beyond ASCII.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(unicodedata.normalize("NFC", name).strip(), name)
        if other != name:
            raise UserError(
                f"{origin}: the class names {other!a} and {name!a} look alike; spell them in one way, or rename one"
            )
