"""Figures to check a method by eye: pairs, triplets, the ROC curve, one episode.

Built as those of `ppfsl.reporting.plots`: readable on light and dark ground, nothing told by colour alone.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ppfsl.reporting.drawing import COLOURS, GREY, INK, MARKERS, WIDTH, WRONG, in_lines, short, show_images, styled
from ppfsl.reporting.statistics import two_components

PAIRS_A_ROW = 4
SIZES = {"prototype": 420, "support": 90, "query": 26}  # square points, in the order in which they are drawn
CROSSED_RING: tuple[dict[str, Any], ...] = (
    {"s": 120, "linewidths": 1.2, "marker": "o", "facecolors": "none", "edgecolors": INK},
    {"s": 60, "linewidths": 1.2, "marker": "x", "c": INK, "zorder": 0.9},  # below the query
)


@styled
def pair_sheet(
    left: np.ndarray,
    right: np.ndarray,
    scores: Sequence[float] | np.ndarray,
    same: Sequence[bool] | np.ndarray,
    threshold: float | None = None,
    score_name: str = "similarity",
) -> Any:
    """Pairs of images with their scores, those of one class above those of two, each kind from the highest score on.

    Args:
        left, right: uint8 [P, S, S, C], C is 3 (RGB) or 1 (grey), P at least 1.
        scores: [P], higher for more alike.
        same: bool [P], whether a pair is of one class.
        threshold: the answer is "same" from this score on; wrong answers are framed, crossed and called wrong. None:
            no answers.
        score_name: what the score is.

    Raises:
        ValueError: when there are no pairs, or not as many of everything.
    """
    from matplotlib.figure import Figure

    scores, same = np.asarray(scores, dtype=np.float64), np.asarray(same, dtype=bool)
    if not len(left) or left.shape != right.shape or not len(left) == len(scores) == len(same):
        raise ValueError(f"{len(left)} and {len(right)} images, {len(scores)} scores, {len(same)} answers: not pairs")
    kinds = [sorted(np.flatnonzero(same == kind), key=lambda pair: -scores[pair]) for kind in (True, False)]
    rows = [kind[start : start + PAIRS_A_ROW] for kind in kinds for start in range(0, len(kind), PAIRS_A_ROW)]
    columns = max(map(len, rows))
    cell = WIDTH / PAIRS_A_ROW
    figure = Figure(figsize=(max(columns * cell, 0.75 * WIDTH), len(rows) * (0.5 * cell + 0.22) + 0.35))
    figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.05)
    wrong = np.zeros(len(same), dtype=bool) if threshold is None else (scores >= threshold) != same
    number = _numbers([*scores, *([] if threshold is None else [threshold])])
    for row, cells in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        for axes in row[len(cells) :]:
            axes.set_axis_off()
        for axes, pair in zip(row, cells, strict=False):
            show_images(axes, [left[pair], right[pair]], bool(wrong[pair]))
            words = ["same" if same[pair] else "different", number(scores[pair]), *(["wrong"] if wrong[pair] else [])]
            axes.set_title(", ".join(words), fontsize=9, pad=4)
    heading = short(score_name)
    if threshold is not None:
        heading += f", “same” from {number(threshold)} on: {int((~wrong).sum())} of {len(same)} answers right"
    figure.suptitle(heading, x=0.01, ha="left", fontsize=10)
    return figure


@styled
def triplet_sheet(
    anchors: np.ndarray,
    positives: np.ndarray,
    negatives: np.ndarray,
    to_positive: Sequence[float] | np.ndarray,
    to_negative: Sequence[float] | np.ndarray,
    names: Sequence[tuple[str, str]],
) -> Any:
    """Anchor, positive and negative images with the anchor's distances, a triplet a row.

    A triplet is violated when its positive is not nearer than its negative; its row is framed, crossed and called so.

    Args:
        anchors, positives, negatives: uint8 [T, S, S, C], C is 3 (RGB) or 1 (grey), T at least 1.
        to_positive, to_negative: [T], distances from the anchor.
        names: for each triplet the class of anchor and positive, and the class of the negative.

    Raises:
        ValueError: when there are no triplets, or not as many of everything.
    """
    from matplotlib.figure import Figure

    near, far = np.asarray(to_positive, dtype=np.float64), np.asarray(to_negative, dtype=np.float64)
    lengths = [len(part) for part in (anchors, positives, negatives, near, far, names)]
    if not len(anchors) or len(set(lengths)) > 1:
        raise ValueError(f"anchors, positives, negatives, two distances and names: {lengths} of them, not triplets")
    violated = near >= far
    number = _numbers([*near, *far])
    figure = Figure(figsize=(0.7 * WIDTH, 1.6 * len(anchors) + 0.55))
    figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.05)
    grid = figure.subplots(len(anchors), 3, squeeze=False)
    for triplet, row in enumerate(grid):
        own, other = (in_lines(name) for name in names[triplet])
        bad = bool(violated[triplet])
        captions = (
            own,
            f"d(a, p) = {number(near[triplet])}" + ("\nviolated" if bad else ""),
            f"d(a, n) = {number(far[triplet])}\n{other}",
        )
        for axes, images, caption in zip(row, (anchors, positives, negatives), captions, strict=True):
            show_images(axes, [images[triplet]], bad)
            axes.set_xlabel(caption, fontsize=8)
    for axes, title in zip(grid[0], ("anchor (a)", "positive (p)", "negative (n)"), strict=True):
        axes.set_title(title, loc="center")
    heading = f"{int(violated.sum())} of {len(violated)} triplets violated, d(a, p) ≥ d(a, n)"
    figure.suptitle(heading, x=0.01, ha="left", fontsize=10)
    return figure


def _numbers(values: Sequence[float]) -> Callable[[float], str]:
    """Writes numbers of this size, all with as many decimals."""
    largest = max(map(abs, values)) or 1.0
    decimals = min(max(2 - math.floor(math.log10(largest)), 0), 6)
    return lambda value: f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")  # + 0.0: no "-0"


@styled
def roc_plot(
    fpr: Sequence[float] | np.ndarray,
    tpr: Sequence[float] | np.ndarray,
    auc: float,
    eer: float,
    threshold_point: tuple[float, float] | None = None,
) -> Any:
    """The ROC curve, its equal error rate, and the threshold that was used.

    Args:
        fpr, tpr: [R], shares of the pairs of two classes and of one class that are taken for one class; fractions, from
            (0, 0) to (1, 1).
        auc: the area under the curve.
        eer: the equal error rate, a fraction.
        threshold_point: (false accept rate, true accept rate) at the threshold, fractions.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(0.66 * WIDTH, 0.66 * WIDTH + 0.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 100], [0, 100], color=GREY, linestyle=":", linewidth=1.5, label="guessing")
    axes.plot([0, 100], [100, 0], color=GREY, linestyle="--", linewidth=0.8, label="as many false accepts as rejects")
    curve = 100 * np.asarray(fpr, dtype=np.float64), 100 * np.asarray(tpr, dtype=np.float64)
    axes.plot(*curve, color=COLOURS[0], linewidth=1.8, label=f"ROC curve, area {auc:.4f}")
    look: dict[str, Any] = {"linestyle": "", "clip_on": False, "zorder": 5}
    label = f"equal error rate: {100 * eer:.1f} %"
    (ring,) = axes.plot(100 * eer, 100 - 100 * eer, marker="o", color=INK, markersize=12, label=label, **look)
    ring.set(markerfacecolor="none", markeredgewidth=1.6)  # the threshold, often near, shows within
    if threshold_point is not None:
        x, y = (100 * share for share in threshold_point)
        label = f"threshold: {y:.1f} % of one class accepted,\n{x:.1f} % of two"
        axes.plot(x, y, marker="D", color=WRONG, markersize=6, markeredgecolor="white", label=label, **look)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    axes.set_aspect("equal")
    axes.set_xlabel("false accept rate (%): pairs of two classes taken for one")
    axes.set_ylabel("true accept rate (%): pairs of one class taken for one")
    axes.grid(True)
    figure.legend(loc="outside lower left", ncols=2)
    return figure


