"""Figures of a run, readable on light and dark ground and without colour vision.

Every function builds a matplotlib `Figure` of its own, without pyplot's global state; `to_png` and `to_inline_svg` of
`ppfsl.reporting.drawing` turn it into bytes or markup, the same for the same figure.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ppfsl.data.names import printable
from ppfsl.reporting.drawing import COLOURS, GREY, INK, LINES, MARKERS, WIDTH, short, styled
from ppfsl.reporting.statistics import two_components, wilson_interval

MOST_BARS = 60
MOST_NUMBERED_CELLS = 20  # classes
MOST_NAMED_CELLS = 60  # classes
MOST_POINTS_OF_A_CURVE = 400
MOST_POINTS_OF_A_MAP = 3000


@styled
def learning_curves(rows: Sequence[dict[str, Any]]) -> Any:
    """Loss, learning rate and accuracy over the optimizer steps.

    Losses of different stages are of different sizes and cannot be compared: each stage's have a panel of their own.
    A stage has its colour in all panels.

    Args:
        rows: rows of metrics.jsonl. Curves of more than 400 points are averaged in as many equal pieces.

    Returns:
        A figure, or None when the rows hold none of the three.
    """
    from matplotlib.figure import Figure

    losses = _curves(rows, lambda quantity: "loss" in quantity.split("_"))
    panels = [("loss", [curve for curve in losses if curve.stage == stage]) for stage in _stages(losses)]
    panels.append(("learning rate", _curves(rows, lambda quantity: quantity == "learning_rate")))
    panels.append(("accuracy (%)", _curves(rows, lambda quantity: quantity.startswith("accuracy"))))
    panels = [(title, curves) for title, curves in panels if curves]
    if not panels:
        return None
    stages = _stages([curve for _, curves in panels for curve in curves])
    figure = Figure(figsize=(1.2 * WIDTH, 2.1 * len(panels)), layout="constrained")
    for axes, (title, curves) in zip(np.ravel(figure.subplots(len(panels), sharex=True)), panels, strict=True):
        for number, curve in enumerate(curves):
            axes.plot(
                curve.steps,
                100 * curve.values if title == "accuracy (%)" else curve.values,
                label=curve.label,
                color=COLOURS[stages.index(curve.stage) % len(COLOURS)],
                linestyle=LINES[number % len(LINES)],
                marker=MARKERS[number % len(MARKERS)] if len(curve.steps) <= 40 else "",
                markersize=4,
                linewidth=1.5,
            )
        axes.grid(True)
        if title == "learning rate" and _spans_decades(curves):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
        if len(curves) > 1:
            axes.set_title(f"{title}: {curves[0].stage}" if title == "loss" and len(stages) > 1 else title)
            axes.legend()
        else:
            axes.set_title(f"{title}: {curves[0].label}")
    axes.set_xlabel("optimizer steps")
    return figure


@dataclass(frozen=True)
class _Curve:
    """What a stage logged of one quantity: float64 [N] each."""

    stage: str
    label: str
    steps: np.ndarray
    values: np.ndarray


def _curves(rows: Sequence[dict[str, Any]], wanted: Callable[[str], bool]) -> list[_Curve]:
    """The curves whose quantity is wanted, in order of appearance."""
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        stage, _, quantity = row["name"].rpartition("/")
        if wanted(quantity):
            what = re.sub(r"(\d+)(way|shot)", r"\1-\2", quantity.removeprefix("accuracy").replace("_", " ").strip())
            words = [stage, row["split"], "" if what in ("loss", "learning rate") else what]
            label = printable(", ".join(filter(None, words)))
            points.setdefault((printable(stage), label), []).append((row["step"], row["value"]))
    return [_Curve(*names, *_thinned(np.asarray(sorted(some), dtype=np.float64))) for names, some in points.items()]


def _stages(curves: Sequence[_Curve]) -> list[str]:
    return list(dict.fromkeys(curve.stage for curve in curves))


def _thinned(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pieces = np.array_split(points, min(len(points), MOST_POINTS_OF_A_CURVE))
    means = np.stack([piece.mean(axis=0) for piece in pieces])
    return means[:, 0], means[:, 1]


def _spans_decades(curves: Sequence[_Curve]) -> bool:
    values = np.concatenate([curve.values for curve in curves])
    return bool(values.min() > 0 and values.max() > 50 * values.min())


@styled
def per_class_accuracy(per_class: Sequence[dict[str, Any]], chance: float | None = None) -> Any:
    """Bars of the classes' accuracies, best on top, with Wilson 95 % intervals.

    Args:
        per_class: entries with name, correct, total; classes without queries are left out. Of more than 60 classes the
            30 best and the 30 worst are shown.
        chance: the accuracy of guessing, a fraction, drawn as a dotted line.

    Returns:
        A figure, or None when no class has queries.
    """
    from matplotlib.figure import Figure

    counted = sorted((c for c in per_class if c["total"]), key=lambda c: c["correct"] / c["total"], reverse=True)
    if not counted:
        return None
    half = MOST_BARS // 2
    classes = counted if len(counted) <= MOST_BARS else counted[:half] + counted[-half:]
    shares = np.asarray([c["correct"] / c["total"] for c in classes])
    intervals = np.asarray([wilson_interval(c["correct"], c["total"]) for c in classes])
    places = np.arange(len(classes), dtype=np.float64)
    if len(classes) < len(counted):
        places[half:] += 1  # a gap where classes are left out

    figure = Figure(figsize=(0.8 * WIDTH, 0.9 + 0.27 * (places[-1] + 1)), layout="constrained")
    axes = figure.subplots()
    axes.barh(places, 100 * shares, height=0.72, color=COLOURS[0], alpha=0.75)
    error = 100 * np.abs(intervals - shares[:, None]).T
    axes.errorbar(100 * shares, places, xerr=error, fmt="none", ecolor=INK, elinewidth=1, capsize=2.5)
    mean = 100 * sum(c["correct"] for c in counted) / sum(c["total"] for c in counted)
    axes.axvline(mean, color=COLOURS[1], linestyle="--", linewidth=1.3, label=f"all classes: {mean:.1f} %")
    if chance is not None:
        axes.axvline(100 * chance, color=GREY, linestyle=":", linewidth=1.5, label=f"chance: {100 * chance:.1f} %")
    axes.set_yticks(places, labels=[short(c["name"]) for c in classes])
    for place, share in zip(places, shares, strict=True):
        axes.text(102, place, f"{100 * share:.1f}", va="center", fontsize=8)
    if len(classes) < len(counted):
        axes.text(0.5, half, f"… {len(counted) - len(classes)} classes between …", va="center", fontsize=8)
    axes.set_xlim(0, 100)
    axes.set_ylim(places[-1] + 0.6, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("accuracy (%)")
    axes.grid(True, axis="x")
    figure.legend(loc="outside upper left", ncols=2)
    return figure


@styled
def confusion_matrix(confusion: Any, names: Sequence[str]) -> Any:
    """A heat map of which class was taken for which, each row in per cent of the true class's queries.

    Args:
        confusion: [K, K] counts; row i holds the queries of class i, column j what was predicted.
        names: K class names, written out up to 60 classes; numbers stand in the cells up to 20.

    Raises:
        ValueError: when the matrix is not [K, K].
    """
    from matplotlib.figure import Figure

    counts = np.asarray(confusion, dtype=np.float64)
    k = len(names)
    if counts.shape != (k, k):
        raise ValueError(f"a confusion matrix of {k} classes must be [{k}, {k}], not {list(counts.shape)}")
    totals = counts.sum(axis=1, keepdims=True)
    shares = 100 * np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    side = min(max(0.34 * k, 3.0), 9.0)
    numbered = k <= MOST_NUMBERED_CELLS
    figure = Figure(figsize=(side + (1.9 if numbered else 3.2), side + 1.9), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor(GREY)  # shows through rows without queries
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=100, interpolation="none")
    if numbered:
        for i, j in zip(*np.nonzero(np.nan_to_num(shares) >= 0.5), strict=True):
            colour = "black" if shares[i, j] > 55 else "white"
            axes.text(j, i, f"{shares[i, j]:.0f}", ha="center", va="center", fontsize=8, color=colour)
    if k <= MOST_NAMED_CELLS:
        size = 9 if k <= 30 else 6
        labels = [short(name) for name in names]
        axes.set_yticks(range(k), labels=labels, fontsize=size)
        rotation = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if k <= 30 else {"rotation": 90}
        axes.set_xticks(range(k), labels=labels, fontsize=size, **rotation)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    axes.tick_params(length=0)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.spines[:].set_visible(False)
    if not numbered:
        bar = figure.colorbar(image, ax=axes, shrink=0.7, label="% of the true class's queries")
        bar.outline.set_visible(False)
    return figure


@styled
def contact_sheet(images: np.ndarray, names: Sequence[str]) -> Any:
    """Images in rows, a class a row, in order of appearance.

    Args:
        images: uint8 [N, S, S, C], C is 3 (RGB) or 1 (grey), N at least 1.
        names: the class name of each image.

    Raises:
        ValueError: when there are no images or not as many names.
    """
    from matplotlib.figure import Figure

    if not len(images) or len(images) != len(names):
        raise ValueError(f"a contact sheet needs images and as many names, not {len(images)} and {len(names)}")
    groups: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        groups.setdefault(name, []).append(number)
    columns, size = max(map(len, groups.values())), images.shape[1]
    pitch = size + max(2, size // 12)
    sheet = np.full((len(groups) * pitch, columns * pitch, 3), 255, dtype=np.uint8)
    for row, members in enumerate(groups.values()):
        for column, number in enumerate(members):
            top, left = row * pitch, column * pitch
            sheet[top : top + size, left : left + size] = images[number]  # grey spreads over the three channels
    scale = min(1.1, 8.0 / columns)  # inches an image
    figure = Figure(figsize=(columns * scale + 2.2, len(groups) * scale + 0.2), layout="constrained")
    axes = figure.subplots()
    axes.imshow(sheet, interpolation="nearest" if size < 64 else "antialiased")
    axes.set_yticks([row * pitch + size / 2 for row in range(len(groups))], labels=[short(name) for name in groups])
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


@styled
def embedding_map(matrix: np.ndarray, labels: Sequence[str]) -> Any:
    """Embeddings on their first two principal components; a class has its own colour and marker.

    Args:
        matrix: [N, D], finite. Of more than 3000 rows every n-th is drawn, on the components of all.
        labels: N class names; from the 64th on, classes share a small grey dot.

    Raises:
        ValueError: for no rows, values that are not finite, or not as many labels.
    """
    from matplotlib.figure import Figure

    if len(matrix) != len(labels):
        raise ValueError(f"{len(matrix)} embeddings, but {len(labels)} labels")
    positions, shares = two_components(matrix)
    names = list(dict.fromkeys(labels))
    drawn = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), MOST_POINTS_OF_A_MAP)).round().astype(int))
    label_of = np.asarray([names.index(label) for label in labels])[drawn]
    distinct = len(COLOURS) * len(MARKERS)
    legend_rows = math.ceil((min(len(names), distinct) + 1) / 3)
    figure = Figure(figsize=(WIDTH, 5.4 + 0.19 * legend_rows), layout="constrained")
    axes = figure.subplots()
    handles = []
    for number in range(min(len(names), distinct)):
        x, y = positions[drawn[label_of == number]].T
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        look = axes.scatter(x, y, s=26, c=colour, marker=marker, linewidths=0.4, edgecolors="white", alpha=0.85)
        handles.append(look)
    shown = [short(name) for name in names[:distinct]]
    if len(names) > distinct:
        x, y = positions[drawn[label_of >= distinct]].T
        handles.append(axes.scatter(x, y, s=6, c=GREY, marker="."))
        shown.append(f"{len(names) - distinct} other classes")
    axes.set_xlabel(f"component 1 ({100 * shares[0]:.0f} % of the variance)")
    axes.set_ylabel(f"component 2 ({100 * shares[1]:.0f} % of the variance)")
    axes.grid(True)
    legend = figure.legend(handles, ["name"] * len(handles), loc="outside lower left", ncols=3)
    for text, name in zip(legend.get_texts(), shown, strict=True):
        text.set_text(name)  # set afterwards: older matplotlib skips labels that begin with "_"
    return figure
