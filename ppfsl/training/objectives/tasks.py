"""Training on tasks whose networks are adapted by gradient: one task's graph at a time."""

from collections.abc import Iterator

import numpy as np
import paddle

from ppfsl.config import TaskConfig
from ppfsl.data.episodes import EpisodeSampler
from ppfsl.methods.gradient_based import GradientBased, Task


class Tasks:
    """The gradients of a meta-batch, added up task by task.

    Args:
        config: way, shot and query of the tasks; tasks per batch.
        method: what learns.
        labels: int64 [N], of the base images.
        seed: a non-negative integer.

    Raises:
        UserError: when the base classes cannot serve such tasks.
    """

    def __init__(self, config: TaskConfig, method: GradientBased, labels: np.ndarray, seed: int) -> None:
        self.method = method
        self.head = method.layer
        self._config = config
        places = np.arange(len(labels))
        self._episodes = EpisodeSampler(places, labels, config.way, config.shot, config.query, seed, "objective")
        self._support = paddle.to_tensor(np.repeat(np.arange(config.way), config.shot))
        self._truth = paddle.to_tensor(np.repeat(np.arange(config.way), config.query))
        self.steps = max(len(labels) // (config.way * (config.shot + config.query) * config.episodes_per_batch), 1)

    def batches(self, epoch: int, steps: int) -> Iterator[np.ndarray]:
        """[tasks * way * (shot + query)]: task by task, the support set and then the queries."""
        count = self._config.episodes_per_batch
        for step in range(steps):
            episodes = self._episodes.take(count, start=(epoch * steps + step) * count)
            yield np.concatenate([part.ravel() for episode in episodes for part in (episode.support, episode.query)])

    def accumulate(
        self, images: paddle.Tensor, epoch: int, chance: np.random.Generator
    ) -> tuple[float, dict[str, float]]:
        """Add the gradients of a batch to the parameters'; the mean loss on the queries, and the accuracy.

        Args:
            images: pixels in 0..255, in the order of the batch.
            epoch: of the stage, from 0.
            chance: random numbers of this batch.
        """
        count, shots = self._config.episodes_per_batch, len(self._support)
        scores = []
        for part, own in zip(images.split(count), chance.spawn(count), strict=True):
            task = Task(part[:shots], self._support, part[shots:], self._truth, own)
            scores.append(self.method.learn(task, 1 / count, epoch))
        loss, accuracy = np.mean(scores, axis=0)
        return float(loss), {"accuracy": float(accuracy)}

    def complaint(self, means: dict[str, float]) -> str | None:
        """None."""
        return None
