"""Conv4: four blocks of convolution, batch norm, ReLU and max pooling (Vinyals et al. 2016; Snell et al. 2017)."""

import itertools

import paddle
from paddle import nn


class Conv4(nn.Layer):
    """The four-layer network of the few-shot literature.

    Args:
        in_channels: 3 for RGB, 1 for grey.
        width: channels of every layer; 64 in the papers.

    Input [N, C, S, S], output [N, width * (S // 16) ** 2] (28 px: 64, 84 px: 1600).
    """

    def __init__(self, in_channels: int = 3, width: int = 64) -> None:
        super().__init__()
        channels = [in_channels, width, width, width, width]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2D(before, after, 3, padding=1, bias_attr=False),
                    nn.BatchNorm2D(after),
                    nn.ReLU(),
                    nn.MaxPool2D(2),
                )
                for before, after in itertools.pairwise(channels)
            )
        )

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        """[N, C, S, S] -> [N, D]."""
        return self.blocks(images).flatten(1)

    def last_block(self) -> list[nn.Layer]:
        """What `trainable: last_block` lets learn."""
        return [self.blocks[3]]
