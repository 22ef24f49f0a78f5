"""`pretrain` and `validation`: the stages of training."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ppfsl.config.fields import Count, Fraction, NonNegative, Number, Positive, Strict, Switch
from ppfsl.config.objectives import CrossEntropyConfig, InnerLoop, MamlConfig, Objective, has_layers, trains_method


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

    objective: Objective
    trainable: Literal["all", "last_block", "projection", "head"] = "all"
    """What learns beside the objective's own layers; head: these alone, and the embedder stays as it is."""
    epochs: Count = 10
    steps_per_epoch: Count | None = None
    """Null: as many as show about every base image once."""
    image_size: Annotated[int, Field(strict=True, ge=16, le=1024)] | None = None
    """Side in pixels of training images; null: data.image_size. Smaller ones are seen faster, and a network that pools
    over whatever map it gets labels larger ones better than those it was trained on (Touvron et al. 2019)."""
    optimizer: OptimizerConfig = OptimizerConfig()
    decayed: Literal["all", "head"] = "all"
    """What `optimizer.weight_decay` shrinks; head: the objective's own layers alone."""
    schedule: ScheduleConfig = ScheduleConfig()
    clip_norm: Positive | None = None
    """Greatest norm of the gradient of all parameters together."""
    augmentation: AugmentationConfig = AugmentationConfig()
    keep_start: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """Share that the backbone's weights at the stage's beginning keep in those that it is judged by and ends with:
    (1 - share) x trained + share x first (Wortsman et al. 2022)."""
    patience: Count | None = None
    """Stop after this many validations without a better one."""

    @model_validator(mode="after")
    def _consistent(self) -> "StageConfig":
        if self.trainable == "head" and not has_layers(self.objective):
            raise ValueError(
                f"trainable: head leaves nothing to train, since {self.objective.name} has no layers of its own"
            )
        if self.decayed == "head" and not self.optimizer.weight_decay:
            raise ValueError(
                "decayed: head says what optimizer.weight_decay shrinks, which is 0; set it, or leave decayed out"
            )
        if self.decayed == "head" and (not has_layers(self.objective) or self.objective.name == "meta_baseline"):
            raise ValueError(
                f"decayed: head leaves nothing to shrink, since {self.objective.name} has no weights of its own"
            )
        self._refuse_without_backbone()
        if isinstance(self.objective, MamlConfig) and self.objective.first_order_epochs >= self.epochs:
            raise ValueError(
                f"first_order_epochs is {self.objective.first_order_epochs}, but the stage has {self.epochs} epochs; "
                "lower it, or set order: 1"
            )
        if isinstance(self.objective, InnerLoop) and self.trainable != "all":
            raise ValueError(
                f"trainable: {self.trainable} does not go with {self.objective.name}, which adapts the whole network; "
                "leave it out, or train with anil"
            )
        return self

    def _refuse_without_backbone(self) -> None:
        """Raise for keys that concern the backbone where it stays as it is."""
        turned = isinstance(self.objective, CrossEntropyConfig) and self.objective.rotation_weight > 0
        used = {"image_size": self.image_size is not None, "keep_start": self.keep_start > 0, "rotation_weight": turned}
        for key in (key for key, value in used.items() if value):
            if self.trainable in ("projection", "head"):
                raise ValueError(
                    f"{key} goes with training the backbone, not with trainable: {self.trainable}; leave it out"
                )
        if self.keep_start and trains_method(self.objective):
            raise ValueError(
                f"keep_start does not go with {self.objective.name}, whose method would not know the weights that it "
                "ends with; leave it out"
            )


class ValidationConfig(Strict):
    """Few-shot accuracy on validation classes during training: what `best` and `patience` go by.

    Of the stage's own method where it has one (siamese, an episodic one, MAML and the like), else of class
    means.
    """

    way: Annotated[int, Field(strict=True, ge=2)] = 5
    shot: Count = 1
    query: Count = 15
    episodes: Count = 200
    images_per_class: Count = 30
    """At most so many images of a class, a fixed choice, to save time."""
    every: Count = 1
    """Epochs from one validation to the next."""

    @model_validator(mode="after")
    def _consistent(self) -> "ValidationConfig":
        if self.images_per_class < self.shot + self.query:
            raise ValueError(
                f"images_per_class is {self.images_per_class}, but {self.shot} + {self.query} of a class are needed, "
                "shot + query; raise it"
            )
        return self
