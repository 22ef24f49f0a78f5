"""`adaptations`: how a support set becomes a classifier."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ppfsl.config.fields import Count, NonNegative, Positive, Strict, Switch
from ppfsl.config.objectives import (
    FIXED_WAY,
    BatchNormMode,
    LearnedOptimizerConfig,
    MatchingConfig,
    Objective,
    PrototypicalConfig,
    RelationConfig,
)
from ppfsl.config.training import OptimizerConfig


class ClassMeanConfig(Strict):
    """Nearest class mean: cosine similarity to the normalised mean of the shots' embeddings."""

    name: Literal["class_mean"]
    label: str | None = None
    """The row's name in reports; null: the adaptation's name."""
    scale: Positive = 10.0
    """Of the softmax: probabilities depend on it, the answer does not."""


class FinetuneConfig(Strict):
    """A softmax head on the similarity to one weight vector per class, fitted to the support set."""

    name: Literal["finetune"]
    label: str | None = None
    initialization: Literal["class_mean", "random"] = "class_mean"
    similarity: Literal["cosine", "inner_product"] = "cosine"
    scale: Positive = 10.0
    """logits = scale x similarity + bias."""
    entropy: Literal["none", "support", "query"] = "support"
    """Whose predictions' entropy is added to the loss; query: the unlabelled queries', which is transductive."""
    entropy_weight: Positive = 1.0
    trainable: Literal["head", "all"] = "head"
    """all: gradients also flow into the embedder, a copy of which is tuned per episode (slow)."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=5e-4)
    steps: Count = 100

    @model_validator(mode="after")
    def _consistent(self) -> "FinetuneConfig":
        self._refuse_unused("entropy_weight", "entropy: support or query", self.entropy != "none")
        return self


class NearestShotConfig(Strict):
    """The class whose shots' embeddings are most similar, by cosine."""

    name: Literal["nearest_shot"]
    label: str | None = None
    shots: Literal["max", "mean"] = "max"
    """max: the nearest shot decides; mean: the mean similarity over a class's shots."""


class SoftKMeansConfig(Strict):
    """Class means that the unlabelled queries pull to where they lie, which is transductive."""

    name: Literal["soft_kmeans"]
    label: str | None = None
    scale: Positive = 10.0
    """Of the cosine similarities whose softmax says how far a query belongs to a class."""
    steps: Count = 10
    """Rounds of refinement."""
    balanced: Switch = False
    """Every class is taken to have equally many queries, as it has in the episodes here."""


class SiameseAdaptationConfig(Strict):
    """The class whose shots the trained Siamese head finds most similar."""

    name: Literal["siamese"]
    label: str | None = None
    shots: Literal["max", "mean"] = "mean"
    """Over a class's shots."""


class PrototypicalAdaptationConfig(Strict):
    """The nearest class mean of embeddings that are not normalised."""

    name: Literal["prototypical"]
    label: str | None = None
    metric: Literal["squared_euclidean", "cosine"] | None = None
    """Null, here and below: as in the last stage of training if it has the same name, else the objective's default."""
    temperature: Positive | None = None


class MatchingAdaptationConfig(Strict):
    """Attention over the support images."""

    name: Literal["matching"]
    label: str | None = None
    context: Literal["none", "full"] | None = None
    """full: with the full context embeddings that the last stage of training learned. Null, here and below: as in the
    last stage of training if it has the same name, else the objective's default."""
    temperature: Positive | None = None


class RelationAdaptationConfig(Strict):
    """The class to which the trained relation module gives the highest score."""

    name: Literal["relation"]
    label: str | None = None
    shots: Literal["sum", "mean"] | None = None
    """Of a class's maps; a module that was trained on one shot knows no sums, but means. Null: as in training."""


class MetaBaselineAdaptationConfig(Strict):
    """Cosine similarity to the class means of embeddings that are not normalised, times the learned scale."""

    name: Literal["meta_baseline"]
    label: str | None = None


class AnilAdaptationConfig(Strict):
    """The trained classifier after gradient steps on the support set."""

    name: Literal["anil"]
    label: str | None = None
    steps: Count | None = None
    """Null: as many as in training."""
    lr: Positive | None = None
    """Null: as in training."""


class MamlAdaptationConfig(Strict):
    """The trained network after gradient steps on the support set."""

    name: Literal["maml"]
    label: str | None = None
    steps: Count | None = None
    """Null: as many as in training."""
    lr: Positive | None = None
    """Null: as in training."""
    batch_norm: BatchNormMode | None = None
    """Null: as in training."""


