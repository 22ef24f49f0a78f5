"""`pretrain.N.objective`: what a stage of training minimises."""

from typing import Annotated, Literal, TypeGuard

from pydantic import BeforeValidator, Field, model_validator

from ppfsl.config.fields import Count, Natural, NonNegative, Number, Positive, Size, Strict, Switch, whole_number


class ClassesPerBatch(Strict):
    """Batches of some classes with some images each."""

    classes_per_batch: Annotated[int, Field(strict=True, ge=2)] = 16
    images_per_class: Annotated[int, Field(strict=True, ge=2)] = 4


class TaskAugmentation(Strict):
    """Classes that the data set does not have: in every task, each class's images are all changed in one random way."""

    turn: Switch = False
    """By 0, 90, 180 or 270 degrees."""
    flip: Switch = False
    """Left-right, half of the time."""
    color: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """Every channel is multiplied by a factor of its own within 1 - color .. 1 + color."""

    @property
    def active(self) -> bool:
        """Whether it changes anything."""
        return self.turn or self.flip or self.color > 0


class Episodes(Strict):
    """Training episodes, whose way, shot and query need not be those of the evaluation."""

    way: Annotated[int, Field(strict=True, ge=2)] = 5
    shot: Count = 1
    query: Count = 15
    """Query images per class."""
    episodes_per_batch: Count = 1
    """Episodes whose mean loss makes one optimizer step."""
    task_augmentation: TaskAugmentation = TaskAugmentation()


class CrossEntropyConfig(Strict):
    """Softmax cross-entropy over the base classes."""

    name: Literal["cross_entropy"]
    classifier: Literal["linear", "cosine"] = "linear"
    """linear: on the projected features; cosine: scale x cosine similarity to a weight per class."""
    scale: Positive | None = None
    """Of the cosine classifier, 16 by default."""
    label_smoothing: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    rotation_weight: NonNegative = 0.0
    """Of a second loss: images are turned by quarters, half of them at random, and the classifier also has to say by
    how many (Gidaris et al. 2018; Su et al. 2020). 0: none is turned."""
    batch_size: Annotated[int, Field(strict=True, ge=2)] = 64

    @model_validator(mode="after")
    def _consistent(self) -> "CrossEntropyConfig":
        if self.scale is not None and self.classifier != "cosine":
            raise ValueError("scale belongs to the cosine classifier")
        return self


class CosineConfig(Strict):
    """Mean squared error between a pair's cosine similarity and 1 (same class) or 0 (other class)."""

    name: Literal["cosine"]
    triples: Count = 16
    """Anchor-positive-negative triples in a batch, hence 3 times as many images."""


class TripletConfig(ClassesPerBatch):
    """max(0, d(a, p) + margin - d(a, n)) on squared Euclidean distances of embeddings."""

    name: Literal["triplet"]
    margin: Positive = 0.2
    mining: Literal["random", "batch_all", "batch_hard", "semi_hard"] = "batch_hard"


class ContrastiveConfig(ClassesPerBatch):
    """Pairs of a class are pulled together, pairs of two classes pushed apart to a margin."""

    name: Literal["contrastive"]
    margin: Positive = 1.0
    """In units of Euclidean distance; embeddings of length one are at most 2 apart."""


class SiameseConfig(ClassesPerBatch):
    """A pair's embeddings are merged and classified as same or different."""

    name: Literal["siamese"]
    merge: Literal["absolute_difference", "concatenation"] = "absolute_difference"
    hidden: tuple[Size, ...] = ()
    """Outputs of the fully connected layers between the merged embeddings and the sigmoid; none in the paper."""

    @model_validator(mode="after")
    def _consistent(self) -> "SiameseConfig":
        if self.merge == "concatenation" and not self.hidden:
            raise ValueError("merge: concatenation needs a hidden layer to compare; set hidden, such as [64]")
        return self


class PrototypicalConfig(Episodes):
    """Softmax over the negative distances to the class means."""

    name: Literal["prototypical"]
    metric: Literal["squared_euclidean", "cosine"] = "squared_euclidean"
    temperature: Positive = 1.0
    """Logits are -distance / temperature, or cosine / temperature; 1 in the paper."""


class MatchingConfig(Episodes):
    """Attention over the support images by cosine similarity."""

    name: Literal["matching"]
    context: Literal["none", "full"] = "none"
    """full: full context embeddings, a bidirectional LSTM over the support set and an attention LSTM over queries."""
    processing_steps: Count = 5
    """context: full; steps of the attention LSTM."""
    temperature: Positive = 1.0
    """Attention is softmax(cosine / temperature); 1 in the paper."""

    @model_validator(mode="after")
    def _consistent(self) -> "MatchingConfig":
        self._refuse_unused("processing_steps", "context: full", self.context == "full")
        return self


class RelationConfig(Episodes):
    """A convolutional module scores how a query's feature map relates to a class's."""

    name: Literal["relation"]
    width: Size = 64
    """Channels of the module's two convolutions."""
    hidden: Size = 8
    """Outputs of its first fully connected layer."""
    shots: Literal["sum", "mean"] = "sum"
    """Of a class's maps; the sum in the paper, which trains a module for each number of shots."""


class MetaBaselineConfig(Episodes):
    """Cosine similarity to the class means, times a scale that is learned."""

    name: Literal["meta_baseline"]
    scale: Positive = 10.0
    """What the learned scale starts at."""


class AnilConfig(Episodes):
    """A linear classifier, adapted by gradient steps on the embedder's output before its normalisation."""

    name: Literal["anil"]
    inner_steps: Count = 5
    """Gradient steps on a support set."""
    inner_lr: Positive = 0.1
    """Their size."""


