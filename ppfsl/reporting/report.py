"""The report of a run: one HTML file that needs nothing else, neither network nor scripts."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ppfsl.files import read_json, write_text
from ppfsl.reporting import plots, wording
from ppfsl.reporting.drawing import to_inline_svg
from ppfsl.reporting.metrics import read_metrics
from ppfsl.reporting.page import template
from ppfsl.reporting.pairing import Evaluation
from ppfsl.reporting.statistics import wilson_interval

if TYPE_CHECKING:
    from markupsafe import Markup

FILE_NAME = "report.html"
OPEN_EVALUATIONS = 3  # the details of the others are folded
MOST_TILES = 4
MOST_SHOWN_IMAGES = 300
MOST_DRAWN_CLASSES = 200  # a heat map of more is finer than a screen
THUMBNAIL = 128  # pixels
MOST_CONFUSED_PAIRS = 8


@dataclass(frozen=True)
class Picture:
    """A figure with words.

    Attributes:
        title: a few words.
        text: what is to be seen, a sentence or two.
        figure: of matplotlib.
    """

    title: str
    text: str
    figure: Any


def write_report(
    run: Path,
    support_images: np.ndarray | None = None,
    embeddings: np.ndarray | None = None,
    embedding_labels: Sequence[str] | None = None,
    pictures: Sequence[Picture] = (),
) -> Path:
    """Write `report.html` of a run from what its directory holds; equal inputs give equal bytes.

    Args:
        run: the run directory, with result.json; config.yaml, metrics.jsonl and support_set.json where there are any.
        support_images: uint8 [len(support), S, S, C], C 3 (RGB) or 1 (grey), in the order of `support` in
            support_set.json.
        embeddings: [N, D] for a map in two dimensions.
        embedding_labels: the class name of each embedding.
        pictures: further figures, in order.

    Returns:
        The path of the report.

    Raises:
        UserError: when result.json is missing, or a file of the run is damaged.
        ValueError: when images or labels are not as many as what they belong to.
    """
    result = read_json(run / "result.json")
    evaluations = [{**e, "number": n, "chance": _chance(e)} for n, e in enumerate(result["evaluations"], 1)]
    config, support = run / "config.yaml", run / "support_set.json"
    page = template("ppfsl.reporting", "report.html").render(
        name=result["name"],
        summary=_summary(result),
        tiles=_tiles(evaluations),
        groups=wording.by_kind(evaluations),
        words=wording,
        curves=_svg(plots.learning_curves(read_metrics(run)), "Loss, learning rate and accuracy over the steps"),
        most_points=plots.MOST_POINTS_OF_A_CURVE,
        evaluations=[_details(e) for e in evaluations],
        open_evaluations=OPEN_EVALUATIONS,
        support=_support_set(read_json(support), support_images) if support.exists() else None,
        map=_map(embeddings, embedding_labels),
        verification=result.get("verification"),
        pictures=[{"title": p.title, "text": p.text, "figure": _svg(p.figure, p.title)} for p in pictures],
        facts=list(_facts(result)),
        config=config.read_text(encoding="utf-8", errors="replace").splitlines() if config.exists() else [],
    )
    write_text(run / FILE_NAME, page)
    return run / FILE_NAME


def _main_evaluation(evaluations: Sequence[Evaluation]) -> Evaluation:
    """The one that the summary speaks of: the first inductive one on novel classes over drawn episodes, if any."""
    return min(evaluations, key=lambda e: (wording.part(e) != "novel", e["transductive"], e["support_set"]))


def _summary(result: dict[str, Any]) -> str:
    """The run in one sentence."""
    e = _main_evaluation(result["evaluations"])
    over = f"on {wording.episodes(e)}" if e["episodes"] == 1 else f"on average over {e['episodes']} episodes"
    interval = "" if e["episodes"] == 1 else " (95 % interval)"
    split = f" ({result['split']} split)" if result["split"] else ""
    return (
        f"On {wording.task(e)} tasks of {wording.part(e)} classes of {result['dataset']}{split}, "
        f"{result['method']} with a {result['backbone']} backbone (pretrained: {result['pretrained'] or 'none'}) and "
        f"{e['adaptation']} adaptation ({wording.kind(e)}) labels {wording.accuracy(e)}{interval} of the queries "
        f"correctly, {over}; guessing would give {100 * _chance(e):.1f} %."
    )


def _chance(evaluation: Evaluation) -> float:
    return float(evaluation.get("chance", 1 / evaluation["way"]))


def _tiles(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """The evaluations shown large: the first few of the main one's kind and part, the fixed support set's last."""
    main = _main_evaluation(evaluations)
    same = [e for e in evaluations if (wording.kind(e), wording.part(e)) == (wording.kind(main), wording.part(main))]
    return sorted(same, key=lambda e: bool(e["support_set"]))[:MOST_TILES]


def _facts(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "dataset", result["dataset"]
    yield "split", result["split"] or "none"
    yield "backbone", result["backbone"]
    yield "pretrained", result["pretrained"] or "none: training began with random weights"
    yield "method", result["method"]
    if "checkpoint" in result:
        yield "weights", f"{result['checkpoint']['file']}; how they were trained says the config.yaml of that run"
    yield "seed", str(result["seed"])
    yield "git", result["git"] or "unknown"
    yield "versions", ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    yield "time of the evaluations", f"{sum(e['seconds'] for e in result['evaluations']):.1f} s"


def _details(evaluation: Evaluation) -> dict[str, Any]:
    """What the template shows of one evaluation beside the tables of results."""
    headline = wording.headline(evaluation)
    per_class, confusion = evaluation["per_class"], evaluation["confusion"]
    names = [c["name"] for c in per_class]
    heat_map = plots.confusion_matrix(confusion, names) if confusion and len(names) <= MOST_DRAWN_CLASSES else None
    return {
        "headline": headline,
        "settings": [f"{key} = {value}" for key, value in (evaluation.get("settings") or {}).items()],
        "bars": _svg(plots.per_class_accuracy(per_class, evaluation["chance"]), f"Accuracy per class, {headline}"),
        "classes": [{**c, "interval": wilson_interval(c["correct"], c["total"])} for c in per_class],
        "confusion": _svg(heat_map, f"Confusion matrix, {headline}"),
        "numbered": len(names) <= plots.MOST_NUMBERED_CELLS,
        "pairs": _confused_pairs(np.asarray(confusion), names) if confusion else [],
    }


def _confused_pairs(confusion: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """The most frequent mistakes: true class, predicted class, how many, as a fraction of the true class's queries."""
    wrong = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSED_PAIRS]
    cells = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [
        {"true": names[i], "predicted": names[j], "count": int(wrong[i, j]), "share": wrong[i, j] / confusion[i].sum()}
        for i, j in cells
        if wrong[i, j]
    ]