class MetaSgdAdaptationConfig(Strict):
    """The trained network after gradient steps of the learned sizes."""

    name: Literal["meta_sgd"]
    label: str | None = None
    steps: Count | None = None
    """Null: as many as in training."""
    batch_norm: BatchNormMode | None = None
    """Null: as in training."""


class ReptileAdaptationConfig(Strict):
    """The trained network after steps of Adam on minibatches of the support set."""

    name: Literal["reptile"]
    label: str | None = None
    steps: Count = 50
    """50 in the paper, ten times as many as in training."""
    lr: Positive | None = None
    """Null: as in training."""
    batch: Count = 5
    """Support images in each step."""
    batch_norm: BatchNormMode | None = None
    """Null: as in training."""


class LstmMetaLearnerAdaptationConfig(Strict):
    """The trained network after the LSTM's steps on the support set."""

    name: Literal["lstm_meta_learner"]
    label: str | None = None
    steps: Count | None = None
    """Null: as many as in training."""
    batch_norm: BatchNormMode | None = None
    """Null: as in training."""


class LearnedOptimizerAdaptationConfig(Strict):
    """A softmax head, fitted to the support set's embeddings by the trained optimizer."""

    name: Literal["learned_optimizer"]
    label: str | None = None
    inner_steps: Count | None = None
    """Null: as many as in training."""
    scale: Positive | None = None
    """Null: as in training."""


class MemoryAugmentedAdaptationConfig(Strict):
    """The trained network with the support images in its memory."""

    name: Literal["memory_augmented"]
    label: str | None = None


class BaselineConfig(Strict):
    """A new classifier on frozen embeddings, fitted to the support set (Chen et al. 2019)."""

    name: Literal["baseline", "baseline++"]
    """baseline: a linear classifier; baseline++: a cosine classifier."""
    label: str | None = None
    scale: Positive = 2.0
    """baseline++: logits are scale x cosine similarity."""
    epochs: Count = 100
    """Passes over the support set."""
    batch_size: Count = 4
    lr: Positive = 0.01
    momentum: Annotated[NonNegative, Field(lt=1)] = 0.9
    dampening: Annotated[NonNegative, Field(lt=1)] = 0.9
    weight_decay: NonNegative = 1e-3

    @model_validator(mode="after")
    def _consistent(self) -> "BaselineConfig":
        self._refuse_unused("scale", "name: baseline++", self.name == "baseline++")
        return self


Adaptation = Annotated[
    ClassMeanConfig
    | FinetuneConfig
    | NearestShotConfig
    | SoftKMeansConfig
    | SiameseAdaptationConfig
    | PrototypicalAdaptationConfig
    | MatchingAdaptationConfig
    | RelationAdaptationConfig
    | MetaBaselineAdaptationConfig
    | MemoryAugmentedAdaptationConfig
    | LstmMetaLearnerAdaptationConfig
    | LearnedOptimizerAdaptationConfig
    | AnilAdaptationConfig
    | MamlAdaptationConfig
    | MetaSgdAdaptationConfig
    | ReptileAdaptationConfig
    | BaselineConfig,
    Field(discriminator="name"),
]


_TRAINED_SETTINGS: dict[str, tuple[type[Strict], tuple[str, ...]]] = {
    "prototypical": (PrototypicalConfig, ("metric", "temperature")),
    "matching": (MatchingConfig, ("context", "temperature")),
    "relation": (RelationConfig, ("shots",)),
    "learned_optimizer": (LearnedOptimizerConfig, ("inner_steps", "scale")),
}


def left_open(adaptation: Adaptation) -> tuple[str, ...]:
    """The keys without a value that `as_trained` fills in."""
    keys = _TRAINED_SETTINGS[adaptation.name][1] if adaptation.name in _TRAINED_SETTINGS else ()
    return tuple(key for key in keys if getattr(adaptation, key) is None)


def as_trained(adaptation: Adaptation, last: Objective | None) -> Adaptation:
    """The adaptation with its open settings filled in: those of the last objective, or the defaults of its like."""
    if not (keys := left_open(adaptation)):
        return adaptation
    kind, _ = _TRAINED_SETTINGS[adaptation.name]
    defaults = {key: kind.model_fields[key].default for key in keys}
    trained = last.model_dump(include=set(keys)) if isinstance(last, kind) else defaults
    return adaptation.model_copy(update=trained)


def needs_trained(adaptation: Adaptation) -> bool:
    """Whether an adaptation uses layers that a stage of training with the objective of that name has learned."""
    if isinstance(adaptation, MatchingAdaptationConfig):
        return adaptation.context == "full"
    return adaptation.name in ("siamese", "relation", "meta_baseline", "learned_optimizer", *FIXED_WAY)
