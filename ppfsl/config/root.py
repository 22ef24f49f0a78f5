"""The root of a configuration: everything that a run does."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from ppfsl.config.adaptations import Adaptation, ClassMeanConfig, FinetuneConfig, as_trained, left_open, needs_trained
from ppfsl.config.backbone import ANY_SIZE, BackboneConfig, EmbeddingConfig
from ppfsl.config.data import DataConfig
from ppfsl.config.evaluation import EvaluationConfig, VerificationConfig
from ppfsl.config.fields import Device, Natural, Strict, Switch, UserPath
from ppfsl.config.objectives import (
    FIXED_WAY,
    CrossEntropyConfig,
    Episodes,
    MemoryAugmentedConfig,
    has_layers,
    trains_method,
)
from ppfsl.config.training import StageConfig, ValidationConfig
from ppfsl.threads import MOST_THREADS


@dataclass(frozen=True)
class _LeftOpen:
    """Of each adaptation, the keys that were left to training; no part of what configurations are compared by."""

    keys: tuple[tuple[str, ...], ...] = field(default=(), compare=False)


class Config(Strict):
    """Everything that a run does."""

    method: str = "baseline"
    """The method's name in tables."""
    seed: Natural = 0
    device: Device = "auto"
    """`auto` takes the GPU where this Paddle has one; `gpu:1` takes the second."""
    threads: Annotated[int, Field(strict=True, ge=1, le=MOST_THREADS)] | Literal["auto"] = "auto"
    """Threads of Paddle's operators on a CPU; auto: as many as there are idle cores, or those that the run which is
    resumed had. `OMP_NUM_THREADS` wins over both. Only runs with the same number of threads have the same last bits."""
    onednn: Switch = True
    """Train and adapt networks on a CPU with the oneDNN library that Paddle ships, two to four times as fast; false:
    Paddle's own way."""
    amp: Literal["none", "O1"] = "none"
    """O1: train networks with 16-bit operators where Paddle deems that safe; on GPUs alone."""
    output_dir: UserPath | None = None
    """Null: output/<name of the configuration>."""
    data: DataConfig = DataConfig()
    backbone: BackboneConfig = BackboneConfig()
    pretrain: tuple[StageConfig, ...] = ()
    validation: ValidationConfig = ValidationConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    adaptations: Annotated[tuple[Adaptation, ...], Field(min_length=1)] = (ClassMeanConfig(name="class_mean"),)
    evaluation: EvaluationConfig = EvaluationConfig()
    verification: VerificationConfig | None = None
    """Null: no verification."""
    _open: _LeftOpen = PrivateAttr(default_factory=_LeftOpen)

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        labels = [adaptation.label or adaptation.name for adaptation in self.adaptations]
        doubled = next((label for label in labels if labels.count(label) > 1), None)
        if doubled is not None:
            raise ValueError(f"two adaptations are called {doubled!r}; give each a label of its own")
        for stage in self.pretrain:
            if self.backbone.projection == "none" and stage.trainable == "projection":
                raise ValueError("trainable: projection needs backbone.projection, which is none")
        if self.pretrain and self.pretrain[0].keep_start and self.backbone.pretrained == "none":
            raise ValueError("pretrain.0.keep_start needs trained weights; set backbone.pretrained, or leave it out")
        last = self.pretrain[-1].objective if self.pretrain else None
        self._open = _LeftOpen(tuple(left_open(adaptation) for adaptation in self.adaptations))
        # In place, since a frozen model's validator may not return another.
        object.__setattr__(self, "adaptations", tuple(as_trained(adaptation, last) for adaptation in self.adaptations))
        for adaptation in filter(needs_trained, self.adaptations):
            if last is None or last.name != adaptation.name or not has_layers(last):
                which = adaptation.name + (" with context: full" if adaptation.name == "matching" else "")
                raise ValueError(
                    f"adaptation {which} needs what the objective {which} learns; make that the last stage of pretrain"
                )
        self._check_way()
        self._check_sizes()
        self._check_embedding()
        self._check_turns()
        return self

    def as_trained_by(self, objective: Mapping[str, Any]) -> "Config":
        """The same with the values that another training's objective had, where adaptations of its name left a key to
        training.

        Args:
            objective: the keys and values of the last stage's.
        """
        adaptations = [
            entry.model_copy(update={key: objective[key] for key in keys if key in objective})
            if entry.name == objective.get("name")
            else entry
            for entry, keys in zip(self.adaptations, self._open.keys, strict=True)
        ]
        return self.model_copy(update={"adaptations": tuple(adaptations)})

    def _check_turns(self) -> None:
        """Where a turned image is another class, no loss can ask for both."""
        if self.data.name != "omniglot" or not self.data.rotations:
            return
        for index, stage in enumerate(self.pretrain):
            if isinstance(stage.objective, CrossEntropyConfig) and stage.objective.rotation_weight:
                raise ValueError(
                    f"pretrain.{index}.objective.rotation_weight does not go with data.rotations, by which a turned "
                    "character is another class; set one of them to 0 or false"
                )

    def _check_embedding(self) -> None:
        """Layers that learned from embeddings as they were, and methods that see images, know no finished ones."""
        if not self.embedding.active:
            return
        last = self.pretrain[-1].objective if self.pretrain else None
        reason = None
        if last is not None and trains_method(last) and has_layers(last):
            reason = f"{last.name}, whose layers go with embeddings as they were in training"
        elif any(isinstance(entry, FinetuneConfig) and entry.trainable == "all" for entry in self.adaptations):
            reason = "finetune with trainable: all, which trains the embedder"
        if reason is not None:
            raise ValueError(f"the keys of embedding do not go with {reason}; leave them out")

    def _check_sizes(self) -> None:
        """Stages whose images have a size of their own need a network for any size, and images large enough."""
        for index, stage in enumerate(self.pretrain):
            if stage.image_size is None or stage.image_size == self.data.image_size:
                continue
            where = f"pretrain.{index}.image_size"
            if self.backbone.name not in ANY_SIZE:
                raise ValueError(
                    f"{where} is {stage.image_size}, but the weights of {self.backbone.name} go with one size; "
                    f"make it data.image_size, {self.data.image_size}, or take {', '.join(ANY_SIZE)}"
                )
            if stage.image_size > self.data.table_size and stage.augmentation.crop != "resized":
                raise ValueError(
                    f"{where} is {stage.image_size}, but cached images have {self.data.table_size} px; "
                    "raise data.cached_size, or set augmentation.crop to resized"
                )

    def check_way(self, key: str, way: int) -> None:
        """Raise where an adaptation has one output per class and serves no evaluated episodes of so many classes.

        Args:
            key: what says how many; it is named.
            way: how many.

        Raises:
            ValueError: naming both.
        """
        adapting = {adaptation.name for adaptation in self.adaptations}
        for name, trained in self._of_one_way():
            if name in adapting:
                _check_equal(key, way, name, trained)

    def _check_way(self) -> None:
        wanted = self.evaluation.support_set
        for name, trained in self._of_one_way():
            _check_equal("validation.way", self.validation.way, name, trained)
        for way in self.evaluation.way:
            self.check_way("evaluation.way", way)
        if wanted.way is not None:
            self.check_way("evaluation.support_set.way", wanted.way)
        if wanted.classes is not None:
            self.check_way("the number of evaluation.support_set.classes", len(wanted.classes))

    def _of_one_way(self) -> Iterator[tuple[str, int]]:
        """Name and way of the objectives whose method serves episodes of that way alone."""
        for objective in (stage.objective for stage in self.pretrain):
            if objective.name in FIXED_WAY and isinstance(objective, Episodes | MemoryAugmentedConfig):
                yield objective.name, objective.way


def _check_equal(key: str, way: int, name: str, trained: int) -> None:
    if way != trained:
        raise ValueError(f"{key} is {way}, but {name} is trained {trained}-way and serves no other; make them equal")
