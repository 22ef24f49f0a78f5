"""Pretraining objectives: which images make a batch, and what the loss is."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from ppfsl import losses
from ppfsl.backbones.embedder import initialize
from ppfsl.config import CosineConfig, CrossEntropyConfig, TripletConfig
from ppfsl.data.episodes import group_by_class
from ppfsl.errors import UserError
from ppfsl.randomness import generator

LossAndTerms = tuple[paddle.Tensor, dict[str, float]]


class Objective(Protocol):
    """One way of training the embedder.

    Attributes:
        head: layers of the objective's own, trained with the embedder and then dropped; None: it has none.
        steps: batches that show about every image once.
    """

    head: nn.Layer | None
    steps: int

    def batches(self, epoch: int, steps: int) -> Iterator[np.ndarray]:
        """Positions of each batch's images among the base images: a pure function of the seed and the epoch."""
        ...

    def loss(self, projected: paddle.Tensor, labels: paddle.Tensor, chance: np.random.Generator) -> LossAndTerms:
        """The loss of a batch and its parts as plain numbers.

        Args:
            projected: [N, D], the embedder's output before its normalisation.
            labels: int64 [N], 0..classes - 1.
            chance: random numbers of this batch.
        """
        ...

    def complaint(self, means: dict[str, float]) -> str | None:
        """What the means of an epoch's loss and terms say is going wrong, or None."""
        ...


class CrossEntropy:
    """Softmax cross-entropy over the base classes, with a linear or a cosine classifier.

    The cosine classifier is that of Baseline++ (Chen et al. 2019) with a fixed scale.
    """

    def __init__(self, config: CrossEntropyConfig, labels: np.ndarray, dim: int, seed: int) -> None:
        self._config, self._count, self._seed = config, len(labels), seed
        self._scale = config.scale or 16.0
        classes = int(labels.max()) + 1
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


class Cosine:
    """Mean squared error between the cosine similarity of a pair and its 0/1 label.

    A batch is triples of anchor, positive (of the anchor's class) and negative (of another class); the pairs are
    anchor-positive and anchor-negative.
    """

    def __init__(self, config: CosineConfig, labels: np.ndarray, seed: int) -> None:
        self.head: nn.Layer | None = None
        self._config, self._labels, self._seed = config, labels, seed
        self._rows_of = _at_least(2, labels, "cosine triples")
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


class Triplet:
    """The triplet loss on batches of `classes_per_batch` classes with `images_per_class` images each."""

    def __init__(self, config: TripletConfig, labels: np.ndarray, seed: int) -> None:
        self.head: nn.Layer | None = None
        self._config, self._seed = config, seed
        self._rows_of = _at_least(config.images_per_class, labels, "triplet batches")
        if len(self._rows_of) < config.classes_per_batch:
            raise UserError(
                f"classes_per_batch is {config.classes_per_batch}, but only {len(self._rows_of)} base classes have "
                f"{config.images_per_class} images; lower it"
            )
        self.steps = max(len(labels) // (config.classes_per_batch * config.images_per_class), 1)

    def batches(self, epoch: int, steps: int) -> Iterator[np.ndarray]:
        """[classes_per_batch * images_per_class], class by class."""
        classes = np.asarray(sorted(self._rows_of))
        for step in range(steps):
            rng = generator(self._seed, "classes", epoch, step)
            chosen = rng.choice(classes, self._config.classes_per_batch, replace=False)
            images = (
                rng.choice(self._rows_of[int(label)], self._config.images_per_class, replace=False) for label in chosen
            )
            yield np.concatenate(list(images))

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


def build_objective(
    config: CrossEntropyConfig | CosineConfig | TripletConfig, labels: np.ndarray, dim: int, seed: int
) -> Objective:
    """The objective of a configuration.

    Args:
        config: which one.
        labels: int64 [N], 0..classes - 1, of the base images.
        dim: dimension of the embedder's output.
        seed: a non-negative integer, the stage's own.

    Raises:
        UserError: when the base classes cannot fill its batches.
    """
    classes = len(np.unique(labels))
    if classes < 2:
        raise UserError(f"training needs two base classes, but there are {classes}; change data.split or split_ratio")
    if isinstance(config, CrossEntropyConfig):
        return CrossEntropy(config, labels, dim, seed)
    if isinstance(config, CosineConfig):
        return Cosine(config, labels, seed)
    return Triplet(config, labels, seed)


def _at_least(images: int, labels: np.ndarray, what: str) -> dict[int, np.ndarray]:
    """The classes with so many images: label -> positions.

    Raises:
        UserError: when fewer than two classes have them.
    """
    groups = group_by_class(np.arange(len(labels)), labels)
    large = {label: rows for label, rows in groups.items() if len(rows) >= images}
    if len(large) < 2:
        raise UserError(f"{what} need two base classes with {images} images or more; add images or classes")
    return large
