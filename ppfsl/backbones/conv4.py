"""Conv4: four blocks of convolution, batch norm, max pooling and ReLU (Vinyals et al. 2016; Snell et al. 2017)."""

import paddle
import paddle.nn.functional as F
from paddle import nn


class Conv4(nn.Layer):
    """The four-layer network of the few-shot literature.

    Args:
        in_channels: 3 for RGB, 1 for grey.
        width: channels of every layer; 64 in the papers.
        pools: how many of the blocks, from the first on, halve the image: 4 in most papers, 2 in Relation Networks
            (Sung et al. 2018), which compare the maps.

    Input [N, C, S, S], output [N, width * (S // 2 ** pools) ** 2] (28 px: 64, 84 px: 1600).

    Attributes:
        map_channels: channels of the map that the output flattens.
    """

    SMALLEST = 16  # pixels, so that four poolings leave a pixel; Paddle would pool single pixels without a word

    def __init__(self, in_channels: int = 3, width: int = 64, pools: int = 4) -> None:
        super().__init__()
        self.map_channels = width
        self.blocks = nn.Sequential(*(_Block(width if i else in_channels, width, i < pools) for i in range(4)))

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        """[N, C, S, S] -> [N, D]."""
        return self.blocks(images).flatten(1)

    def last_block(self) -> list[nn.Layer]:
        """What `trainable: last_block` lets learn."""
        return [self.blocks[3]]


class _Block(nn.Sequential):
    """Convolution, batch norm, max pooling, ReLU.

    The papers put the ReLU before the pooling, which gives the same numbers: this way it sees a quarter of them.
    """

    def __init__(self, before: int, after: int, pool: bool) -> None:
        super().__init__(nn.Conv2D(before, after, 3, padding=1, bias_attr=False), nn.BatchNorm2D(after))
        self._pool = pool

    def forward(self, maps: paddle.Tensor) -> paddle.Tensor:
        maps = super().forward(maps)
        return F.relu(F.max_pool2d(maps, 2) if self._pool else maps)
