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

    The cosine classifier is that of Baseline++ (Chen et al. 2019) with a fixed scale. With a rotation loss (Gidaris et
    al. 2018, "Unsupervised Representation Learning by Predicting Image Rotations", beside the classes as in Su et al.
    2020) it has four more outputs: by how many quarters an image was turned.

    Attributes:
        turns: whether images are to be turned.
    """

    def __init__(self, config: CrossEntropyConfig, labels: np.ndarray, dim: int, seed: int) -> None:
        self._config, self._count, self._seed = config, len(labels), seed
        self._scale = config.scale or 16.0
        self._classes = int(labels.max()) + 1
        self.turns = config.rotation_weight > 0
        self.method = None
        outputs = self._classes + (4 if self.turns else 0)
        self.head: nn.Layer = nn.Linear(dim, outputs, bias_attr=None if config.classifier == "linear" else False)
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

    def loss(
        self,
        projected: paddle.Tensor,
        labels: paddle.Tensor,
        chance: np.random.Generator,
        quarters: paddle.Tensor | None = None,
    ) -> LossAndTerms:
        """Cross-entropy and the batch's accuracy; with the images' quarter turns, int64 [N], that of telling them."""
        if self._config.classifier == "linear":
            logits = self.head(projected)
        else:
            weight = F.normalize(self.head.weight, axis=0)
            logits = self._scale * (F.normalize(projected, axis=-1) @ weight)
        of_turns, logits = logits[:, self._classes :], logits[:, : self._classes]
        loss = losses.cross_entropy(logits, labels, self._config.label_smoothing)
        terms = {"accuracy": _accuracy(logits, labels)}
        if quarters is not None:
            loss = loss + self._config.rotation_weight * losses.cross_entropy(of_turns, quarters)
            terms["rotation_accuracy"] = _accuracy(of_turns, quarters)
        return loss, terms

    def complaint(self, means: dict[str, float]) -> str | None:
        """None."""
        return None


def _accuracy(logits: paddle.Tensor, labels: paddle.Tensor) -> float:
    return float((logits.argmax(-1) == labels).astype("float32").mean().item())
