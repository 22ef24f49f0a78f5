"""The embedder: pixels -> backbone -> projection -> L2 normalisation."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from ppfsl.backbones.conv4 import Conv4
from ppfsl.backbones.koch import Koch
from ppfsl.backbones.mobilenet_v1 import MobileNetV1
from ppfsl.backbones.resnet12 import ResNet12
from ppfsl.backbones.resnet18 import ResNet18
from ppfsl.errors import UserError
from ppfsl.randomness import generator

_BACKBONES: dict[str, type[nn.Layer]] = {
    "conv4": Conv4,
    "koch": Koch,
    "resnet12": ResNet12,
    "resnet18": ResNet18,
    "mobilenet_v1": MobileNetV1,
}

# Per channel: (p / 255 - mean) / deviation.
_NORMALIZATIONS = {
    "unit": ((0.0,) * 3, (1.0,) * 3),
    "inverted": ((1.0,) * 3, (-1.0,) * 3),
    "signed": ((0.5,) * 3, (0.5,) * 3),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


@dataclass(frozen=True)
class Architecture:
    """All that is needed to build an embedder; every checkpoint carries one.

    Attributes:
        backbone: a name from the configuration reference (`backbone.name`).
        image_size: side of the images in pixels.
        channels: 3 (RGB) or 1 (grey).
        projection: dimension of the linear projection, or None.
        normalization: of the pixels ("unit", "inverted", "signed", "imagenet").
        options: further arguments of the backbone, such as {"scale": 0.75}.
    """

    backbone: str
    image_size: int
    channels: int = 3
    projection: int | None = None
    normalization: Literal["unit", "inverted", "signed", "imagenet"] = "imagenet"
    options: tuple[tuple[str, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "options": dict(self.options)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Architecture":
        """From `to_json`'s values.

        Raises:
            KeyError, TypeError, ValueError: when they are not such values.
        """
        if value["backbone"] not in _BACKBONES:
            raise ValueError(f"there is no backbone {value['backbone']!r}")
        return cls(**{**value, "options": tuple(sorted(dict(value["options"]).items()))})


class Embedder(nn.Layer):
    """Images to embeddings of length one.

    Input float32 [N, C, S, S], pixels in 0..255; output float32 [N, D].

    Attributes:
        dim: D.
        backbone_dim: how many numbers the backbone makes of an image.
        map_shape: (channels, height, width) of what `project` returns flattened; height and width are 1 for vectors.

    Raises:
        UserError: when the backbone does not take such images.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        backbone, size = _BACKBONES[architecture.backbone], architecture.image_size
        if size < backbone.SMALLEST:
            raise UserError(f"data.image_size is {size}; {architecture.backbone} needs {backbone.SMALLEST} px or more")
        self.backbone = _backbone(architecture)
        self.backbone_dim = _output_dim(self.backbone, architecture)
        self.projection = nn.Linear(self.backbone_dim, architecture.projection) if architecture.projection else None
        self.dim: int = architecture.projection or self.backbone_dim
        channels = self.dim if self.projection is not None else getattr(self.backbone, "map_channels", self.dim)
        side = math.isqrt(self.dim // channels)
        self.map_shape: tuple[int, int, int] = (channels, side, side)
        mean, deviation = (
            np.asarray(per_channel[: architecture.channels], dtype=np.float32).reshape(1, -1, 1, 1) * 255
            for per_channel in _NORMALIZATIONS[architecture.normalization]
        )
        # Constants of the architecture, hence not among the weights.
        self.register_buffer("_mean", paddle.to_tensor(mean), persistable=False)
        self.register_buffer("_deviation", paddle.to_tensor(deviation), persistable=False)

    def features(self, images: paddle.Tensor) -> paddle.Tensor:
        """The backbone's output: [N, C, S, S] -> [N, B]."""
        return self.backbone((images - self._mean) / self._deviation)

    def project(self, features: paddle.Tensor) -> paddle.Tensor:
        """The projection of the backbone's output, not yet normalised: [N, B] -> [N, D]."""
        return features if self.projection is None else self.projection(features)

    def projected(self, images: paddle.Tensor) -> paddle.Tensor:
        """What normalisation makes embeddings of: [N, C, S, S] -> [N, D]."""
        return self.project(self.features(images))

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        """Embeddings of length one: [N, C, S, S] -> [N, D]."""
        return F.normalize(self.projected(images), axis=-1)


def backbone_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """The shapes of a backbone's weights by their names in an embedder's `state_dict()`, without room made for them.

    Whoever loads a file that nobody vouches for can so refuse an architecture larger than what the file holds.
    """
    with paddle.LazyGuard():
        layer = _backbone(architecture)
    return {f"backbone.{name}": tuple(tensor.shape) for name, tensor in layer.state_dict().items()}


def build_embedder(architecture: Architecture, seed: int) -> Embedder:
    """An embedder whose weights are a pure function of the architecture and the seed.

    Raises:
        UserError: when the backbone does not take such images.
    """
    embedder = Embedder(architecture)
    initialize(embedder, seed)
    return embedder


def initialize(layer: nn.Layer, seed: int) -> None:
    """Draw every weight with two or more dimensions anew, from a generator keyed by the seed and the weight's name.

    Convolutions get He et al.'s normal distribution (2015, fan in), linear layers a normal one of variance 1 / inputs;
    vectors (biases, batch norm) keep their constants.
    """
    for name, parameter in layer.named_parameters():
        shape = tuple(parameter.shape)
        if len(shape) < 2:
            continue
        variance = 2 / np.prod(shape[1:]) if len(shape) == 4 else 1 / shape[0]
        values = generator(seed, "weights", name).normal(0, np.sqrt(variance), shape)
        parameter.set_value(values.astype(np.float32))


def _backbone(architecture: Architecture) -> nn.Layer:
    backbone = _BACKBONES[architecture.backbone]
    fixed = {"side": architecture.image_size} if getattr(backbone, "FIXED_SIZE", False) else {}
    return backbone(in_channels=architecture.channels, **fixed, **dict(architecture.options))


def _output_dim(backbone: nn.Layer, architecture: Architecture) -> int:
    """How many numbers the backbone makes of one image."""
    size = architecture.image_size
    backbone.eval()
    with paddle.no_grad():
        dim = backbone(paddle.zeros([1, architecture.channels, size, size])).shape[-1]
    backbone.train()
    return int(dim)
