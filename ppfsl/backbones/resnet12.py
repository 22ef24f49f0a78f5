"""ResNet12: the residual network of the few-shot literature (Oreshkin et al. 2018; Lee et al. 2019)."""

import itertools

import paddle
import paddle.nn.functional as F
from paddle import nn


class ResNet12(nn.Layer):
    """Four residual blocks of three convolutions with 64, 160, 320 and 640 channels (Lee et al. 2019).

    Without the DropBlock of that paper. Input [N, C, S, S], output [N, 640], the mean over positions.
    """

    SMALLEST = 16  # pixels

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        channels = [in_channels, 64, 160, 320, 640]
        self.blocks = nn.Sequential(*(_Block(a, b) for a, b in itertools.pairwise(channels)))

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        """[N, C, S, S] -> [N, 640]."""
        return self.blocks(images).mean(axis=[2, 3])

    def last_block(self) -> list[nn.Layer]:
        """What `trainable: last_block` lets learn."""
        return [self.blocks[3]]


class _Block(nn.Layer):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        layers: list[nn.Layer] = []
        for index in range(3):
            layers.append(nn.Conv2D(before if index == 0 else after, after, 3, padding=1, bias_attr=False))
            layers.append(nn.BatchNorm2D(after))
            if index < 2:
                layers.append(nn.LeakyReLU(0.1))
        self.body = nn.Sequential(*layers)
        self.shortcut = nn.Sequential(nn.Conv2D(before, after, 1, bias_attr=False), nn.BatchNorm2D(after))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return F.max_pool2d(F.leaky_relu(self.body(x) + self.shortcut(x), 0.1), 2)
