"""Verification: do two images show the same class? Pairs, a threshold, and how well it answers."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ppfsl.data.episodes import group_by_class
from ppfsl.errors import UserError
from ppfsl.randomness import generator

MOST_POINTS_OF_THE_CURVE = 200


@dataclass(frozen=True)
class Pairs:
    """Pairs of different images.

    Attributes:
        left: int64 [P], positions among the images given.
        right: int64 [P], the same of the other image.
        same: bool [P], whether both are of one class.
    """

    left: np.ndarray
    right: np.ndarray
    same: np.ndarray


@dataclass(frozen=True)
class Verification:
    """How well scores tell pairs of one class from pairs of two; rates are fractions.

    Attributes:
        pairs: how many were asked.
        roc_auc: area under the ROC curve: the chance that a pair of one class scores above a pair of two, ties half.
        equal_error_rate: where the ROC curve, straight between its points, has as many false accepts as false rejects.
        threshold: the answer is "same" from this score on.
        accuracy: the share of right answers at the threshold.
        ci95: half the accuracy's Wald interval, 1.96 x sqrt(accuracy x (1 - accuracy) / pairs). It is what `ci95` is
            for episodes, with pairs in their place: 0 when all answers agree, and too narrow as far as pairs share
            images.
        true_accept_rate: the share of the pairs of one class that the threshold accepts.
        false_accept_rate: the share of the pairs of two classes that it accepts.
        fpr, tpr: float64 [R], the ROC curve from (0, 0) to (1, 1) for drawing, R at most 200.
    """

    pairs: int
    roc_auc: float
    equal_error_rate: float
    threshold: float
    accuracy: float
    ci95: float
    true_accept_rate: float
    false_accept_rate: float
    fpr: np.ndarray
    tpr: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """All of it in JSON's types, the curve as `roc: {fpr: [...], tpr: [...]}`."""
        return {
            "pairs": self.pairs,
            "roc_auc": self.roc_auc,
            "equal_error_rate": self.equal_error_rate,
            "threshold": self.threshold,
            "accuracy": self.accuracy,
            "ci95": self.ci95,
            "true_accept_rate": self.true_accept_rate,
            "false_accept_rate": self.false_accept_rate,
            "roc": {"fpr": self.fpr.tolist(), "tpr": self.tpr.tolist()},
        }


def draw_pairs(labels: np.ndarray, count: int, seed: int, purpose: str = "pairs") -> Pairs:
    """Pairs of images, half of one class and half of two; the odd one is of one class.

    No pair comes twice, in whichever order. For a pair of one class, the class is drawn uniformly from those with two
    images or more, then the pair in it; for a pair of two classes, the classes are drawn uniformly, then an image of
    each. Classes whose pairs are used up are no longer drawn. Pairs are in random order.

    Args:
        labels: [N], the images' classes.
        count: how many pairs, at least 2.
        seed: a non-negative integer; equal labels, count, seed and purpose give equal pairs.
        purpose: keeps draws from one seed apart.

    Raises:
        UserError: when there are not two classes, no class has two images, or there are not so many different pairs.
    """
    (pairs,) = draw_sets(labels, count, 1, seed, purpose)
    return pairs