BatchNormMode = Literal["transductive", "support_statistics", "running"]


class InnerLoop(Episodes):
    """A whole network, adapted by gradient steps on the support set."""

    inner_steps: Count = 1
    """Gradient steps on a support set."""
    inner_lr: Positive = 0.4
    """Their size."""
    batch_norm: BatchNormMode = "transductive"
    """Whose mean and variance normalise the queries: their own (an answer then depends on the other queries), the
    support images', or, on novel classes, the running ones of training."""


class MamlConfig(InnerLoop):
    """The queries' loss after the steps, by the weights before them."""

    name: Literal["maml"]
    order: Annotated[Literal[1, 2], BeforeValidator(whole_number)] = 2
    """2: differentiates through the steps; 1: takes the gradient by the adapted weights instead."""
    first_order_epochs: Natural = 0
    """order: 2; epochs of order 1 with which training begins."""

    @model_validator(mode="after")
    def _consistent(self) -> "MamlConfig":
        self._refuse_unused("first_order_epochs", "order: 2", self.order == 2)
        return self


class MetaSgdConfig(InnerLoop):
    """MAML of order 2 with a learned step size for every number of every weight."""

    name: Literal["meta_sgd"]
    inner_lr: Positive = 0.1
    """What the step sizes start at."""


class ReptileConfig(InnerLoop):
    """The displacement of the weights by the steps: `optimizer: {name: sgd}` with its learning rate moves them so."""

    name: Literal["reptile"]
    shot: Count = 10
    query: Count = 5
    """Only to show how training goes."""
    inner_steps: Count = 5
    inner_lr: Positive = 1e-3
    """Of Adam with beta1 = 0."""
    inner_batch: Count = 10
    """Support images in each step."""


class LstmMetaLearnerConfig(InnerLoop):
    """An LSTM computes the size of every step, and how much of a weight it forgets, number by number."""

    name: Literal["lstm_meta_learner"]
    inner_steps: Count = 5
    inner_lr: Annotated[Positive, Field(lt=1)] = 0.1
    """Near which the step sizes start."""
    hidden: Size = 20
    """Of the LSTM that reads gradients and losses."""


class LearnedOptimizerConfig(Episodes):
    """An LSTM takes the place of the optimizer of a softmax head on the support set's embeddings."""

    name: Literal["learned_optimizer"]
    inner_steps: Count = 10
    """On a support set."""
    scale: Positive = 10.0
    """Of the head's logits."""
    hidden: Size = 20
    """Of the LSTM's two layers."""


class MemoryAugmentedConfig(Strict):
    """A network with an external memory reads sequences of images, each with the label of the one before."""

    name: Literal["memory_augmented"]
    way: Annotated[int, Field(strict=True, ge=2)] = 5
    instances: Annotated[int, Field(strict=True, ge=2)] = 10
    """Images of each class in a sequence."""
    episodes_per_batch: Count = 16
    """Sequences whose mean loss makes one optimizer step."""
    task_augmentation: TaskAugmentation = TaskAugmentation()
    hidden: Size = 200
    """Of the LSTM that controls the memory."""
    slots: Size = 128
    width: Size = 40
    """Numbers in a slot."""
    heads: Size = 4
    """That read and write."""
    decay: Annotated[Number, Field(ge=0, lt=1)] = 0.95
    """Of a slot's usage from one image to the next."""

    @model_validator(mode="after")
    def _consistent(self) -> "MemoryAugmentedConfig":
        if self.heads > self.slots:
            raise ValueError(f"{self.heads} heads need as many slots, not {self.slots}; raise slots or lower heads")
        return self


EpisodicConfig = (
    PrototypicalConfig | MatchingConfig | RelationConfig | MetaBaselineConfig | AnilConfig | LearnedOptimizerConfig
)
TaskConfig = MamlConfig | MetaSgdConfig | ReptileConfig | LstmMetaLearnerConfig
Objective = Annotated[
    CrossEntropyConfig
    | CosineConfig
    | TripletConfig
    | ContrastiveConfig
    | SiameseConfig
    | EpisodicConfig
    | TaskConfig
    | MemoryAugmentedConfig,
    Field(discriminator="name"),
]


FIXED_WAY = ("memory_augmented", "lstm_meta_learner", "anil", "maml", "meta_sgd", "reptile")
"""Objectives whose method has one output per class: it serves episodes of the way that it was trained on alone."""

HAVE_LAYERS = ("cross_entropy", "siamese", "relation", "meta_baseline", "learned_optimizer", *FIXED_WAY)
"""Objectives with layers of their own beside the embedder; `matching` has some with context: full."""


def has_layers(objective: Objective) -> bool:
    """Whether an objective has something to train beside the embedder."""
    return objective.name in HAVE_LAYERS or (objective.name == "matching" and objective.context == "full")


def augments_tasks(objective: Objective) -> TypeGuard[Episodes | MemoryAugmentedConfig]:
    """Whether an objective changes whole classes of its tasks."""
    return isinstance(objective, Episodes | MemoryAugmentedConfig) and objective.task_augmentation.active


def trains_method(objective: Objective) -> bool:
    """Whether an objective trains a few-shot method, rather than the embedder alone."""
    return isinstance(objective, SiameseConfig | Episodes | MemoryAugmentedConfig)


def judged_alike(before: Objective, after: Objective) -> bool:
    """Whether validation accuracies of two stages can be compared: scored by class means, or by the same method.

    A method with layers of its own starts with fresh ones, and is another method.
    """
    if not (trains_method(before) or trains_method(after)):
        return True
    episodes = set(Episodes.model_fields)
    return not has_layers(after) and before.model_dump(exclude=episodes) == after.model_dump(exclude=episodes)
