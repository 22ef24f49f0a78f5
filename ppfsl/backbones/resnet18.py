"""ResNet18 (He et al. 2016), from `paddle.vision`."""

import paddle
from paddle import nn
from paddle.vision.models import ResNet, resnet18


class ResNet18(ResNet):
    """`paddle.vision.models.resnet18` without its classifier, under the same parameter names.

    Input [N, C, S, S], output [N, 512], the mean over positions.
    """

    SMALLEST = 16  # pixels

    def __init__(self, in_channels: int = 3) -> None:
        from paddle.vision.models.resnet import BasicBlock

        super().__init__(BasicBlock, depth=18, num_classes=0)
        if in_channels != 3:
            self.conv1 = nn.Conv2D(in_channels, 64, 7, stride=2, padding=3, bias_attr=False)

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        """[N, C, S, S] -> [N, 512]."""
        return super().forward(images).flatten(1)

    def last_block(self) -> list[nn.Layer]:
        """What `trainable: last_block` lets learn."""
        return [self.layer4]


def imagenet_weights() -> dict[str, paddle.Tensor]:
    """ImageNet weights from Paddle's hub, without the classifier's; downloads them at the first call."""
    return {name: value for name, value in resnet18(pretrained=True).state_dict().items() if not name.startswith("fc.")}