def episode_points(vectors: np.ndarray) -> np.ndarray:
    """The vectors of an episode in two dimensions, float64 [N, 2]: their first two principal components.

    Args:
        vectors: [N, D], finite, N at least 1: embeddings of support and query images, and prototypes.
    """
    return two_components(vectors)[0]


@styled
def episode_map(
    points: np.ndarray,
    labels: Sequence[int] | np.ndarray,
    roles: Sequence[str] | np.ndarray,
    predicted: Sequence[int] | np.ndarray,
    class_names: Sequence[str],
) -> Any:
    """One episode in the plane: a class has its own colour and marker, a role its size.

    Prototypes are large and pale, support images of middle size with a dark edge, queries small; wrongly answered
    queries are ringed and crossed.

    Args:
        points: [N, 2], such as `episode_points` gives.
        labels: [N], 0..way-1.
        roles: [N], each "support", "prototype" or "query".
        predicted: the answers, 0..way-1: [N], of which those of queries count, or one for each query.
        class_names: of each label; the looks of the first 63 differ.

    Raises:
        ValueError: when there are not as many of everything, a label has no name, or a role is none of the three.
    """
    from matplotlib.figure import Figure

    points, labels, roles = np.asarray(points, dtype=np.float64), np.asarray(labels), np.asarray(roles)
    answers = np.asarray(predicted)
    queries = roles == "query"
    if points.shape != (len(labels), 2) or labels.shape != roles.shape:
        raise ValueError(f"points {points.shape}, labels {labels.shape}, roles {roles.shape} must be [N, 2], [N], [N]")
    if not set(labels.tolist()) <= set(range(len(class_names))):
        raise ValueError(f"labels must be 0..{len(class_names) - 1}, as there are {len(class_names)} class names")
    if unknown := set(roles.tolist()) - set(SIZES):
        raise ValueError(f"roles are {', '.join(SIZES)}, not {sorted(unknown)[0]}")
    if answers.shape not in (labels.shape, (queries.sum(),)):
        raise ValueError(f"{len(labels)} points and {queries.sum()} queries, but {len(answers)} answers")
    wrong = np.zeros(len(labels), dtype=bool)
    wrong[queries] = (answers[queries] if answers.shape == labels.shape else answers) != labels[queries]

    figure = Figure(figsize=(WIDTH, 5.4 + 0.19 * math.ceil(len(class_names) / 3)), layout="constrained")
    axes = figure.subplots()
    for role, size in SIZES.items():
        for label in np.unique(labels[roles == role]).tolist():
            x, y = points[(roles == role) & (labels == label)].T
            axes.scatter(x, y, **_look(role, *_sign(label), size))
    for look in CROSSED_RING:
        axes.scatter(*points[wrong].T, **look)
    axes.set_aspect("equal", adjustable="datalim")  # distances count
    axes.margins(0.08)
    axes.set_xlabel("component 1")
    axes.set_ylabel("component 2")
    axes.grid(True)
    _role_legend(figure, axes, {role: int((roles == role).sum()) for role in SIZES}, int(wrong.sum()))
    handles = [axes.scatter([], [], **_look("query", *_sign(label), 50)) for label in range(len(class_names))]
    legend = figure.legend(handles, ["name"] * len(handles), loc="outside lower left", ncols=3)
    for text, name in zip(legend.get_texts(), class_names, strict=True):
        text.set_text(short(name))  # set afterwards: older matplotlib skips labels that begin with "_"
    return figure


