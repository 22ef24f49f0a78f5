"""When to say "none of these": a threshold on the greatest cosine between a picture and the class means.

A picture of an unknown class is less like the nearest class mean than a picture of a known one. Where the line is
depends on the embedder, the number of classes and the pictures per class, so it is drawn where these are known:
on validation classes, in episodes of the same size; else on the support set, each class playing the unknown in turn.
"""

import numpy as np

from ppfsl.classifier.model import Rejection
from ppfsl.data.episodes import group_by_class
from ppfsl.distances import normalized
from ppfsl.randomness import generator
from ppfsl.verification import choose_threshold

EPISODES, QUERIES = 100, 10
FEW = 6
"""Known pictures of a support set: a threshold by fewer is called a guess."""


def by_validation_classes(
    embeddings: np.ndarray, labels: np.ndarray, way: int, shot: int, chosen_on: str, seed: int = 0
) -> Rejection | None:
    """A threshold from episodes on other classes: half known, half unknown.

    Args:
        embeddings: float32 [N, D], of length one.
        labels: int64 [N].
        way, shot: of the support set that the threshold is for; of fewer classes, half play the known.
        chosen_on: recorded.
        seed: of the episodes.

    Returns:
        None when there are not four classes of `shot` + 1 images, or the best threshold keeps none of the known.
    """
    groups = {label: rows for label, rows in group_by_class(np.arange(len(labels)), labels).items() if len(rows) > shot}
    if len(groups) < 4:
        return None
    known_classes = min(way, len(groups) // 2)
    known: list[np.ndarray] = []
    unknown: list[np.ndarray] = []
    for number in range(EPISODES):
        rng = generator(seed, "rejection", number)
        classes = rng.permutation(list(groups))
        drawn = [rng.permutation(groups[label])[: shot + QUERIES] for label in classes[: 2 * known_classes]]
        means = normalized(np.stack([embeddings[rows[:shot]].mean(0) for rows in drawn[:known_classes]]))
        for place, rows in enumerate(drawn):
            scores = (embeddings[rows[shot:]] @ means.T).max(1)
            (known if place < known_classes else unknown).append(scores)
    return _chosen(np.concatenate(known), np.concatenate(unknown), chosen_on)


def by_support_set(embeddings: np.ndarray, labels: np.ndarray) -> Rejection | None:
    """A threshold from the support set alone.

    Known: each picture against the class means without itself. Unknown: each picture against the other classes' means.

    Args:
        embeddings: float32 [S, D], of length one.
        labels: int64 [S], 0..K - 1.

    Returns:
        None when no class has two pictures, or there are not three classes (two that know nothing of each other are no
        sample of unlike things), or the best threshold keeps none of the known.
    """
    known, unknown = leave_one_out(embeddings, labels)
    if labels.max() < 2 or not len(known):
        return None
    guess = ", of few pictures and little more than a guess" if len(known) < FEW else ""
    return _chosen(known.max(1), unknown, f"the support set, each class in turn taken for unknown{guess}")


def leave_one_out(embeddings: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How like the class means each support picture is, itself left out.

    Returns:
        float32 [M, K], cosines to all class means, of the pictures of classes that have two or more; and float32 [S],
        the greatest cosine to the mean of a class that is not its own.
    """
    one_hot = np.eye(int(labels.max()) + 1, dtype=np.float32)[labels]
    sums, counts = one_hot.T @ embeddings, one_hot.sum(0)
    cosines = embeddings @ normalized(sums).T
    unknown = np.where(one_hot > 0, -np.inf, cosines).max(1)
    several = counts[labels] > 1
    own = normalized(sums[labels[several]] - embeddings[several])
    known = cosines[several]
    known[np.arange(len(known)), labels[several]] = (own * embeddings[several]).sum(1)
    return known, unknown.astype(np.float32)


def _chosen(known: np.ndarray, unknown: np.ndarray, chosen_on: str) -> Rejection | None:
    """The threshold; None where the best one takes all of the known for unknown."""
    scores = np.concatenate([known, unknown])
    threshold = choose_threshold(scores, np.arange(len(scores)) < len(known))
    kept, rejected = float((known >= threshold).mean()), float((unknown < threshold).mean())
    return Rejection(float(threshold), kept, rejected, chosen_on) if kept else None
