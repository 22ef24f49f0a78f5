"""The triplet loss."""

import numpy as np
import paddle
import paddle.nn.functional as F

from ppfsl import losses
from ppfsl.config import TripletConfig
from ppfsl.training.objectives.base import ClassBatches, LossAndTerms


class Triplet:
    """The triplet loss on batches of `classes_per_batch` classes with `images_per_class` images each."""

    def __init__(self, config: TripletConfig, labels: np.ndarray, seed: int) -> None:
        self.head = self.method = None
        self._config = config
        self._batches = ClassBatches(config, labels, seed, "triplet batches")
        self.steps, self.batches = self._batches.steps, self._batches.batches

    def loss(self, projected: paddle.Tensor, labels: paddle.Tensor, chance: np.random.Generator) -> LossAndTerms:
        """The triplet loss and the share of active triplets; a collapsed embedder has its loss at the margin."""
        numbers = paddle.to_tensor(chance.random((2, len(labels), len(labels)), dtype=np.float32))
        result = losses.triplet_loss(
            F.normalize(projected, axis=-1), labels, self._config.margin, self._config.mining, numbers
        )
        return result.loss, {"active_triplets": result.active}

    def complaint(self, means: dict[str, float]) -> str | None:
        """That the embedder has collapsed to one point, when it has."""
        if means["active_triplets"] > 0.99 and abs(means["loss"] / self._config.margin - 1) < 0.02:
            return (
                f"the triplet loss sits at the margin ({self._config.margin}): all embeddings have collapsed to one "
                "point; try mining: semi_hard or batch_all, a lower learning rate, or cross-entropy first"
            )
        return None
