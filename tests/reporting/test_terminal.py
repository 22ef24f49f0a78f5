import io
from typing import Any

import pytest

from ppfsl.reporting.terminal import print_per_class


def printed(result: dict[str, Any], every: bool = False) -> str:
    stream = io.StringIO()
    print_per_class(result, every=every, stream=stream)
    return stream.getvalue()


def test_one_evaluation_shows_every_class_with_its_figures(evaluation: Any, result: Any) -> None:
    e = evaluation()
    text = printed(result([e]))
    assert f"5-way 1-shot, class_mean, inductive: {100 * e['accuracy']:.1f} % ± 0.6 (100 episodes)" in text
    assert "evaluations" not in text  # no summary of a single one
    lines = text.splitlines()
    for c in e["per_class"]:
        (line,) = [line for line in lines if c["name"] in line]
        assert line.split()[0] == str(c["label"])
        assert f"{c['correct']} / {c['total']}" in line
        assert f"{100 * c['accuracy']:.1f} %" in line
        assert line.count("█") == round(20 * c["accuracy"])
    assert max(map(len, lines)) <= 100
    assert "\x1b" not in text


def test_inductive_and_transductive_rows_stand_in_separate_tables(evaluation: Any, result: Any) -> None:
    evaluations = [
        evaluation(adaptation="class_mean"),
        evaluation(adaptation="soft_kmeans", transductive=True),
        evaluation(adaptation="finetune"),
    ]
    text = printed(result(evaluations))
    inductive, transductive = text.index("Inductive evaluations"), text.index("Transductive evaluations")
    classes = text.index("5-way 1-shot, class_mean")
    assert inductive < transductive < classes
    assert "soft_kmeans" not in text[inductive:transductive]
    assert all(name in text[inductive:transductive] for name in ("class_mean", "finetune"))
    assert "soft_kmeans" in text[transductive:classes]
    assert all(name not in text[transductive:classes] for name in ("class_mean", "finetune"))


def test_a_summary_row_holds_task_accuracy_interval_and_seconds(evaluation: Any, result: Any) -> None:
    e = evaluation(shot=5, part="validation")
    row = next(line for line in printed(result([e, e])).splitlines() if "validation" in line).split()
    share = f"{100 * e['accuracy']:.1f}"
    assert row == ["5", "5", "class_mean", "validation", share, "%", "±", "0.6", "100", "episodes", "3.2"]


def test_a_single_support_set_shows_no_interval(evaluation: Any, result: Any) -> None:
    text = printed(result([evaluation(episodes=1), evaluation(episodes=1, shot=5)]))
    assert "±" not in text
    assert text.count("one support set") == 4  # two rows of the summary, two titles


@pytest.mark.parametrize("every", [False, True])
def test_of_many_evaluations_the_first_and_last_show_their_classes(evaluation: Any, result: Any, every: bool) -> None:
    text = printed(result([evaluation(adaptation=f"method {n}") for n in range(5)]), every)
    shown = [n for n in range(5) if f"5-way 1-shot, method {n}, inductive" in text]
    assert shown == ([0, 1, 2, 3, 4] if every else [0, 4])


@pytest.mark.parametrize("every", [False, True])
def test_of_many_classes_the_hardest_and_easiest_are_shown(evaluation: Any, result: Any, every: bool) -> None:
    e = evaluation(names=[f"character {n:03}" for n in range(100)])
    text = printed(result([e]), every)
    order = sorted(e["per_class"], key=lambda c: c["accuracy"])
    expected = {c["name"] for c in (order if every else order[:30] + order[-30:])}
    assert {c["name"] for c in order if c["name"] in text} == expected
    assert ("the 30 hardest and the 30 easiest of 100 classes" in text) != every


def test_where_there_is_no_terminal_long_names_are_folded_at_a_hundred_columns(evaluation: Any, result: Any) -> None:
    text = printed(result([evaluation(names=["x" * 150, "rose"])]))
    assert max(map(len, text.splitlines())) == 100
    assert text.count("x") == 150


def test_verification_is_told_in_a_line(evaluation: Any, result: Any) -> None:
    pairs = {
        "part": "novel",
        "similarity": "cosine similarity",
        "pairs": 4000,
        "roc_auc": 0.98765,
        "equal_error_rate": 0.0543,
        "accuracy": 0.9456,
        "ci95": 0.0071,
        "threshold": 0.43219,
    }
    whole = result([evaluation()])
    assert "Verification" not in printed(whole)
    line = printed(whole | {"verification": pairs}).splitlines()[-1]
    assert line == (
        "Verification, 4000 pairs of novel classes, cosine similarity: area under the ROC curve 0.9877, "
        "equal error rate 5.4 %, accuracy 94.6 % ± 0.7 at the threshold 0.432"
    )


def test_names_are_taken_literally(evaluation: Any, result: Any) -> None:
    text = printed(result([evaluation(names=["[red]rose[/red]", "bell\x07\x1b[2Jflower", "向日葵"])]))
    assert "[red]rose[/red]" in text
    assert "bell\ufffd\ufffd[2Jflower" in text
    assert "向日葵" in text


def test_a_stream_that_cannot_show_chinese_gets_question_marks(evaluation: Any, result: Any) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    print_per_class(result([evaluation(names=["向日葵", "rose"])]), stream=stream)
    stream.flush()
    text = raw.getvalue().decode("ascii")
    assert "???" in text
    assert "###" in text  # the bars


def test_a_class_without_queries_has_no_accuracy(evaluation: Any, result: Any) -> None:
    e = evaluation()
    e["per_class"][0] |= {"correct": 0, "total": 0, "accuracy": 0.0}
    assert "no queries" in printed(result([e]))