def _sign(label: int) -> tuple[str, str]:
    """Colour and marker of a class."""
    return COLOURS[label % len(COLOURS)], MARKERS[label % len(MARKERS)]


def _look(role: str, colour: str, marker: str, size: float) -> dict[str, Any]:
    """How `scatter` draws a role, `size` in square points."""
    face, edge, width = {
        "prototype": (colour + "40", colour, 1.8),  # a quarter opaque
        "support": (colour, INK, 1.3),
        "query": (colour, "white", 0.4),
    }[role]
    size *= 1.8 if marker == "*" else 1  # a star looks smaller than it is
    return {"marker": marker, "s": size, "facecolors": face, "edgecolors": edge, "linewidths": width}


def _role_legend(figure: Any, axes: Any, counts: dict[str, int], wrong: int) -> None:
    """Above the map: what the sizes mean, and how many queries were answered wrong."""
    handles: list[Any] = []
    for role, size in SIZES.items():
        handles.append(axes.scatter([], [], **_look(role, GREY, "o", min(size, 200))))
    handles.append(tuple(axes.scatter([], [], **look) for look in CROSSED_RING))
    names = [*SIZES, f"wrong answer ({wrong} of {counts['query']} queries)"]
    shown = [place for place, name in enumerate(names) if counts.get(name, counts["query"])]
    figure.legend(
        [handles[place] for place in shown], [names[place] for place in shown], loc="outside upper left", ncols=4
    )
