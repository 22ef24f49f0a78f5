"""The interface of all objectives, and the classes of their batches."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import paddle
from paddle import nn

from ppfsl.config.objectives import ClassesPerBatch, Episodes, MemoryAugmentedConfig
from ppfsl.data.episodes import group_by_class
from ppfsl.errors import UserError
from ppfsl.methods.base import Learner
from ppfsl.randomness import generator

LossAndTerms = tuple[paddle.Tensor, dict[str, float]]


class Objective(Protocol):
    """One way of training the embedder: by a loss of what it makes of a batch, or by gradients that it adds itself."""

    @property
    def head(self) -> nn.Layer | None:
        """Layers of the objective's own, trained with the embedder; None: it has none."""
        ...

    @property
    def method(self) -> Learner | None:
        """The few-shot method that is being trained, which validation scores and whose layer checkpoints keep.

        None: validation scores class means, and the head is dropped when training ends.
        """
        ...

    @property
    def steps(self) -> int:
        """Batches that show about every image once."""
        ...

    def batches(self, epoch: int, steps: int) -> Iterator[np.ndarray]:
        """Positions of each batch's images among the base images: a pure function of seed, epoch and steps."""
        ...

    def complaint(self, means: dict[str, float]) -> str | None:
        """What the means of an epoch's loss and terms say is going wrong, or None."""
        ...


class ByLoss(Objective, Protocol):
    """By a loss."""

    def loss(self, projected: paddle.Tensor, labels: paddle.Tensor, chance: np.random.Generator) -> LossAndTerms:
        """The loss of a batch and its parts as plain numbers.

        Args:
            projected: [N, D], in the order of the batch, the embedder's output before its normalisation.
            labels: int64 [N], 0..classes - 1.
            chance: random numbers of this batch.
        """
        ...


def batch_classes(config: Episodes | MemoryAugmentedConfig) -> np.ndarray:
    """Which class each image of a batch of tasks is of: int64 [N], the classes of all its tasks numbered through."""
    if isinstance(config, MemoryAugmentedConfig):
        return np.repeat(np.arange(config.episodes_per_batch * config.way), config.instances)
    classes = np.arange(config.way)
    task = np.concatenate([np.repeat(classes, config.shot), np.repeat(classes, config.query)])
    return (config.way * np.arange(config.episodes_per_batch)[:, None] + task).ravel()


class ClassBatches:
    """Batches of `classes_per_batch` classes with `images_per_class` images each.

    Args:
        config: how many of each.
        labels: int64 [N], of the base images.
        seed: of the choice.
        what: the batches' name, for the error.

    Raises:
        UserError: when too few classes have so many images.
    """

    def __init__(self, config: ClassesPerBatch, labels: np.ndarray, seed: int, what: str) -> None:
        self._config, self._seed = config, seed
        self._rows_of = classes_with(config.images_per_class, labels, what)
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


def classes_with(images: int, labels: np.ndarray, what: str) -> dict[int, np.ndarray]:
    """The classes with so many images: label -> positions.

    Raises:
        UserError: when fewer than two classes have them.
    """
    groups = group_by_class(np.arange(len(labels)), labels)
    large = {label: rows for label, rows in groups.items() if len(rows) >= images}
    if len(large) < 2:
        raise UserError(f"{what} need two base classes with {images} images or more; add images or classes")
    return large
