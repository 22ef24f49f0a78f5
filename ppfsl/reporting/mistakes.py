"""The queries of a support set that a method got wrong and was surest of, beside the support images most like them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ppfsl.reporting.drawing import WIDTH, in_lines, show_images, styled


@dataclass(frozen=True)
class Mistakes:
    """Queries with a wrong answer, the most confident first.

    Attributes:
        queries: int64 [M], their places among the episode's queries.
        predicted: int64 [M], their answers, 0..way - 1.
        confidence: float64 [M], softmax probability of the answer, 0..1.
        nearest: int64 [M, N], places of the support images of greatest cosine, the nearest first.
        cosines: float64 [M, N].
    """

    queries: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    nearest: np.ndarray
    cosines: np.ndarray


def most_confident(
    logits: np.ndarray, truth: np.ndarray, query: np.ndarray, support: np.ndarray, most: int, nearest: int
) -> Mistakes:
    """Find mistakes; of equals the first.

    Args:
        logits: [Q, way].
        truth: int64 [Q], 0..way - 1.
        query, support: embeddings of length one, [Q, D] and [S, D].
        most: so many mistakes.
        nearest: so many support images of each, at most S.
    """
    from scipy.special import softmax  # takes a tenth of a second

    logits = logits.astype(np.float64)
    shares = softmax(logits, axis=-1)
    predicted = logits.argmax(-1)
    wrong = np.flatnonzero(predicted != truth)
    # Shares of 1 are many; the lead over the true class still tells which of them is worst.
    lead = logits[wrong, predicted[wrong]] - logits[wrong, truth[wrong]]
    wrong = wrong[np.lexsort((-lead, -shares.max(-1)[wrong]))][:most]
    cosines = query[wrong].astype(np.float64) @ support.T
    places = np.argsort(-cosines, axis=-1, kind="stable")[:, :nearest]
    return Mistakes(
        wrong, predicted[wrong], shares.max(-1)[wrong], places, np.take_along_axis(cosines, places, axis=-1)
    )


@styled
def mistake_sheet(
    queries: np.ndarray,
    support: np.ndarray,
    truth: Sequence[int] | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    mistakes: Mistakes,
    names: Sequence[str],
) -> Any:
    """A mistake a row: the query with its class and its answer, then the support images most like it.

    Args:
        queries, support: uint8 [Q, S, S, C] and [N, S, S, C], C is 3 (RGB) or 1 (grey).
        truth, labels: 0..way - 1, [Q] and [N].
        mistakes: at least one.
        names: [way], of the classes.

    Raises:
        ValueError: when there are no mistakes.
    """
    from matplotlib.figure import Figure

    if not len(mistakes.queries):
        raise ValueError("a sheet of mistakes needs a mistake")
    columns = 1 + mistakes.nearest.shape[1]
    figure = Figure(figsize=(min(WIDTH, 1.9 * columns), 2.05 * len(mistakes.queries) + 0.3))
    figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.05)
    grid = figure.subplots(len(mistakes.queries), columns, squeeze=False)
    for row, query in enumerate(mistakes.queries.tolist()):
        own, answer = (in_lines(names[int(label)]) for label in (truth[query], mistakes.predicted[row]))
        show_images(grid[row, 0], [queries[query]], wrong=True)
        grid[row, 0].set_xlabel(f"{own}\ntaken for {answer}\n({100 * mistakes.confidence[row]:.0f} %)", fontsize=8)
        for axes, place, cosine in zip(grid[row, 1:], mistakes.nearest[row], mistakes.cosines[row], strict=True):
            show_images(axes, [support[place]], wrong=False)
            right = "\n(its class)" if labels[place] == truth[query] else ""
            axes.set_xlabel(f"{in_lines(names[int(labels[place])])}\ncosine {cosine:.2f}{right}", fontsize=8)
    grid[0, 0].set_title("query", loc="center")
    for number, axes in enumerate(grid[0, 1:], 1):
        axes.set_title("nearest support image" if number == 1 else f"{number}.", loc="center", fontsize=9)
    return figure
