"""Losses as pure functions of tensors; each returns a scalar that still has a graph, even for an empty batch."""

from dataclasses import dataclass
from typing import Literal

import paddle
import paddle.nn.functional as F

from ppfsl.distances import squared_euclidean

Mining = Literal["random", "batch_all", "batch_hard", "semi_hard"]

_FEW = 64  # classes


def log_softmax(logits: paddle.Tensor) -> paddle.Tensor:
    """The logarithms of the softmax over the last axis: [..., K] -> [..., K].

    Of many classes by other means than Paddle's operator, whose time on a CPU grows with the square of their number
    (3.3.1: 370 ms for 256 x 4112, where this takes 9).
    """
    if logits.shape[-1] <= _FEW:
        return F.log_softmax(logits, axis=-1)
    shifted = logits - logits.detach().max(-1, keepdim=True)
    return shifted - shifted.exp().sum(-1, keepdim=True).log()


def cross_entropy(logits: paddle.Tensor, labels: paddle.Tensor, label_smoothing: float = 0.0) -> paddle.Tensor:
    """Mean softmax cross-entropy.

    Args:
        logits: [..., K].
        labels: int64 [...], 0..K-1.
        label_smoothing: share of the target's mass that is spread evenly over all K classes (Szegedy et al. 2016).
    """
    log_probabilities = log_softmax(logits)
    right = paddle.take_along_axis(log_probabilities, labels.unsqueeze(-1), -1).squeeze(-1)
    loss = -right
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * log_probabilities.mean(-1)
    return loss.mean()


def entropy(logits: paddle.Tensor) -> paddle.Tensor:
    """Mean Shannon entropy of the softmax distributions, in nats: [..., K] -> scalar in 0..ln K."""
    log_probabilities = log_softmax(logits)
    return -(log_probabilities.exp() * log_probabilities).sum(-1).mean()


def cosine_pair_loss(similarity: paddle.Tensor, same: paddle.Tensor) -> paddle.Tensor:
    """Mean squared error between the cosine similarity of pairs and their 0/1 label.

    Args:
        similarity: [P], -1..1.
        same: [P], 1 for a pair of one class, 0 for a pair of two.
    """
    if not len(similarity):
        return similarity.sum()
    return F.mse_loss(similarity, same.astype(similarity.dtype))


def contrastive_loss(distances: paddle.Tensor, same: paddle.Tensor, margin: float) -> paddle.Tensor:
    """The mean over pairs of d^2 / 2 for one class and max(0, margin - d)^2 / 2 for two (Hadsell, Chopra, LeCun 2006).

    Args:
        distances: [P], Euclidean, not squared.
        same: [P], 1 for a pair of one class, 0 for a pair of two.
        margin: beyond which a pair of two classes is far enough apart.
    """
    if not len(distances):
        return distances.sum()
    same = same.astype(distances.dtype)
    apart = F.relu(margin - distances)
    return ((same * distances**2 + (1 - same) * apart**2) / 2).mean()


def squared_distances(embeddings: paddle.Tensor) -> paddle.Tensor:
    """Squared Euclidean distances of all pairs: [N, D] -> [N, N], never negative."""
    return squared_euclidean(embeddings, embeddings)


@dataclass(frozen=True)
class TripletLoss:
    """A triplet loss and what shows whether it still learns.

    Attributes:
        loss: scalar.
        active: share of the mined triplets with a loss above zero, 0..1; 0 when there are none.
        triplets: how many were mined.
    """

    loss: paddle.Tensor
    active: float
    triplets: int


def triplet_loss(
    embeddings: paddle.Tensor, labels: paddle.Tensor, margin: float, mining: Mining, chance: paddle.Tensor | None = None
) -> TripletLoss:
    """max(0, d(a, p) + margin - d(a, n)) on squared Euclidean distances (Schroff, Kalenichenko and Philbin 2015).

    Args:
        embeddings: [N, D].
        labels: int64 [N].
        margin: in units of squared distance; embeddings of length one are at most 4 apart.
        mining: which triplets count.
            random: per anchor one positive and one negative by chance, the mean over anchors;
            batch_all: every triplet, the mean over the active ones (Hermans, Beyer and Leibe 2017);
            batch_hard: per anchor the farthest positive and the nearest negative (the same paper);
            semi_hard: per anchor-positive pair the nearest negative that is farther than the positive, where there is
            none the farthest negative (Schroff et al.), the mean over pairs.
        chance: random only: float32 [2, N, N], uniform in 0..1; the greatest number among the candidates picks them.

    Returns:
        The loss, zero when no class has two images or there is one class only.
    """
    distances = squared_distances(embeddings)
    same = labels.unsqueeze(0) == labels.unsqueeze(1)
    positive = same & ~paddle.eye(len(labels)).astype("bool")
    negative = ~same
    if mining in ("batch_all", "semi_hard"):
        losses = _of_pairs(distances, positive, negative, margin, mining)
        return _summary(losses, distances, over_active=mining == "batch_all")
    if mining == "random":
        if chance is None:
            raise ValueError("random mining needs random numbers")
        p = paddle.where(positive, chance[0], -1.0).argmax(1)
        n = paddle.where(negative, chance[1], -1.0).argmax(1)
    else:
        p = paddle.where(positive, distances, -1.0).argmax(1)
        n = paddle.where(negative, distances, float("inf")).argmin(1)
    to_positive = paddle.take_along_axis(distances, p.unsqueeze(1), 1).squeeze(1)
    to_negative = paddle.take_along_axis(distances, n.unsqueeze(1), 1).squeeze(1)
    complete = positive.any(1) & negative.any(1)
    return _summary(F.relu(to_positive + margin - to_negative).masked_select(complete), distances)


def _of_pairs(
    distances: paddle.Tensor, positive: paddle.Tensor, negative: paddle.Tensor, margin: float, mining: Mining
) -> paddle.Tensor:
    """The losses of all anchor-positive pairs with every negative, or each with its semi-hard one: [triplets]."""
    pairs = (positive & negative.any(1).unsqueeze(1)).nonzero()
    anchors, places = pairs[:, 0], pairs[:, 0] * distances.shape[1] + pairs[:, 1]
    if not len(pairs):
        return distances.flatten()[:0]
    to_positive = distances.flatten()[places].unsqueeze(1)  # [pairs, 1]
    to_others, apart = distances[anchors], negative[anchors]  # [pairs, N]
    if mining == "batch_all":
        return F.relu(to_positive + margin - to_others).masked_select(apart)
    with paddle.no_grad():
        farther = apart & (to_others > to_positive)
        nearest_farther = paddle.where(farther, to_others, float("inf")).argmin(1)
        farthest = paddle.where(apart, to_others, -1.0).argmax(1)
        chosen = paddle.where(farther.any(1), nearest_farther, farthest).unsqueeze(1)
    return F.relu(to_positive + margin - paddle.take_along_axis(to_others, chosen, 1)).squeeze(1)


def _summary(losses: paddle.Tensor, distances: paddle.Tensor, over_active: bool = False) -> TripletLoss:
    count = losses.shape[0]
    if count == 0:
        return TripletLoss(distances.sum() * 0, 0.0, 0)
    active = int((losses > 0).sum().item())
    divisor = max(active, 1) if over_active else count
    return TripletLoss(losses.sum() / divisor, active / count, count)
