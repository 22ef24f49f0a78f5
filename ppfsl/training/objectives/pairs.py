"""Objectives on balanced pairs of images: Siamese networks and the contrastive loss."""

import numpy as np
import paddle
import paddle.nn.functional as F

from ppfsl import losses
from ppfsl.config import ContrastiveConfig, SiameseConfig
from ppfsl.methods.build import build_siamese
from ppfsl.training.objectives.base import ClassBatches, LossAndTerms


class Siamese:
    """Binary cross-entropy on whether a pair's images are of one class (Koch, Zemel and Salakhutdinov 2015).

    The pairs of a batch are all pairs of its images that share a class, and as many that do not, by chance.
    """

    def __init__(self, config: SiameseConfig, labels: np.ndarray, dim: int, seed: int) -> None:
        self.method = build_siamese(config, dim, seed)
        self.head = self.method.layer
        self._batches = ClassBatches(config, labels, seed, "Siamese batches")
        self.steps, self.batches = self._batches.steps, self._batches.batches

    def loss(self, projected: paddle.Tensor, labels: paddle.Tensor, chance: np.random.Generator) -> LossAndTerms:
        """The cross-entropy, and the share of pairs on the right side of even odds."""
        left, right, same = balanced_pairs(labels.numpy(), chance)
        log_odds = self.head(projected[paddle.to_tensor(left)], projected[paddle.to_tensor(right)])
        target = paddle.to_tensor(same.astype(np.float32))
        loss = F.binary_cross_entropy_with_logits(log_odds, target)
        return loss, {"pair_accuracy": float(((log_odds.numpy() > 0) == same).mean())}

    def complaint(self, means: dict[str, float]) -> str | None:
        """That pairs are not being told apart, when they are not."""
        if means["pair_accuracy"] < 0.52:
            return (
                f"{100 * means['pair_accuracy']:.0f} % of the pairs are told apart, no more than by guessing; "
                "try a higher or lower learning rate, or cross-entropy first"
            )
        return None


class Contrastive:
    """The contrastive loss of Hadsell, Chopra and LeCun 2006 on Euclidean distances of embeddings of length one.

    Pairs as for `Siamese`.
    """

    def __init__(self, config: ContrastiveConfig, labels: np.ndarray, seed: int) -> None:
        self.head = self.method = None
        self._margin = config.margin
        self._batches = ClassBatches(config, labels, seed, "contrastive batches")
        self.steps, self.batches = self._batches.steps, self._batches.batches

    def loss(self, projected: paddle.Tensor, labels: paddle.Tensor, chance: np.random.Generator) -> LossAndTerms:
        """The loss and the mean distance of either kind of pair."""
        left, right, same = balanced_pairs(labels.numpy(), chance)
        embeddings = F.normalize(projected, axis=-1)
        difference = embeddings[paddle.to_tensor(left)] - embeddings[paddle.to_tensor(right)]
        # The square root's slope at 0 is infinite: two equal images would make every gradient NaN.
        distances = ((difference * difference).sum(-1) + 1e-12).sqrt()
        loss = losses.contrastive_loss(distances, paddle.to_tensor(same), self._margin)
        values = distances.numpy()
        return loss, {"distance_same": float(values[same].mean()), "distance_other": float(values[~same].mean())}

    def complaint(self, means: dict[str, float]) -> str | None:
        """That the embedder has collapsed to one point, when it has."""
        if means["distance_other"] < 0.02 * self._margin:
            return (
                "the embeddings of all classes have collapsed to one point; "
                "try a lower learning rate, or cross-entropy first"
            )
        return None


def balanced_pairs(labels: np.ndarray, chance: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of images that share a class, and as many that do not, or all of these if they are fewer.

    Args:
        labels: int64 [N].
        chance: chooses among the pairs of two classes.

    Returns:
        Positions of the left and of the right images, int64 [P], and whether they share a class, bool [P]. Which image
        of a pair is left is by chance, too.
    """
    first, second = np.triu_indices(len(labels), 1)
    equal = labels[first] == labels[second]
    same, different = np.flatnonzero(equal), np.flatnonzero(~equal)
    chosen = np.sort(chance.choice(different, min(len(same), len(different)), replace=False))
    pairs = np.concatenate([same, chosen])
    turned = chance.random(len(pairs)) < 0.5
    left, right = np.where(turned, second[pairs], first[pairs]), np.where(turned, first[pairs], second[pairs])
    return left, right, equal[pairs]
