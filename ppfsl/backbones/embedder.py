"""The embedder: pixels -> backbone -> projection -> L2 normalisation.

One that has been finished (`ppfsl.inference.finish`) sees a picture and its mirror image, and straightens out what the
projection makes of them: power transform, centring, whitening.
"""

import math
from dataclasses import asdict, dataclass, replace
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

CENTER, WHITENING = "center", "whitening"
"""What the subtracted vector and the matrix are called among an embedder's weights."""

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
        mirror: whether the backbone's output is the mean over an image and its mirror image.
        power: exponent of the numbers of embeddings, which keep their signs; 1: they stay as they are.
        centered: whether a vector, kept with the weights, is subtracted from embeddings.
        whitened: whether embeddings are then multiplied by a matrix, which is kept with the weights.
    """

    backbone: str
    image_size: int
    channels: int = 3
    projection: int | None = None
    normalization: Literal["unit", "inverted", "signed", "imagenet"] = "imagenet"
    options: tuple[tuple[str, float], ...] = ()
    mirror: bool = False
    power: float = 1.0
    centered: bool = False
    whitened: bool = False

    @property
    def straightens(self) -> bool:
        """Whether anything is done to what the projection gives."""
        return self.power != 1 or self.centered or self.whitened

    def unfinished(self) -> "Architecture":
        """What is trained."""
        return replace(self, mirror=False, power=1.0, centered=False, whitened=False)

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
        power, switches = value.get("power", 1.0), [value.get(key, False) for key in ("mirror", "centered", "whitened")]
        if isinstance(power, bool) or not isinstance(power, int | float) or not 0 < power <= 1:
            raise ValueError(f"embeddings to the power of {power!r}")
        if not all(isinstance(switch, bool) for switch in switches):
            raise TypeError(f"mirror, centered and whitened are {switches}")
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
        if architecture.centered:
            self.register_buffer(CENTER, paddle.zeros([self.dim]))
        if architecture.whitened:
            self.register_buffer(WHITENING, paddle.eye(self.dim))
        # Constants of the architecture, hence not among the weights.
        self.register_buffer("_mean", paddle.to_tensor(mean), persistable=False)
        self.register_buffer("_deviation", paddle.to_tensor(deviation), persistable=False)

    def features(self, images: paddle.Tensor) -> paddle.Tensor:
        """The backbone's output: [N, C, S, S] -> [N, B]."""
        pixels = (images - self._mean) / self._deviation
        if not self.architecture.mirror:
            return self.backbone(pixels)
        return (self.backbone(pixels) + self.backbone(pixels.flip(-1))) / 2

    def project(self, features: paddle.Tensor) -> paddle.Tensor:
        """The projection of the backbone's output, not yet normalised: [N, B] -> [N, D]."""
        projected = features if self.projection is None else self.projection(features)
        if not self.architecture.straightens:
            return projected
        if self.architecture.power != 1:
            projected = projected.sign() * projected.abs().pow(self.architecture.power)
        straight = F.normalize(projected, axis=-1)
        if self.architecture.centered:
            straight = straight - self.center
        return straight @ self.whitening if self.architecture.whitened else straight

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

    Convolutions get He et al.'s normal distribution (2015, fan in), other weights a normal one of variance
    1 / the first dimension: of linear layers their inputs, of LSTMs four times their units. Vectors (biases, batch
    norm) keep their constants.
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
