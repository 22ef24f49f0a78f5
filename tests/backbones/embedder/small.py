"""A small architecture, and pixels of noise."""

from typing import Any

import numpy as np
import paddle

from ppfsl.backbones.embedder import Architecture
from ppfsl.randomness import generator

WIDTH_4 = (("width", 4),)


def small(**changes: Any) -> Architecture:
    return Architecture(**{"backbone": "conv4", "image_size": 16, "options": WIDTH_4, **changes})


def noise(count: int, size: int, channels: int = 3) -> paddle.Tensor:
    values = generator(0, "pixels").integers(0, 256, (count, channels, size, size))
    return paddle.to_tensor(values.astype(np.float32))
