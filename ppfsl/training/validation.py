"""Few-shot accuracy on validation classes: what training chooses its best weights by."""

import numpy as np
import paddle

from ppfsl.backbones.embedder import Embedder
from ppfsl.config import ValidationConfig
from ppfsl.data.episodes import EpisodeSampler, group_by_class
from ppfsl.data.table import ImageTable
from ppfsl.distances import normalized
from ppfsl.distributed import ALONE, World
from ppfsl.errors import UserError
from ppfsl.evaluation import Gather, evaluate
from ppfsl.inference.cache import NO_CACHE, EmbeddingCache
from ppfsl.inference.engine import embed, pixels_of
from ppfsl.methods.base import Learner, Method
from ppfsl.methods.class_mean import ClassMean
from ppfsl.randomness import generator


class Validation:
    """A fixed set of episodes on validation classes.

    Args:
        table: where the images are.
        rows: the validation part's images; of each class a fixed choice is used.
        config: way, shot, query, episodes.
        seed: of the choice and the episodes.
        world: the processes that share the work.
        cache: keeps what a frozen backbone makes of the images.

    Raises:
        UserError: when the rows cannot serve such episodes.
    """

    def __init__(
        self,
        table: ImageTable,
        rows: np.ndarray,
        config: ValidationConfig,
        seed: int,
        world: World = ALONE,
        cache: EmbeddingCache = NO_CACHE,
    ) -> None:
        self.name = f"accuracy_{config.way}way_{config.shot}shot"
        self.every = config.every
        self._table, self._config, self._world, self._cache = table, config, world, cache
        groups = group_by_class(rows, table.labels[rows])
        chosen = [
            generator(seed, "validation images", label).permutation(images)[: config.images_per_class]
            for label, images in groups.items()
        ]
        self._rows = np.sort(np.concatenate(chosen))
        self._labels = table.labels[self._rows]
        places = np.arange(len(self._rows))
        way, shot, query = config.way, config.shot, config.query
        try:
            sampler = EpisodeSampler(
                places, self._labels, way, shot, query, seed, "validation", names=table.class_names
            )
        except UserError as error:
            raise UserError(f"validation: {error}") from None
        self._episodes = list(sampler.take(config.episodes))
        self._features: np.ndarray | None = None

    def score(self, embedder: Embedder, frozen_backbone: bool, method: Learner | None = None) -> float:
        """Mean accuracy over the episodes, 0..1.

        Args:
            embedder: left as it was.
            frozen_backbone: whether the backbone is the same at every call, so that its output is computed once.
            method: what labels the queries; its layer is left in evaluation mode. None: class means.
        """
        if method is not None and method.layer is not None:
            method.layer.eval()
        judge: Method = method or ClassMean()
        gather = self._gather(judge, embedder, frozen_backbone)
        with paddle.no_grad():
            return evaluate(judge, gather, self._episodes, np.unique(self._labels), world=self._world).accuracy

    def _gather(self, judge: Method, embedder: Embedder, frozen_backbone: bool) -> Gather:
        """How the method gets at what it works on."""
        if not frozen_backbone:
            self._features = None  # of a backbone that is learning something else now
        if judge.inputs == "image":
            size = embedder.architecture.image_size
            return lambda places: pixels_of(self._table, self._rows[places], size)
        if frozen_backbone:
            if self._features is None:
                self._features = self._cache.features(embedder, self._table, self._rows, world=self._world)
            with paddle.no_grad():
                projected = embedder.project(paddle.to_tensor(self._features)).numpy()
        else:
            projected = embed(embedder, self._table.images, self._rows, "projected", world=self._world)
        vectors = normalized(projected) if judge.inputs == "embedding" else projected
        return vectors.__getitem__
