"""Answers as a page: what it says, shows and never does."""

import base64
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ppfsl.classifier import gallery
from ppfsl.classifier.build import Built
from ppfsl.classifier.gallery import write_gallery
from ppfsl.classifier.model import Classifier, Rejection
from ppfsl.classifier.pictures import Unreadable
from ppfsl.classifier.predict import Answer, Labeller


@pytest.fixture(scope="module")
def classifier(built: Built) -> Classifier:
    return built.classifier


Page = Callable[[list[Answer | Unreadable]], str]


@pytest.fixture
def page(classifier: Classifier, tmp_path: Path) -> Page:
    def of(answers: list[Answer | Unreadable]) -> str:
        write_gallery(answers, classifier, tmp_path / "answers.html")
        return (tmp_path / "answers.html").read_text(encoding="utf-8")

    return of


@pytest.fixture(scope="module")
def answers(classifier: Classifier, photographs: Path) -> list[Answer | Unreadable]:
    labeller = Labeller(replace(classifier, rejection=Rejection(2.0, 0, 1, "never enough")), 3, thumbnails=True)
    sure = Labeller(replace(classifier, rejection=None), 3, thumbnails=True)
    files = sorted(photographs.rglob("*.png"))[::50]
    return [*sure.label(files[:2]), *labeller.label(files[2:3]), Unreadable("gone.jpg", "No such file or directory")]


def pictures(text: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in found]


def test_page_holds_each_picture_with_its_answer(
    page: Page, classifier: Classifier, answers: list[Answer | Unreadable]
) -> None:
    text = page(answers)
    assert "4 pictures, 3 classes" in text
    assert "3 of 4 pictures labelled, 1 of them marked “none of these?”." in text
    assert text.count('<li class="doubtful">') == 1
    assert "not readable: No such file or directory" in text
    for answer in answers[:3]:
        assert isinstance(answer, Answer)
        assert answer.name in text and f"similarity {answer.similarity:.3f}" in text
        for share in answer.probabilities.values():
            assert f"{100 * share:.1f} %</dd>" in text
    first = answers[0]
    assert isinstance(first, Answer)
    shown = pictures(text)
    assert len(shown) == 3 * (1 + 3) and {image.shape for image in shown} == {(96, 96, 3)}
    support = classifier.thumbnails[first.places[0]].astype(int)
    assert np.abs(shown[1] - support).mean() < 12, "the nearest support picture stands behind the picture itself"


def test_page_asks_nobody_and_runs_nothing(page: Page, answers: list[Answer | Unreadable]) -> None:
    odd = replace(answers[0], name="<script>alert(1)</script>\x1b\udcff", label="<b>", probabilities={"<b>": 1.0})
    text = page([odd, Unreadable("<i>", "<u>")])
    assert "<script" not in text and "<b>" not in text and "<i>" not in text and "<u>" not in text
    assert "\x1b" not in text and "http" not in text.replace("http-equiv", "")
    assert "default-src 'none'" in text


def test_equal_answers_give_equal_bytes_and_no_thumbnail_no_picture(
    page: Page, answers: list[Answer | Unreadable]
) -> None:
    assert page(answers) == page(answers)
    plain = replace(answers[0], thumbnail=None)
    assert len(pictures(page([plain]))) == 3


def test_a_page_ends(page: Page, answers: list[Answer | Unreadable], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "MOST", 2)
    assert page(answers).count("</li>") == 2 and "2 further pictures are not shown." in page(answers)
    monkeypatch.setattr(gallery, "MOST", 4)
    assert "further" not in page(answers)