def draw_sets(labels: np.ndarray, count: int, sets: int, seed: int, purpose: str = "pairs") -> list[Pairs]:
    """Sets of `count` pairs each, drawn as by `draw_pairs`; no pair is in two of them.

    Raises:
        UserError: as `draw_pairs`.
    """
    if count < 2:
        raise ValueError(f"count must be at least 2, one pair of each kind, not {count}")
    rows = list(group_by_class(np.arange(len(labels)), np.asarray(labels)).values())
    sizes = np.asarray([len(group) for group in rows], dtype=np.int64)
    _check_enough(sizes, count, sets)
    rng = generator(seed, "verification", purpose)
    of_one, total = (count + 1) // 2, sets * count  # pairs of one class in each set, pairs in all
    left, right = np.empty(total, dtype=np.int64), np.empty(total, dtype=np.int64)
    same = np.arange(total) < sets * of_one

    within = sizes * (sizes - 1) // 2  # pairs in each class
    place = 0
    for group, taken in _spread(within, int(same.sum()), rng):
        i, j = _unordered(rng.choice(int(within[group]), taken, replace=False))
        left[place : place + taken], right[place : place + taken] = rows[group][i], rows[group][j]
        place += taken

    first, second = _unordered(np.arange(len(rows) * (len(rows) - 1) // 2))  # every two classes
    between = sizes[first] * sizes[second]  # pairs between them
    for cell, taken in _spread(between, total - place, rng):
        a, b = first[cell], second[cell]
        i, j = np.divmod(rng.choice(int(between[cell]), taken, replace=False), sizes[b])
        left[place : place + taken], right[place : place + taken] = rows[a][i], rows[b][j]
        place += taken

    swapped = rng.random(total) < 0.5
    left, right = np.where(swapped, right, left), np.where(swapped, left, right)
    order = rng.permutation(total)
    kinds = [np.split(np.flatnonzero(same[order] == kind), sets) for kind in (True, False)]
    chosen = (order[np.sort(np.concatenate(places))] for places in zip(*kinds, strict=True))
    return [Pairs(left[places], right[places], same[places]) for places in chosen]


def _check_enough(sizes: np.ndarray, count: int, sets: int) -> None:
    """Raise unless classes of these sizes have so many sets of `count` pairs, half of each kind."""
    if len(sizes) < 2:
        raise UserError(f"verification needs images of two classes, not {len(sizes)}; add another class")
    of_one = int((sizes * (sizes - 1) // 2).sum())
    of_two = (int(sizes.sum()) ** 2 - int((sizes**2).sum())) // 2
    if not of_one:
        raise UserError("verification needs a class with two images, but every class has one; add images")
    most = min(2 * (of_one // sets), 2 * (of_two // sets) + 1)
    if count > most:
        wanted = f"{count} pairs" if sets == 1 else f"{sets} sets of {count} pairs"
        fewer = f"lower verification.pairs to {most} or less, or " if most > 1 else ""
        raise UserError(
            f"{sizes.sum()} images of {len(sizes)} classes have {of_one} pairs of one class and {of_two} of two, "
            f"too few for {wanted}, half of each; {fewer}add images"
        )


def _spread(room: np.ndarray, count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """`count` draws of cells, each uniform among those that are not full: (cell, how many draws) where there are any.

    Args:
        room: int64 [M], how many draws each cell can take, at least `count` together.
    """
    taken = np.zeros_like(room)
    while (missing := count - int(taken.sum())) > 0:
        # Drawing again what fell on a full cell is drawing among the others.
        open_cells = np.flatnonzero(taken < room)
        draws = np.bincount(rng.integers(len(open_cells), size=missing), minlength=len(open_cells))
        taken[open_cells] = np.minimum(taken[open_cells] + draws, room[open_cells])
    return [(int(cell), int(taken[cell])) for cell in np.flatnonzero(taken)]


def _unordered(number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The `number`-th pair (i, j) with i < j in the order (0, 1), (0, 2), (1, 2), (0, 3), ...; j up to 10^7."""
    j = ((1 + np.sqrt(1 + 8 * number.astype(np.float64))) / 2).astype(np.int64)
    return number - j * (j - 1) // 2, j


def choose_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    """The threshold t that is right most often on these pairs, where the answer is "same" from t on.

    It lies midway between neighbouring scores; where it is best to accept all pairs it is the lowest score, and where
    it is best to refuse all it is the least number above the highest. Of equally good thresholds it is the highest,
    which accepts the fewest pairs of two classes.

    Args:
        scores: [P], finite, higher for more alike, P at least 1. Not the pairs to be judged later.
        same: bool [P].

    Raises:
        ValueError: for no pairs, scores that are not finite, or not as many answers.
    """
    scores, same = _checked(scores, same)
    order = np.argsort(scores)
    scores, same = scores[order], same[order]
    # Right answers when the lowest k pairs are refused, for k = 0..P; a threshold cannot part equal scores.
    right = np.concatenate([[0], np.cumsum(~same)]) + same.sum() - np.concatenate([[0], np.cumsum(same)])
    possible = np.concatenate([[True], scores[1:] > scores[:-1], [True]])
    refused = len(scores) - int(np.argmax(np.where(possible, right, -1)[::-1]))
    if refused == 0:
        return float(scores[0])
    if refused == len(scores):
        return float(np.nextafter(scores[-1], np.inf))
    low, high = scores[refused - 1], scores[refused]
    middle = low / 2 + high / 2  # halved first: the sum of two large numbers would overflow
    return float(middle if low < middle < high else high)


def verify(scores: np.ndarray, same: np.ndarray, threshold: float) -> Verification:
    """Judge the scores of pairs.

    Args:
        scores: [P], finite, higher for more alike.
        same: bool [P], with pairs of both kinds.
        threshold: the answer is "same" from this score on; chosen on other pairs, by `choose_threshold`.

    Raises:
        ValueError: for pairs of one kind alone, scores that are not finite, or not as many answers.
    """
    from sklearn.metrics import roc_auc_score, roc_curve  # type: ignore[import-untyped]

    scores, same = _checked(scores, same)
    if same.all() or not same.any():
        raise ValueError("a ROC curve needs pairs of one class and pairs of two")
    fpr, tpr, _ = roc_curve(same, scores)
    drawn = np.unique(np.linspace(0, len(fpr) - 1, MOST_POINTS_OF_THE_CURVE).round().astype(int))
    accepted = scores >= threshold
    accuracy = float((accepted == same).mean())
    return Verification(
        pairs=len(scores),
        roc_auc=float(roc_auc_score(same, scores)),
        equal_error_rate=_equal_error_rate(fpr, tpr),
        threshold=float(threshold),
        accuracy=accuracy,
        ci95=float(1.96 * np.sqrt(accuracy * (1 - accuracy) / len(scores))),
        true_accept_rate=float(accepted[same].mean()),
        false_accept_rate=float(accepted[~same].mean()),
        fpr=fpr[drawn],
        tpr=tpr[drawn],
    )


def _checked(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, same = np.asarray(scores, dtype=np.float64), np.asarray(same, dtype=bool)
    if scores.ndim != 1 or scores.shape != same.shape or not len(scores):
        raise ValueError(f"scores and answers must be [P] both, not {scores.shape} and {same.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    return scores, same


def _equal_error_rate(fpr: np.ndarray, tpr: np.ndarray) -> float:
    """Where straight lines between the points of a ROC curve cross fpr = 1 - tpr."""
    gap = fpr - (1 - tpr)  # ascends from -1 to 1
    after = int(np.argmax(gap >= 0))
    part = -gap[after - 1] / (gap[after] - gap[after - 1])
    return float(fpr[after - 1] + part * (fpr[after] - fpr[after - 1]))
