"""Cosine similarity of pairs, in triples of images."""

from collections.abc import Iterator

import numpy as np
import paddle
import paddle.nn.functional as F

from ppfsl import losses
from ppfsl.config import CosineConfig
from ppfsl.randomness import generator
from ppfsl.training.objectives.base import LossAndTerms, classes_with


class Cosine:
    """Mean squared error between the cosine similarity of a pair and its 0/1 label.

    A batch is triples of anchor, positive (of the anchor's class) and negative (of another class); the pairs are
    anchor-positive and anchor-negative.
    """

    def __init__(self, config: CosineConfig, labels: np.ndarray, seed: int) -> None:
        self.head = self.method = None
        self._config, self._labels, self._seed = config, labels, seed
        self._rows_of = classes_with(2, labels, "cosine triples")
        self.steps = max(len(labels) // (3 * config.triples), 1)

    def batches(self, epoch: int, steps: int) -> Iterator[np.ndarray]:
        """[3 * triples]: all anchors, then all positives, then all negatives."""
        classes = np.asarray(sorted(self._rows_of))
        for step in range(steps):
            rng = generator(self._seed, "triples", epoch, step)
            anchors, positives, negatives = [], [], []
            for label in rng.choice(classes, self._config.triples):
                anchor, positive = rng.choice(self._rows_of[int(label)], 2, replace=False)
                other = rng.choice(classes[classes != label])
                anchors.append(anchor)
                positives.append(positive)
                negatives.append(rng.choice(self._rows_of[int(other)]))
            yield np.asarray(anchors + positives + negatives)

    def loss(self, projected: paddle.Tensor, labels: paddle.Tensor, chance: np.random.Generator) -> LossAndTerms:
        """The squared error and the mean similarity of either kind of pair."""
        anchor, positive, negative = F.normalize(projected, axis=-1).split(3)
        similar, different = (anchor * positive).sum(-1), (anchor * negative).sum(-1)
        same = paddle.concat([paddle.ones_like(similar), paddle.zeros_like(different)])
        loss = losses.cosine_pair_loss(paddle.concat([similar, different]), same)
        return loss, {"similarity_same": similar.mean().item(), "similarity_other": different.mean().item()}

    def complaint(self, means: dict[str, float]) -> str | None:
        """None."""
        return None
