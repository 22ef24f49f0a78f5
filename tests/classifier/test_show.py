"""Answers in a table, as JSON lines and as CSV, whatever the names and the stream."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ppfsl.classifier.build import Built
from ppfsl.classifier.pictures import Unreadable
from ppfsl.classifier.predict import Answer
from ppfsl.classifier.show import complaint, print_answers, print_summary, summary

ROSE = Answer("a b.jpg", "rose", {"rose": 0.75, "郁金香": 0.25}, 0.81, False, (("rose/1.jpg", "rose", 0.9),))
TULIP = Answer('花, "好".jpg', "郁金香", {"郁金香": 0.625, "rose": 0.375}, 0.125, True, ())
GONE = Unreadable("gone.jpg", "No such file or directory")
ODD = Answer("x\udcff\x1b[31m\n[bold].jpg", "rose", {"rose": 1.0}, 0.5, False, ())


def stream_of(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")


def printed(answers: list[Any], form: Any, encoding: str = "utf-8", **options: Any) -> str:
    stream = stream_of(encoding)
    assert print_answers(iter(answers), form, stream, **options) == answers
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)


def test_json_is_an_object_a_line() -> None:
    lines = printed([ROSE, GONE, TULIP], "json").splitlines()
    assert [json.loads(line) for line in lines] == [
        {
            "picture": "a b.jpg",
            "label": "rose",
            "probability": 0.75,
            "unlike": False,
            "similarity": 0.81,
            "probabilities": {"rose": 0.75, "郁金香": 0.25},
            "nearest": [{"file": "rose/1.jpg", "label": "rose", "similarity": 0.9}],
        },
        {"picture": "gone.jpg", "error": "No such file or directory"},
        {
            "picture": '花, "好".jpg',
            "label": "郁金香",
            "probability": 0.625,
            "unlike": True,
            "similarity": 0.125,
            "probabilities": {"郁金香": 0.625, "rose": 0.375},
            "nearest": [],
        },
    ]
    assert "郁金香" in lines[2], "in letters, where the stream has them"


def test_csv_is_readable_as_csv() -> None:
    rows = list(csv.DictReader(io.StringIO(printed([ROSE, GONE, TULIP], "csv"))))
    assert list(rows[0]) == ["picture", "label", "probability", "similarity", "unlike", "nearest", "error"]
    assert [list(row.values()) for row in rows] == [
        ["a b.jpg", "rose", "0.75", "0.81", "False", "rose/1.jpg", ""],
        ["gone.jpg", "", "", "", "", "", "No such file or directory"],
        ['花, "好".jpg', "郁金香", "0.625", "0.125", "True", "", ""],
    ]


def test_table_says_all_a_reader_needs() -> None:
    text = printed([ROSE, replace(GONE, reason="it is empty"), TULIP], "table")
    head, rose, gone, tulip = text.splitlines()
    assert head.split() == ["picture", "label", "probability", "similarity", "nearest", "support", "pictures"]
    assert rose.split() == ["a", "b.jpg", "rose", "75.0", "%", "0.810", "rose/1.jpg", "(0.90)"]
    assert gone.split() == ["gone.jpg", "not", "readable:", "it", "is", "empty"]
    for words in ('花, "好".jpg', "none of these? (most like 郁金香)", "62.5 %", "0.125"):
        assert words in tulip
    assert "nearest" not in printed([TULIP, GONE], "table")
    assert "rose/1.jpg" not in printed([ROSE], "table", nearest=False)
    assert "rose/1.jpg" in printed([ROSE], "json", nearest=False)
    assert "\x1b" not in text, "colours are for terminals"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gbk", "utf-8", "utf-16-le"])
def test_streams_that_lack_the_letters_get_others(encoding: str) -> None:
    answers = [ROSE, TULIP, ODD, replace(TULIP, name="☃.jpg")]
    found = [json.loads(line) for line in printed(answers, "json", encoding).splitlines()]
    assert [row["label"] for row in found] == ["rose", "郁金香", "rose", "郁金香"]
    assert found[3]["picture"] == "☃.jpg", "JSON has escapes for all letters"
    rows = list(csv.DictReader(io.StringIO(printed(answers, "csv", encoding))))
    if encoding.startswith("utf"):
        assert rows[3]["picture"] == "☃.jpg"
    elif encoding != "gbk":
        assert (rows[1]["label"], rows[3]["picture"]) == (r"\u90c1\u91d1\u9999", r"\u2603.jpg")
    assert len(printed(answers, "table", encoding).splitlines()) >= 5


def test_names_that_are_no_text(tmp_path: Path) -> None:
    (line,) = printed([ODD], "json").splitlines()
    assert json.loads(line)["picture"] == "x\ufffd\x1b[31m\n[bold].jpg"
    assert "\x1b" not in line and "\\ud" not in line
    (row,) = csv.DictReader(io.StringIO(printed([ODD], "csv")))
    assert row["picture"] == "x\\udcff\x1b[31m\n[bold].jpg"
    table = printed([ODD], "table")
    assert "\x1b" not in table and len(table.splitlines()) == 2
    assert "[bold].jpg" in table, "no markup"


@pytest.mark.parametrize("form", ["json", "csv"])
def test_lines_are_printed_as_answers_come(form: Any) -> None:
    stream = io.StringIO()

    def answers() -> Any:
        yield ROSE
        assert "a b.jpg" in stream.getvalue()
        yield TULIP

    print_answers(answers(), form, stream)


def test_nothing_asked_nothing_printed() -> None:
    assert printed([], "json") == ""
    assert len(printed([], "csv").splitlines()) == 1


def test_complaints_name_the_first_and_count_the_rest() -> None:
    assert complaint([GONE, *[ROSE] * 8]) == (
        "1 of 9 pictures could not be read (gone.jpg: No such file or directory); all others are labelled"
    )
    several = complaint([GONE, Unreadable("b", "c"), *[ROSE] * 998])
    assert several is not None and several.startswith("2 of 1000 pictures could not be read (the first")
    assert complaint([ROSE, TULIP]) is None
    assert complaint([GONE]) == "1 of 1 picture could not be read (gone.jpg: No such file or directory)"
    assert "\x1b" not in str(complaint([Unreadable("\x1b[2J", "no")] * 2))


def test_summary_says_what_was_built(built: Built) -> None:
    rejection = built.classifier.rejection
    assert rejection is not None
    first, classes, left_out, threshold = summary(built, Path("m.safetensors")).splitlines()
    assert first == f"m.safetensors: 3 classes, 4 each, embedder {built.classifier.origin}"
    assert classes == "classes: rose; tulip; 向日葵"
    assert left_out.endswith(f"itself left out of the class means: {built.right} of 12 right")
    assert f"below a similarity of {rejection.threshold:.3f}, chosen on the support set, each class" in threshold
    assert f"{100 * rejection.known_kept:.0f} % of known kept" in threshold


def test_summary_of_little(built: Built) -> None:
    labels = built.classifier.labels.copy()
    labels[4:7] = 0
    few = replace(built.classifier, rejection=None, labels=labels)
    text = summary(Built(few, 0, 0), Path("m"))
    assert "3 classes, 1 to 7 each" in text
    assert "no rejection threshold: it takes three classes that can be told apart and two pictures of one" in text
    assert "left out" not in text


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_summary_is_printed_whatever_the_names(built: Built, encoding: str) -> None:
    odd = replace(built.classifier, class_names=("\x1b[31m", "[bold]", "花" * 100))
    stream = stream_of(encoding)
    print_summary(Built(odd, 12, 7), Path("m"), stream)
    stream.flush()
    text = stream.buffer.getvalue().decode(encoding)
    assert "\x1b" not in text and "[bold]" in text
    assert text.count("\n") == 4, "long lines are the terminal's to fold"
    assert ("花" in text) == (encoding == "utf-8")
