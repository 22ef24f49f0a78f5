"""Typed, strict configuration: YAML with `_base_` inheritance and `-o a.b=c` overrides.

The classes below are the reference of every key: its type, its range and its default. Unknown keys are errors.
Nothing here imports Paddle.
"""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Count = Annotated[int, Field(strict=True, ge=1)]
Natural = Annotated[int, Field(strict=True, ge=0)]


def _no_switch(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {value}")
    return value


def _known_device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|gpu(:\d+)?", value):
        raise ValueError(f"must be auto, cpu, gpu, or gpu:1 and the like, not {value!r}")
    return value


def _dimension_or_none(value: object) -> object:
    if isinstance(value, str) and value != "none":
        raise ValueError(f"must be a whole number or none, not {value!r}")
    return value


Number = Annotated[float, BeforeValidator(_no_switch)]
Positive = Annotated[Number, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[Number, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
Switch = Annotated[bool, Field(strict=True)]


class Strict(BaseModel):
    """A group of keys: immutable, and every key of it is known."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    def _refuse_unused(self, key: str, owner: str, used: bool) -> None:
        """Raise when a key that nothing reads was given another value than its default."""
        if not used and getattr(self, key) != type(self).model_fields[key].default:
            raise ValueError(f"{key} belongs to {owner}; leave it out")


class SyntheticConfig(Strict):
    """The drawn blossoms (`data.name: synthetic`)."""

    classes: Annotated[int, Field(strict=True, ge=10)] = 64
    images_per_class: Annotated[int, Field(strict=True, ge=2)] = 40
    seed: Natural = 0


class DataConfig(Strict):
    """Which images, which classes, which size."""

    name: Literal["synthetic", "flowers102", "folder"] = "synthetic"
    root: str | None = None
    """Folder of the raw files; null: $PPFSL_DATA, else ~/.cache/ppfsl."""
    folder: str | None = None
    """`name: folder`: the tree with a folder per class; absolute, or below `root`."""
    split: str | None = None
    """A shipped class split, or the path of a .json file; null: divide the classes by `split_ratio`."""
    split_ratio: tuple[Fraction, Fraction, Fraction] = (0.6, 0.2, 0.2)
    """Shares of base, validation and novel classes, where no `split` is named."""
    split_seed: Natural = 0
    image_size: Annotated[int, Field(strict=True, ge=16, le=1024)] = 84
    """Side in pixels of what the network sees."""
    cached_size: Annotated[int, Field(strict=True, ge=16, le=1024)] | None = None
    """Side in pixels of the cached images, from whose centre `image_size` is cropped; null: `image_size`."""
    channels: Literal[1, 3] = 3
    on_corrupt: Literal["error", "skip"] = "error"
    cache_dir: str | None = None
    """Folder of the decoded images; null: $PPFSL_CACHE, else ~/.cache/ppfsl/cache."""
    synthetic: SyntheticConfig = SyntheticConfig()

    @model_validator(mode="after")
    def _consistent(self) -> "DataConfig":
        if self.cached_size is not None and self.cached_size < self.image_size:
            raise ValueError("cached_size must not be smaller than image_size")
        if abs(sum(self.split_ratio) - 1) > 1e-6:
            raise ValueError("split_ratio must sum to 1")
        if (self.name == "folder") != (self.folder is not None):
            raise ValueError("folder belongs to name: folder, which needs it (the path of the tree of class folders)")
        if self.name == "flowers102" and self.split is None:
            raise ValueError("flowers102 needs a split: metadataset, fsl_ssl or article")
        return self

    @property
    def table_size(self) -> int:
        """Side in pixels of the cached images."""
        return self.cached_size or self.image_size


class BackboneConfig(Strict):
    """The embedder: backbone, projection, L2 normalisation."""

    name: Literal["conv4", "resnet12", "resnet18", "mobilenet_v1"] = "resnet18"
    pretrained: str = "none"
    """`none`, `imagenet` (from Paddle's hub), or the path of a .safetensors, or of a .pdparams file that you trust."""
    normalization: Literal["unit", "signed", "imagenet"] = "imagenet"
    """Of pixels p in 0..255. unit: p / 255; signed: p / 127.5 - 1; imagenet: by ImageNet's mean and deviation."""
    projection: Annotated[Count | Literal["none"], BeforeValidator(_dimension_or_none)] = 128
    """Dimension of the linear projection behind the backbone."""
    scale: Positive | None = None
    """mobilenet_v1 only: width multiplier, 1.0 by default."""
    width: Count | None = None
    """conv4 only: channels of each layer, 64 by default."""

    @model_validator(mode="after")
    def _consistent(self) -> "BackboneConfig":
        if self.scale is not None and self.name != "mobilenet_v1":
            raise ValueError(f"scale belongs to mobilenet_v1, not to {self.name}")
        if self.width is not None and self.name != "conv4":
            raise ValueError(f"width belongs to conv4, not to {self.name}")
        return self


class CrossEntropyConfig(Strict):
    """Softmax cross-entropy over the base classes."""

    name: Literal["cross_entropy"]
    classifier: Literal["linear", "cosine"] = "linear"
    """linear: on the projected features; cosine: scale x cosine similarity to a weight per class."""
    scale: Positive | None = None
    """Of the cosine classifier, 16 by default."""
    label_smoothing: Annotated[Number, Field(ge=0, lt=1)] = 0.0
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


class TripletConfig(Strict):
    """max(0, d(a, p) + margin - d(a, n)) on squared Euclidean distances of embeddings."""

    name: Literal["triplet"]
    margin: Positive = 0.2
    mining: Literal["random", "batch_all", "batch_hard", "semi_hard"] = "batch_hard"
    classes_per_batch: Annotated[int, Field(strict=True, ge=2)] = 16
    images_per_class: Annotated[int, Field(strict=True, ge=2)] = 4


class OptimizerConfig(Strict):
    """An optimizer and its first learning rate."""

    name: Literal["adam", "adamw", "momentum", "sgd"] = "adam"
    lr: Positive = 1e-3
    weight_decay: NonNegative = 0.0
    """On weights with two dimensions or more; decoupled in adamw, an L2 term in the others."""
    momentum: Annotated[Number, Field(ge=0, lt=1)] = 0.9
    """Of `momentum`, with Nesterov's correction."""

    @model_validator(mode="after")
    def _consistent(self) -> "OptimizerConfig":
        self._refuse_unused("momentum", "name: momentum", self.name == "momentum")
        return self


class ScheduleConfig(Strict):
    """The learning rate over a stage; it rises linearly during the warm-up."""

    name: Literal["constant", "cosine", "step"] = "cosine"
    warmup_epochs: NonNegative = 0.0
    milestones: tuple[Positive, ...] = ()
    """step: epochs at which the rate is multiplied by gamma."""
    gamma: Positive = 0.1

    @model_validator(mode="after")
    def _consistent(self) -> "ScheduleConfig":
        if (self.name == "step") != bool(self.milestones):
            raise ValueError("milestones belong to the step schedule, which needs at least one")
        self._refuse_unused("gamma", "the step schedule", self.name == "step")
        return self


class AugmentationConfig(Strict):
    """Random changes of training images; the same image never looks the same twice."""

    crop: Literal["center", "random", "resized"] = "center"
    """random: a window of image_size from the cached image, which is padded by an eighth where it is no larger;
    resized: a random part, scaled."""
    crop_area: tuple[Fraction, Fraction] = (0.3, 1.0)
    """resized: least and greatest share of the image's area."""
    rotation: Annotated[Number, Field(ge=0, le=180)] = 0.0
    """Greatest angle in degrees, to either side, about the image's centre; corners are filled by mirroring."""
    flip: Switch = False
    """Left-right, half of the time."""
    jitter: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """Brightness, contrast and saturation are each multiplied by a factor within 1 - jitter .. 1 + jitter."""

    @property
    def active(self) -> bool:
        """Whether it changes anything."""
        return self.crop != "center" or self.rotation > 0 or self.flip or self.jitter > 0

    @model_validator(mode="after")
    def _consistent(self) -> "AugmentationConfig":
        if not 0 < self.crop_area[0] <= self.crop_area[1]:
            raise ValueError("crop_area must be two shares of the area, the smaller first")
        self._refuse_unused("crop_area", "crop: resized", self.crop == "resized")
        return self


class StageConfig(Strict):
    """One stage of training the embedder on base classes."""

    objective: Annotated[CrossEntropyConfig | CosineConfig | TripletConfig, Field(discriminator="name")]
    trainable: Literal["all", "last_block", "projection", "head"] = "all"
    """What learns beside the objective's own classifier; head: that classifier alone, which measures how well a linear
    or cosine classifier separates the base classes and leaves the embedder as it is."""
    epochs: Count = 10
    steps_per_epoch: Count | None = None
    """Null: as many as show about every base image once."""
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    clip_norm: Positive | None = None
    """Greatest norm of the gradient of all parameters together."""
    augmentation: AugmentationConfig = AugmentationConfig()
    patience: Count | None = None
    """Stop after this many validations without a better one."""

    @model_validator(mode="after")
    def _consistent(self) -> "StageConfig":
        if self.trainable == "head" and self.objective.name != "cross_entropy":
            raise ValueError(f"trainable: head leaves nothing to train, since {self.objective.name} has no classifier")
        return self


class ValidationConfig(Strict):
    """Few-shot accuracy on validation classes during training (class means): what `best` and `patience` go by."""

    way: Annotated[int, Field(strict=True, ge=2)] = 5
    shot: Count = 1
    query: Count = 15
    episodes: Count = 200
    images_per_class: Count = 30
    """At most so many images of a class, a fixed choice, to save time."""
    every: Count = 1
    """Epochs from one validation to the next."""


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


class SupportSetConfig(Strict):
    """The one fixed support set of a run and its query list; null: the same as in `evaluation`."""

    file: str | None = None
    """A support set that `tools/build_support_set.py` wrote; null: draw one by the keys below."""
    way: Annotated[int, Field(strict=True, ge=2)] | None = None
    shot: Count | None = None
    """Null: the greatest of `evaluation.shot`."""
    query: Count | None = None
    classes: tuple[int, ...] | None = None
    """Labels; null: a choice of `way` classes by the seed."""
    seed: Natural = 0

    @model_validator(mode="after")
    def _consistent(self) -> "SupportSetConfig":
        if self.file is not None and (self.way, self.shot, self.query, self.classes, self.seed) != (*[None] * 4, 0):
            raise ValueError("file names a support set that is drawn already; leave out the other keys")
        return self


class EvaluationConfig(Strict):
    """Episodes on the classes of one part of the split, which training never saw unless the split says otherwise."""

    way: Annotated[int, Field(strict=True, ge=2)] = 5
    shot: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 5)
    query: Count = 15
    """Query images per class in an episode."""
    episodes: Count = 600
    seed: Natural = 0
    part: Literal["novel", "validation"] = "novel"
    support_set: SupportSetConfig = SupportSetConfig()

    @model_validator(mode="before")
    @classmethod
    def _one_shot(cls, value: object) -> object:
        if isinstance(value, dict) and isinstance(value.get("shot"), int):
            return {**value, "shot": [value["shot"]]}
        return value

    @model_validator(mode="after")
    def _different_shots(self) -> "EvaluationConfig":
        if len(set(self.shot)) < len(self.shot):
            raise ValueError("shot lists a number twice")
        return self


Adaptation = Annotated[ClassMeanConfig | FinetuneConfig, Field(discriminator="name")]


class Config(Strict):
    """Everything that a run does."""

    method: str = "baseline"
    """The method's name in tables."""
    seed: Natural = 0
    device: Annotated[str, AfterValidator(_known_device)] = "auto"
    """`auto` takes the GPU where this Paddle has one; `gpu:1` takes the second."""
    threads: Count = 1
    """Threads of Paddle's operators on a CPU."""
    output_dir: str | None = None
    """Null: output/<name of the configuration>."""
    data: DataConfig = DataConfig()
    backbone: BackboneConfig = BackboneConfig()
    pretrain: tuple[StageConfig, ...] = ()
    validation: ValidationConfig = ValidationConfig()
    adaptations: Annotated[tuple[Adaptation, ...], Field(min_length=1)] = (ClassMeanConfig(name="class_mean"),)
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        labels = [adaptation.label or adaptation.name for adaptation in self.adaptations]
        doubled = next((label for label in labels if labels.count(label) > 1), None)
        if doubled is not None:
            raise ValueError(f"two adaptations are called {doubled!r}; give each a label of its own")
        for stage in self.pretrain:
            if self.backbone.projection == "none" and stage.trainable == "projection":
                raise ValueError("trainable: projection needs backbone.projection, which is none")
        return self
