"""Training on episodes: the loss of a few-shot method on the queries of episodes of base classes."""

from collections.abc import Iterator

import numpy as np
import paddle
import paddle.nn.functional as F

from ppfsl.config import EpisodicConfig
from ppfsl.data.episodes import EpisodeSampler
from ppfsl.methods.base import Support
from ppfsl.methods.build import build_learner
from ppfsl.training.objectives.base import LossAndTerms


class Episodic:
    """A method's own loss on episodes, with the very classifier that evaluation uses.

    Args:
        config: the method; way, shot and query of the episodes; episodes per batch.
        labels: int64 [N], of the base images.
        shape: (channels, height, width) of the embedder's output before normalisation.
        seed: a non-negative integer.

    Raises:
        UserError: when the base classes cannot serve such episodes.
    """

    def __init__(self, config: EpisodicConfig, labels: np.ndarray, shape: tuple[int, int, int], seed: int) -> None:
        self.method = build_learner(config, shape, seed)
        self.head = self.method.layer
        self._config = config
        places = np.arange(len(labels))
        self._episodes = EpisodeSampler(places, labels, config.way, config.shot, config.query, seed, "objective")
        self._support = paddle.to_tensor(np.repeat(np.arange(config.way), config.shot))
        self._truth = paddle.to_tensor(np.repeat(np.arange(config.way), config.query))
        images = config.way * (config.shot + config.query) * config.episodes_per_batch
        self.steps = max(len(labels) // images, 1)

    def batches(self, epoch: int, steps: int) -> Iterator[np.ndarray]:
        """[episodes * way * (shot + query)]: episode by episode, the support set and then the queries."""
        count = self._config.episodes_per_batch
        for step in range(steps):
            episodes = self._episodes.take(count, start=(epoch * steps + step) * count)
            yield np.concatenate([part.ravel() for episode in episodes for part in (episode.support, episode.query)])

    def loss(self, projected: paddle.Tensor, labels: paddle.Tensor, chance: np.random.Generator) -> LossAndTerms:
        """The method's loss and the share of queries that it labels right."""
        config, method = self._config, self.method
        vectors = F.normalize(projected, axis=-1) if method.inputs == "embedding" else projected
        vectors = vectors.reshape([config.episodes_per_batch, -1, projected.shape[-1]])
        shots, queries = vectors.split([len(self._support), len(self._truth)], axis=1)
        support = Support(shots, self._support, config.way, np.arange(config.episodes_per_batch))
        logits = method.adapt(support)(queries)
        truth = self._truth.unsqueeze(0).expand([config.episodes_per_batch, -1])
        accuracy = (logits.argmax(-1) == truth).astype("float32").mean().item()
        return method.loss(logits, truth), {"accuracy": accuracy}

    def complaint(self, means: dict[str, float]) -> str | None:
        """None."""
        return None
