"""From the configuration to methods: of `adaptations`, and of a stage's objective."""

from collections.abc import Sequence
from typing import Any, TypeVar

from paddle import nn

from ppfsl.backbones.embedder import Embedder
from ppfsl.config import (
    Adaptation,
    AnilConfig,
    EpisodicConfig,
    LearnedOptimizerConfig,
    LstmMetaLearnerConfig,
    MamlConfig,
    MatchingConfig,
    MemoryAugmentedConfig,
    MetaSgdConfig,
    PrototypicalConfig,
    RelationConfig,
    SiameseConfig,
    TaskConfig,
    adaptations,
)
from ppfsl.errors import UserError
from ppfsl.methods.anil import Anil
from ppfsl.methods.base import EpisodeLearner, Method
from ppfsl.methods.baseline import Baseline
from ppfsl.methods.class_mean import ClassMean
from ppfsl.methods.finetune import Finetune, FinetuneAll
from ppfsl.methods.gradient_based import GradientBased
from ppfsl.methods.layers import build_layer
from ppfsl.methods.learned_optimizer import LearnedOptimizer, LearnedOptimizerHead
from ppfsl.methods.lstm_meta_learner import LstmMetaLearner, LstmTaskHead
from ppfsl.methods.maml import Maml
from ppfsl.methods.matching import FullContext, Matching
from ppfsl.methods.memory_augmented import MemoryAugmented, MemoryNetwork
from ppfsl.methods.meta_baseline import LearnedScale, MetaBaseline
from ppfsl.methods.meta_sgd import MetaSgd
from ppfsl.methods.nearest_shot import NearestShot
from ppfsl.methods.prototypical import Prototypical
from ppfsl.methods.relation import Relation, RelationModule
from ppfsl.methods.reptile import Reptile
from ppfsl.methods.siamese import PairHead, Siamese
from ppfsl.methods.soft_kmeans import SoftKMeans
from ppfsl.methods.task_network import TaskHead, TaskNetwork

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
    if isinstance(config, adaptations.ClassMeanConfig):
        return ClassMean(name, config.scale)
    if isinstance(config, adaptations.FinetuneConfig):
        return FinetuneAll(config, embedder, seed) if config.trainable == "all" else Finetune(config, seed)
    if isinstance(config, adaptations.BaselineConfig):
        return Baseline(config, seed)
    if isinstance(config, adaptations.NearestShotConfig):
        return NearestShot(config.shots, name)
    if isinstance(config, adaptations.SoftKMeansConfig):
        return SoftKMeans(config.scale, config.steps, config.balanced, name)
    if isinstance(config, adaptations.PrototypicalAdaptationConfig):
        return Prototypical(config.metric or "squared_euclidean", config.temperature or 1.0, name)
    if isinstance(config, adaptations.MatchingAdaptationConfig):
        context = _learned(layer, FullContext, "matching with context: full") if config.context == "full" else None
        return Matching(context, config.temperature or 1.0, name)
    if isinstance(config, adaptations.RelationAdaptationConfig):
        return Relation(_learned(layer, RelationModule, "relation"), config.shots or "sum", name)
    if isinstance(config, adaptations.SiameseAdaptationConfig):
        return Siamese(_learned(layer, PairHead, "siamese"), config.shots, name)
    if isinstance(config, adaptations.MetaBaselineAdaptationConfig):
        return MetaBaseline(_learned(layer, LearnedScale, "meta_baseline"), name)
    if isinstance(config, adaptations.LearnedOptimizerAdaptationConfig):
        optimizer = _learned(layer, LearnedOptimizer, "learned_optimizer")
        return LearnedOptimizerHead(optimizer, config.inner_steps or 10, config.scale or 10.0, name)
    if isinstance(config, adaptations.LstmMetaLearnerAdaptationConfig):
        gates = _learned(layer, LstmTaskHead, "lstm_meta_learner")
        trained = gates.arguments
        settings = (config.steps or trained["steps"], trained["lr"], config.batch_norm or trained["batch_norm"])
        return LstmMetaLearner(TaskNetwork(embedder, gates), gates, *settings, name, seed)
    if isinstance(config, adaptations.MemoryAugmentedAdaptationConfig):
        return MemoryAugmented(_learned(layer, MemoryNetwork, "memory_augmented"), name, seed)
    return _adapted_by_gradient(config, embedder, seed, layer)


