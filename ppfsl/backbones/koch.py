"""The convolutional twin of Koch, Zemel and Salakhutdinov 2015 ("Siamese Neural Networks for One-shot Image
Recognition"), for drawings of 105 x 105 pixels."""

import paddle
import paddle.nn.functional as F
from paddle import nn


class Koch(nn.Layer):
    """Four convolutions with ReLU, three of them followed by max pooling, and a fully connected layer with sigmoid.

    Kernels of 10, 7, 4 and 4 pixels without padding, channels of 1, 2, 2 and 4 times `width`.

    Args:
        in_channels: 1 for grey, 3 for RGB.
        width: channels of the first layer; 64 in the paper.
        side: of the images in pixels; 105 in the paper.

    Input [N, C, side, side], output [N, 64 * width] in 0..1 (4096 numbers in the paper).
    """

    SMALLEST = 65  # pixels, so that the last convolution has something to look at
    FIXED_SIZE = True  # its fully connected layer is made for one size of images

    def __init__(self, in_channels: int = 1, width: int = 64, side: int = 105) -> None:
        super().__init__()
        self.convolutions = nn.LayerList()
        for kernel, before, after in ((10, in_channels, 1), (7, 1, 2), (4, 2, 2), (4, 2, 4)):
            first = kernel == 10
            self.convolutions.append(nn.Conv2D(before if first else before * width, after * width, kernel))
            side = side - kernel + 1
            side = side // 2 if len(self.convolutions) < 4 else side
        self.linear = nn.Linear(4 * width * side * side, 64 * width)

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        """[N, C, S, S] -> [N, 64 * width]."""
        maps = images
        for number, convolution in enumerate(self.convolutions, 1):
            maps = convolution(maps)
            maps = F.relu(F.max_pool2d(maps, 2) if number < 4 else maps)
        return F.sigmoid(self.linear(maps.flatten(1)))

    def last_block(self) -> list[nn.Layer]:
        """What `trainable: last_block` lets learn."""
        return [self.linear]