def _support_set(support_set: dict[str, Any], images: np.ndarray | None) -> dict[str, Any]:
    """The support set by class, each with its images as data URIs (the first 300) and their files."""
    support = support_set["support"]
    if images is not None and len(images) != len(support):
        raise ValueError(f"{len(images)} support images, but support_set.json lists {len(support)}")
    pictures = [_data_uri(image) for image in images[:MOST_SHOWN_IMAGES]] if images is not None else []
    classes = []
    for entry in support_set["classes"]:
        members = [number for number, item in enumerate(support) if item["label"] == entry["label"]]
        shown = [(support[n]["file"], pictures[n] if n < len(pictures) else None) for n in members]
        classes.append({"label": entry["label"], "name": entry["name"], "images": shown})
    return {
        "classes": classes,
        "task": wording.task(support_set),
        "part": support_set.get("part", "novel"),
        "seed": support_set["seed"],
        "queries": len(support_set.get("query", [])),
        "left_out": max(0, len(pictures) and len(support) - MOST_SHOWN_IMAGES),
        "pixelated": images is not None and images.shape[1] < 64,
    }


def _data_uri(image: np.ndarray) -> str:
    """A uint8 image [S, S, C] as a PNG of at most 128 pixels a side."""
    image = np.asarray(image, dtype=np.uint8)
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _map(embeddings: np.ndarray | None, labels: Sequence[str] | None) -> "Markup | None":
    if embeddings is None or not len(embeddings):
        return None
    if labels is None:
        raise ValueError("embeddings need embedding_labels")
    return _svg(plots.embedding_map(embeddings, labels), "Map of the embeddings")


def _svg(figure: Any, title: str) -> "Markup | None":
    from markupsafe import Markup

    return Markup(to_inline_svg(figure, title)) if figure is not None else None