def _adapted_by_gradient(
    config: adaptations.AnilAdaptationConfig
    | adaptations.MamlAdaptationConfig
    | adaptations.MetaSgdAdaptationConfig
    | adaptations.ReptileAdaptationConfig,
    embedder: Embedder,
    seed: int,
    layer: nn.Layer | None,
) -> Method:
    """The method of an adaptation, with the settings of training where the configuration leaves them open."""
    head, name = _learned(layer, TaskHead, config.name), config.label or config.name
    trained = head.arguments
    if head.method != config.name:
        raise UserError(
            f"adaptation {config.name} needs what the objective of that name learns, but this checkpoint holds that of "
            f"{head.method}; evaluate another run, or adapt by {head.method}"
        )
    steps = config.steps or trained["steps"]
    if isinstance(config, adaptations.AnilAdaptationConfig):
        return Anil(head, steps, config.lr or trained["lr"], name)
    network, batch_norm = TaskNetwork(embedder, head), config.batch_norm or trained["batch_norm"]
    if isinstance(config, adaptations.MetaSgdAdaptationConfig):
        return MetaSgd(network, head, steps, trained["lr"], batch_norm, name, seed)
    lr = config.lr or trained["lr"]
    if isinstance(config, adaptations.MamlAdaptationConfig):
        return Maml(network, head, steps, lr, batch_norm, name, seed)
    return Reptile(network, head, steps, lr, batch_norm, name, seed, config.batch)


def build_siamese(config: SiameseConfig, dim: int, seed: int) -> Siamese:
    """The method that the objective `siamese` trains, its head fresh, for embeddings of `dim` numbers."""
    arguments = {"dim": dim, "merge": config.merge, "hidden": list(config.hidden)}
    return Siamese(_fresh("siamese", arguments, seed, PairHead))


def build_memory_augmented(config: MemoryAugmentedConfig, dim: int, seed: int) -> MemoryAugmented:
    """The method that the objective of that name trains, its network fresh, for vectors of `dim` numbers."""
    arguments = {"dim": dim, **config.model_dump(include={"way", "hidden", "slots", "width", "heads", "decay"})}
    return MemoryAugmented(_fresh("memory_augmented", arguments, seed, MemoryNetwork), seed=seed)


def build_task_learner(config: TaskConfig, embedder: Embedder, seed: int) -> GradientBased:
    """The method that an objective on tasks trains, the embedder shared, its head fresh."""
    arguments: dict[str, Any] = {
        **{"method": config.name, "dim": embedder.dim, "way": config.way, "rates": None},
        **{"steps": config.inner_steps, "lr": config.inner_lr, "batch_norm": config.batch_norm},
    }
    settings = (config.inner_steps, config.inner_lr, config.batch_norm, config.name, seed)
    if isinstance(config, LstmMetaLearnerConfig):
        del arguments["method"], arguments["rates"]
        gates = _fresh("lstm_meta_learner", {**arguments, "hidden": config.hidden}, seed, LstmTaskHead)
        return LstmMetaLearner(TaskNetwork(embedder, gates), gates, *settings)
    if isinstance(config, MetaSgdConfig):
        plain = TaskNetwork(embedder, _fresh("task", arguments, seed, TaskHead))
        arguments["rates"] = {name: int(weight.size) for name, weight in plain.weights().items()}
    head = _fresh("task", arguments, seed, TaskHead)
    network = TaskNetwork(embedder, head)
    if isinstance(config, MetaSgdConfig):
        return MetaSgd(network, head, *settings)
    if isinstance(config, MamlConfig):
        return Maml(network, head, *settings, config.order, config.first_order_epochs)
    return Reptile(network, head, *settings, config.inner_batch)


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
    if isinstance(config, LearnedOptimizerConfig):
        optimizer = _fresh("learned_optimizer", {"hidden": config.hidden}, seed, LearnedOptimizer)
        return LearnedOptimizerHead(optimizer, config.inner_steps, config.scale)
    if isinstance(config, AnilConfig):
        arguments = {
            **{"method": "anil", "dim": shape[0] * shape[1] * shape[2], "way": config.way},
            **{"steps": config.inner_steps, "lr": config.inner_lr, "batch_norm": "running"},
        }
        return Anil(_fresh("task", arguments, seed, TaskHead), config.inner_steps, config.inner_lr)
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
