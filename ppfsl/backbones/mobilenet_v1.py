"""MobileNetV1 (Howard et al. 2017), from `paddle.vision`."""

import paddle
from paddle import nn
from paddle.vision.models import MobileNetV1 as PaddleMobileNetV1
from paddle.vision.models import mobilenet_v1

from ppfsl.errors import UserError


class MobileNetV1(PaddleMobileNetV1):
    """`paddle.vision.models.mobilenet_v1` without its classifier, under the same parameter names.

    Args:
        in_channels: 3; the network has no other.
        scale: width multiplier.

    Input [N, 3, S, S], output [N, 1024 * scale], the mean over positions.
    """

    SMALLEST = 16  # pixels

    def __init__(self, in_channels: int = 3, scale: float = 1.0) -> None:
        if in_channels != 3:
            raise UserError("backbone.name: mobilenet_v1 takes RGB images; set data.channels to 3")
        super().__init__(scale=scale, num_classes=0)

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        """[N, 3, S, S] -> [N, 1024 * scale]."""
        return super().forward(images).flatten(1)

    def last_block(self) -> list[nn.Layer]:
        """What `trainable: last_block` lets learn: the last two depthwise-separable convolutions."""
        return [self.dwsl[-2], self.dwsl[-1]]


def imagenet_weights(scale: float = 1.0) -> dict[str, paddle.Tensor]:
    """ImageNet weights from Paddle's hub, without the classifier's; downloads them at the first call."""
    network = mobilenet_v1(pretrained=True, scale=scale)
    return {name: value for name, value in network.state_dict().items() if not name.startswith("fc.")}
