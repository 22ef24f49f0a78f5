"""`backbone` and `embedding`: the embedder, and what is done to its output once it is trained."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from ppfsl.config.fields import Number, Positive, Size, Strict, Switch, UserPath

ANY_SIZE = ("resnet12", "resnet18", "mobilenet_v1")
"""Backbones that end in a mean over the whole map, so that their weights serve images of any size."""


def _dimension_or_none(value: object) -> object:
    if isinstance(value, str) and value != "none":
        raise ValueError(f"must be a whole number or none, not {value!r}")
    return value


class BackboneConfig(Strict):
    """The embedder: backbone, projection, L2 normalisation."""

    name: Literal["conv4", "koch", "resnet12", "resnet18", "mobilenet_v1"] = "resnet18"
    pretrained: UserPath = "none"
    """`none`, `imagenet` (from Paddle's hub), or the path of a .safetensors, or of a .pdparams file that you trust."""
    normalization: Literal["unit", "inverted", "signed", "imagenet"] = "imagenet"
    """Of pixels p in 0..255. unit: p / 255; inverted: 1 - p / 255, which makes dark ink 1 and white paper 0;
    signed: p / 127.5 - 1; imagenet: by ImageNet's mean and deviation."""
    projection: Annotated[Size | Literal["none"], BeforeValidator(_dimension_or_none)] = 128
    """Dimension of the linear projection behind the backbone."""
    scale: Positive | None = None
    """mobilenet_v1 only: width multiplier, 1.0 by default."""
    width: Size | None = None
    """conv4: channels of each layer, 64 by default; koch: channels of the first layer, 64 by default."""
    pools: Annotated[int, Field(strict=True, ge=1, le=4)] | None = None
    """conv4 only: how many of its blocks halve the image, 4 by default; 2 in Relation Networks."""

    @model_validator(mode="after")
    def _consistent(self) -> "BackboneConfig":
        if self.scale is not None and self.name != "mobilenet_v1":
            raise ValueError(f"scale belongs to mobilenet_v1, not to {self.name}")
        if self.width is not None and self.name not in ("conv4", "koch"):
            raise ValueError(f"width belongs to conv4 and koch, not to {self.name}")
        if self.pools is not None and self.name != "conv4":
            raise ValueError(f"pools belongs to conv4, not to {self.name}")
        return self


class EmbeddingConfig(Strict):
    """How a trained embedder is finished; evaluations, classifiers and exports take the finished one."""

    mirror: Switch = False
    """The backbone's output is the mean over an image and its mirror image, at twice the cost."""
    power: Annotated[Number, Field(gt=0, le=1)] = 1.0
    """Every number of an embedding is taken to this power, its sign kept; 0.5 in Hu et al. 2021."""
    center: Literal["none", "base"] = "none"
    """base: the mean embedding of base images is subtracted (Wang et al. 2019)."""
    whitening: Positive | None = None
    """Makes directions count less in which base images of one class differ much: embeddings are multiplied by
    (S + whitening x v I)^(-1/2), where S is the covariance within base classes and v its mean variance (Hatch et al.
    2006). The greater, the less it changes. Null: not at all."""

    @property
    def active(self) -> bool:
        """Whether it changes anything."""
        return self != EmbeddingConfig()
