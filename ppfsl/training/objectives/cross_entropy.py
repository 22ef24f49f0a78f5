"""Cross-entropy over the base classes."""

from collections.abc import Iterator

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from ppfsl import losses
from ppfsl.backbones.embedder import initialize
from ppfsl.config import CrossEntropyConfig
from ppfsl.randomness import generator
from ppfsl.training.objectives.base import LossAndTerms


class CrossEntropy:
    """Softmax cross-entropy over the base classes, with a linear or a cosine classifier.

    The cosine classifier is that of Baseline++ (Chen et al. 2019) with a fixed scale.
    """

    def __init__(self, config: CrossEntropyConfig, labels: np.ndarray, dim: int, seed: int) -> None:
        self._config, self._count, self._seed = config, len(labels), seed
        self._scale = config.scale or 16.0
        classes = int(labels.max()) + 1
        self.method = None
        self.head: nn.Layer = nn.Linear(dim, classes, bias_attr=None if config.classifier == "linear" else False)
        initialize(self.head, seed)
        self.steps = max(self._count // config.batch_size, 1)

    def batches(self, epoch: int, steps: int) -> Iterator[np.ndarray]:
        """Shuffled passes over the images, one after another."""
        size = min(self._config.batch_size, self._count)
        per_pass = self._count // size
        for step in range(steps):
            number, place = divmod(step, per_pass)
            if place == 0:
                order = generator(self._seed, "order", epoch, number).permutation(self._count)
            yield order[place * size : (place + 1) * size]

    def loss(self, projected: paddle.Tensor, labels: paddle.Tensor, chance: np.random.Generator) -> LossAndTerms:
        """Cross-entropy and the batch's accuracy."""
        if self._config.classifier == "linear":
            logits = self.head(projected)
        else:
            weight = F.normalize(self.head.weight, axis=0)
            logits = self._scale * (F.normalize(projected, axis=-1) @ weight)
        loss = losses.cross_entropy(logits, labels, self._config.label_smoothing)
        accuracy = (logits.argmax(-1) == labels).astype("float32").mean().item()
        return loss, {"accuracy": accuracy}

    def complaint(self, means: dict[str, float]) -> str | None:
        """None."""
        return None
