"""How alike two images are: what verification compares with a threshold."""

from dataclasses import dataclass

import numpy as np
import paddle
from paddle import nn

from ppfsl.distances import normalized
from ppfsl.methods.siamese import PairHead

_BATCH = 1024  # pairs; the head of a large embedder merges many numbers a pair


@dataclass(frozen=True)
class Similarity:
    """The trained Siamese head's probability that two images are of one class, or the cosine of their embeddings.

    Attributes:
        head: None: the cosine.
    """

    head: PairHead | None = None

    @classmethod
    def of(cls, layer: nn.Layer | None) -> "Similarity":
        """By the head that a run has learned, if it has; other methods' layers compare no two images."""
        return cls(layer if isinstance(layer, PairHead) else None)

    @property
    def name(self) -> str:
        """In reports."""
        return "cosine similarity" if self.head is None else "probability of one class"

    def __call__(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Of each pair.

        Args:
            left, right: float32 [P, D], the embedder's output before normalisation.

        Returns:
            float64 [P], higher for more alike: -1..1 the cosine, 0..1 the probability.
        """
        if self.head is None:
            return (normalized(left).astype(np.float64) * normalized(right)).sum(-1)
        odds = [
            self.head(paddle.to_tensor(left[start : start + _BATCH]), paddle.to_tensor(right[start : start + _BATCH]))
            for start in range(0, len(left), _BATCH)
        ]
        # float32 would call many pairs equally certain.
        return 1 / (1 + np.exp(-np.concatenate([batch.numpy() for batch in odds]).astype(np.float64)))
