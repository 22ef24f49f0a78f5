"""How results are put into words: one wording for the terminal, the report and the page of results."""

from collections.abc import Mapping, Sequence
from typing import Any

from ppfsl.config import EmbeddingConfig
from ppfsl.data.names import printable
from ppfsl.reporting.pairing import Evaluation, paired_difference
from ppfsl.reporting.phrases import ENGLISH, Phrases


def cell(text: object) -> str:
    """Text that does not end a cell of a Markdown table."""
    return printable(text).replace("|", "\\|")


def table_head(names: Sequence[str]) -> list[str]:
    """The two lines that a Markdown table begins with."""
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]


def adaptation(evaluation: Evaluation, phrases: Phrases = ENGLISH) -> str:
    """The adaptation for a cell of a Markdown table, with the mode of batch norm where that is an unusual one."""
    mode = evaluation.get("batch_norm", "eval")
    unusual = "" if mode == "eval" else phrases.batch_norm.format(mode=phrases.value(mode.replace("_", " ")))
    return cell(evaluation["adaptation"]) + unusual


def subject(result: dict[str, Any], phrases: Phrases) -> str:
    """What a result is about: data, network, weights, and how its embeddings were finished, if at all."""
    facts = {key: result[key] for key in ("dataset", "split", "backbone", "image_size")}
    said = phrases.subject.format(**facts, weights=result["pretrained"] or phrases.no_weights)
    finish = result.get("embedding", {})  # absent from results of before there was such a thing
    untouched = EmbeddingConfig().model_dump(mode="json")
    done = [
        phrases.finish[key].format(finish[key])
        for key in untouched
        if finish.get(key, untouched[key]) != untouched[key]
    ]
    return said + (phrases.finished.format(phrases.comma.join(done)) if done else "")


def task(evaluation: Evaluation) -> str:
    """What was asked, such as "5-way 1-shot"."""
    return f"{evaluation['way']}-way {evaluation['shot']}-shot"


def figures(evaluation: Evaluation, reported: Mapping[str, float | str]) -> tuple[str, str]:
    """An accuracy with its interval, and what a paper has of that task with, in brackets, by how many points ours is
    above it; the second is empty where the paper has nothing.

    Args:
        evaluation: ours.
        reported: task -> accuracy in per cent, behind it perhaps an interval or a note.
    """
    accuracy = 100 * evaluation["accuracy"]
    ours = f"{accuracy:.2f} ± {100 * evaluation['ci95']:.2f}"
    figure = reported.get(task(evaluation))
    if figure is None:
        return ours, ""
    number = str(figure).split()[0]
    digits = max(1, len(number.partition(".")[2]))
    above = round(accuracy - float(number), digits) + 0.0  # no "-0.0"
    return ours, f"{figure} ({above:+.{digits}f})"


def difference(evaluation: Evaluation, reference: Evaluation) -> str:
    """The paired difference in points, with its 95 % interval; empty where there is nothing to compare with.

    Args:
        evaluation: on the same episodes as the reference.
        reference: the evaluation itself, where there is no other.
    """
    if reference is evaluation:
        return ""
    mean, interval = paired_difference(evaluation, reference)
    return f"{100 * mean:+.2f} ± {100 * interval:.2f}"


def interval_digits(evaluation: Evaluation) -> int:
    """Decimals of a percentage that keep a small interval from rounding to zero."""
    return 2 if 0 < evaluation["ci95"] < 0.001 else 1


def accuracy(evaluation: Evaluation) -> str:
    """The accuracy in per cent, with its 95 % interval in percentage points where there are several episodes."""
    digits = interval_digits(evaluation)
    text = f"{100 * evaluation['accuracy']:.{digits}f} %"
    return text if evaluation["episodes"] == 1 else f"{text} ± {100 * evaluation['ci95']:.{digits}f}"


def episodes(evaluation: Evaluation) -> str:
    """How many episodes, such as "1000 episodes"; "one support set" for the fixed one."""
    if evaluation["support_set"]:
        return "one support set"
    count = evaluation["episodes"]
    return f"{count} episode{'s' * (count != 1)}"


def kind(evaluation: Evaluation) -> str:
    """Either "transductive" (the queries influence one another's answers) or "inductive"."""
    return "transductive" if evaluation["transductive"] else "inductive"


def part(evaluation: Evaluation) -> str:
    """The part of the split that was evaluated; "novel" where the result does not say."""
    return str(evaluation.get("part", "novel"))


def headline(evaluation: Evaluation) -> str:
    """One evaluation in a line: "5-way 1-shot, class_mean, inductive: 72.3 % ± 0.6 (1000 episodes)"."""
    words = [task(evaluation), printable(evaluation["adaptation"]), kind(evaluation)]
    if part(evaluation) != "novel":
        words.append(f"{part(evaluation)} classes")
    return f"{', '.join(words)}: {accuracy(evaluation)} ({episodes(evaluation)})"


def verification(pairs: dict[str, Any]) -> str:
    """What result.json says of pairs, in a line."""
    return (
        f"Verification, {pairs['pairs']} pairs of {pairs['part']} classes, {pairs['similarity']}: "
        f"area under the ROC curve {pairs['roc_auc']:.4f}, equal error rate {100 * pairs['equal_error_rate']:.1f} %, "
        f"accuracy {100 * pairs['accuracy']:.1f} % ± {100 * pairs['ci95']:.1f} at the threshold "
        f"{pairs['threshold']:.3f}"
    )


def by_kind(evaluations: Sequence[Evaluation]) -> list[tuple[str, list[Evaluation]]]:
    """Evaluations in their order, inductive ones apart from transductive ones; a kind without any is left out."""
    groups = [(name, [e for e in evaluations if kind(e) == name]) for name in ("inductive", "transductive")]
    return [(name, group) for name, group in groups if group]
