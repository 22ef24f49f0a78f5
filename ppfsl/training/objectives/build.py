"""From a stage's `objective` keys to the objective."""

import numpy as np

from ppfsl import config as keys
from ppfsl.autodiff import require_second_order
from ppfsl.backbones.embedder import Embedder
from ppfsl.errors import UserError
from ppfsl.methods.build import build_task_learner
from ppfsl.training.objectives.base import ByLoss
from ppfsl.training.objectives.cosine import Cosine
from ppfsl.training.objectives.cross_entropy import CrossEntropy
from ppfsl.training.objectives.episodic import Episodic
from ppfsl.training.objectives.pairs import Contrastive, Siamese
from ppfsl.training.objectives.sequences import Sequences
from ppfsl.training.objectives.tasks import Tasks
from ppfsl.training.objectives.triplet import Triplet


def build_objective(config: keys.Objective, labels: np.ndarray, embedder: Embedder, seed: int) -> ByLoss | Tasks:
    """The objective of a configuration.

    Args:
        config: which one.
        labels: int64 [N], 0..classes - 1, of the base images.
        embedder: what is to be trained.
        seed: a non-negative integer, the stage's own.

    Raises:
        UserError: when the base classes cannot fill its batches, or when it needs second derivatives that are wrong in
            this Paddle.
    """
    classes = len(np.unique(labels))
    if classes < 2:
        raise UserError(
            f"training needs two base classes, not {classes}; raise the first share of data.split_ratio, or choose "
            "another data.split"
        )
    if isinstance(config, keys.CrossEntropyConfig):
        return CrossEntropy(config, labels, embedder.dim, seed)
    if isinstance(config, keys.CosineConfig):
        return Cosine(config, labels, seed)
    if isinstance(config, keys.TripletConfig):
        return Triplet(config, labels, seed)
    if isinstance(config, keys.ContrastiveConfig):
        return Contrastive(config, labels, seed)
    if isinstance(config, keys.SiameseConfig):
        return Siamese(config, labels, embedder.dim, seed)
    if isinstance(config, keys.MemoryAugmentedConfig):
        return Sequences(config, labels, embedder.dim, seed)
    if isinstance(config, keys.TaskConfig):
        if isinstance(config, keys.MetaSgdConfig) or (isinstance(config, keys.MamlConfig) and config.order == 2):
            require_second_order()
        return Tasks(config, build_task_learner(config, embedder, seed), labels, seed)
    return Episodic(config, labels, embedder.map_shape, seed)
