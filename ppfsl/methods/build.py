"""From the configuration to methods: of `adaptations`, and of a stage's objective."""

from collections.abc import Sequence
from typing import Any, TypeVar

from paddle import nn

from ppfsl.backbones.embedder import Embedder
from ppfsl.config import (
    Adaptation,
    BaselineConfig,
    ClassMeanConfig,
    EpisodicConfig,
    FinetuneConfig,
    MatchingAdaptationConfig,
    MatchingConfig,
    NearestShotConfig,
    PrototypicalAdaptationConfig,
    PrototypicalConfig,
    RelationAdaptationConfig,
    RelationConfig,
    SiameseAdaptationConfig,
    SiameseConfig,
)
from ppfsl.errors import UserError
from ppfsl.methods.base import EpisodeLearner, Method
from ppfsl.methods.baseline import Baseline
from ppfsl.methods.class_mean import ClassMean
from ppfsl.methods.finetune import Finetune, FinetuneAll
from ppfsl.methods.layers import build_layer
from ppfsl.methods.matching import FullContext, Matching
from ppfsl.methods.meta_baseline import LearnedScale, MetaBaseline
from ppfsl.methods.nearest_shot import NearestShot
from ppfsl.methods.prototypical import Prototypical
from ppfsl.methods.relation import Relation, RelationModule
from ppfsl.methods.siamese import PairHead, Siamese

Kind = TypeVar("Kind", bound=nn.Layer)


def build_method(config: Adaptation, embedder: Embedder, seed: int, layer: nn.Layer | None = None) -> Method:
    """The method that an entry of `adaptations` describes.

    Args:
        config: the entry.
        embedder: used by methods that tune it, on a copy.
        seed: of the methods' random choices.
        layer: what the last stage of training learned beside the embedder; None: nothing.

    Raises:
        UserError: when the method needs another layer than there is.
    """
    name = config.label or config.name
    if isinstance(config, ClassMeanConfig):
        return ClassMean(name, config.scale)
    if isinstance(config, FinetuneConfig):
        return FinetuneAll(config, embedder, seed) if config.trainable == "all" else Finetune(config, seed)
    if isinstance(config, BaselineConfig):
        return Baseline(config, seed)
    if isinstance(config, NearestShotConfig):
        return NearestShot(config.shots, name)
    if isinstance(config, PrototypicalAdaptationConfig):
        return Prototypical(config.metric, config.temperature, name)
    if isinstance(config, MatchingAdaptationConfig):
        context = _learned(layer, FullContext, "matching with context: full") if config.context == "full" else None
        return Matching(context, config.temperature, name)
    if isinstance(config, RelationAdaptationConfig):
        return Relation(_learned(layer, RelationModule, "relation"), config.shots, name)
    if isinstance(config, SiameseAdaptationConfig):
        return Siamese(_learned(layer, PairHead, "siamese"), config.shots, name)
    return MetaBaseline(_learned(layer, LearnedScale, "meta_baseline"), name)


def build_siamese(config: SiameseConfig, dim: int, seed: int) -> Siamese:
    """The method that the objective `siamese` trains, its head fresh, for embeddings of `dim` numbers."""
    arguments = {"dim": dim, "merge": config.merge, "hidden": list(config.hidden)}
    return Siamese(_fresh("siamese", arguments, seed, PairHead))


def build_learner(config: EpisodicConfig, shape: Sequence[int], seed: int) -> EpisodeLearner:
    """The method that an episodic objective trains, its layers fresh.

    Args:
        config: the objective.
        shape: (channels, height, width) of the embedder's output before normalisation.
        seed: of the layers' weights.
    """
    if isinstance(config, PrototypicalConfig):
        return Prototypical(config.metric, config.temperature)
    if isinstance(config, MatchingConfig):
        arguments: dict[str, Any] = {"dim": shape[0] * shape[1] * shape[2], "steps": config.processing_steps}
        context = _fresh("matching", arguments, seed, FullContext) if config.context == "full" else None
        return Matching(context, config.temperature)
    if isinstance(config, RelationConfig):
        arguments = {"shape": list(shape), "width": config.width, "hidden": config.hidden}
        return Relation(_fresh("relation", arguments, seed, RelationModule), config.shots)
    return MetaBaseline(_fresh("meta_baseline", {"initial": config.scale}, seed, LearnedScale))


def _fresh(name: str, arguments: dict[str, Any], seed: int, kind: type[Kind]) -> Kind:
    layer = build_layer({"name": name, "arguments": arguments}, seed)
    assert isinstance(layer, kind)
    return layer


def _learned(layer: nn.Layer | None, kind: type[Kind], name: str) -> Kind:
    if not isinstance(layer, kind):
        raise UserError(
            f"adaptation {name} needs what the objective of that name learns, which this checkpoint lacks; "
            "evaluate a run whose last stage has it"
        )
    return layer
