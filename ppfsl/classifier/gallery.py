"""A classifier's answers as one HTML page that needs nothing else: each picture, its classes, what it is most like."""

import base64
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ppfsl.classifier.model import Classifier
from ppfsl.classifier.pictures import Unreadable
from ppfsl.classifier.predict import Answer
from ppfsl.data.decode import jpeg_of
from ppfsl.files import write_text
from ppfsl.reporting.page import template

NEAREST = 3  # support pictures beside each answer
MOST = 1000  # answers on a page
_SHARES = 3  # classes of each answer


def write_gallery(answers: Sequence[Answer | Unreadable], classifier: Classifier, path: Path) -> None:
    """Write the page, whole or not at all; equal answers give equal bytes.

    Args:
        answers: of a `Labeller` with thumbnails.
        classifier: the one that was asked.
        path: of the page.

    Raises:
        UserError: when it cannot be written.
    """
    known = [answer for answer in answers if isinstance(answer, Answer)]
    doubtful = sum(answer.unlike for answer in known)
    summary = f"{len(known)} of {len(answers)} picture{'s' * (len(answers) != 1)} labelled"
    support = functools.cache(lambda place: _uri(jpeg_of(classifier.thumbnails[place])))
    page = template("ppfsl.classifier", "gallery.html").render(
        title=f"{len(answers)} picture{'s' * (len(answers) != 1)}, {len(classifier.class_names)} classes",
        summary=summary + (f", {doubtful} of them marked “none of these?”." if doubtful else "."),
        way=len(classifier.class_names),
        threshold=None if classifier.rejection is None else classifier.rejection.threshold,
        left_out=max(0, len(answers) - MOST),
        answers=[_shown(answer, support) for answer in answers[:MOST]],
    )
    write_text(path, page)


def _shown(answer: Answer | Unreadable, support: Any) -> dict[str, Any]:
    """What the template shows of an answer; `support` gives the picture of a place in the support set."""
    if isinstance(answer, Unreadable):
        return {
            "name": answer.name,
            "picture": None,
            "heading": f"not readable: {answer.reason}",
            "doubtful": False,
            "shares": [],
        }
    nearest = zip(answer.places, answer.nearest, strict=True)
    return {
        "name": answer.name,
        "heading": f"none of these? (most like {answer.label})" if answer.unlike else answer.label,
        "doubtful": answer.unlike,
        "picture": None if answer.thumbnail is None else _uri(answer.thumbnail),
        "shares": list(answer.probabilities.items())[:_SHARES],
        "similarity": answer.similarity,
        "nearest": [{"picture": support(place), "label": near[1], "cosine": near[2]} for place, near in nearest],
    }


def _uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
