"""From the configuration's `adaptations` to methods."""

from ppfsl.backbones.embedder import Embedder
from ppfsl.config import Adaptation, ClassMeanConfig
from ppfsl.methods.base import Method
from ppfsl.methods.class_mean import ClassMean
from ppfsl.methods.finetune import Finetune, FinetuneAll


def build_method(config: Adaptation, embedder: Embedder, seed: int) -> Method:
    """The method that a configuration describes.

    Args:
        config: an entry of `adaptations`.
        embedder: used by methods that tune it, on a copy.
        seed: of the methods' random choices.
    """
    if isinstance(config, ClassMeanConfig):
        return ClassMean(config.label or config.name, config.scale)
    if config.trainable == "all":
        return FinetuneAll(config, embedder, seed)
    return Finetune(config, seed)
