"""Training on sequences of images whose labels come one step late (Santoro et al. 2016)."""

from collections.abc import Iterator

import numpy as np
import paddle

from ppfsl.config import MemoryAugmentedConfig
from ppfsl.data.episodes import EpisodeSampler
from ppfsl.errors import UserError
from ppfsl.methods.build import build_memory_augmented
from ppfsl.training.objectives.base import LossAndTerms

_SHOWN = (1, 2, 5, 10)  # instances whose accuracy the paper reports


class Sequences:
    """The loss of a memory-augmented network on all images of sequences.

    Args:
        config: classes and images of each in a sequence; sequences per batch; the network.
        labels: int64 [N], of the base images.
        dim: numbers in the embedder's output.
        seed: a non-negative integer.

    Raises:
        UserError: when the base classes cannot serve such sequences.
    """

    def __init__(self, config: MemoryAugmentedConfig, labels: np.ndarray, dim: int, seed: int) -> None:
        self.method = build_memory_augmented(config, dim, seed)
        self.head = self.method.layer
        self._config = config
        fewest = int(np.unique(labels, return_counts=True)[1].min())
        if fewest < config.instances:
            raise UserError(
                f"a base class has {fewest} image{'s' * (fewest != 1)}, but sequences show {config.instances} of each; "
                "lower objective.instances, or add images"
            )
        places = np.arange(len(labels))
        self._episodes = EpisodeSampler(places, labels, config.way, config.instances - 1, 1, seed, "objective")
        self.steps = max(len(labels) // (config.way * config.instances * config.episodes_per_batch), 1)

    def batches(self, epoch: int, steps: int) -> Iterator[np.ndarray]:
        """[sequences * way * instances]: sequence by sequence, class by class."""
        count = self._config.episodes_per_batch
        for step in range(steps):
            episodes = self._episodes.take(count, start=(epoch * steps + step) * count)
            yield np.concatenate(
                [np.concatenate([episode.support, episode.query], axis=1).ravel() for episode in episodes]
            )

    def loss(self, projected: paddle.Tensor, labels: paddle.Tensor, chance: np.random.Generator) -> LossAndTerms:
        """The mean cross-entropy, and the accuracy on the first, second, fifth and tenth image of a class."""
        way, instances, count = self._config.way, self._config.instances, self._config.episodes_per_batch
        order = np.stack([chance.permutation(way * instances) for _ in range(count)])
        truth = order // instances
        vectors = paddle.take_along_axis(
            projected.reshape([count, way * instances, -1]), paddle.to_tensor(order).unsqueeze(-1), axis=1
        )
        logits, _ = self.method.layer(vectors, paddle.to_tensor(truth))
        right = logits.detach().argmax(-1).numpy() == truth
        seen = instance_numbers(truth)
        terms = {f"accuracy_{number}": float(right[seen == number].mean()) for number in _SHOWN if number <= instances}
        return self.method.loss(logits, paddle.to_tensor(truth)), terms

    def complaint(self, means: dict[str, float]) -> str | None:
        """None."""
        return None


def instance_numbers(labels: np.ndarray) -> np.ndarray:
    """How many images of its class a sequence has shown so far, itself included: int64 [B, T] -> int64 [B, T]."""
    same = labels[:, :, None] == labels[:, None, :]
    return np.tril(same).sum(2)
