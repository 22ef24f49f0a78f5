"""Images to be changed, and the change."""

import math
from typing import Any

import numpy as np

from ppfsl.config import AugmentationConfig
from ppfsl.data.augmentation import augment
from ppfsl.randomness import generator


def noise(count: int = 4, size: int = 20, channels: int = 3) -> np.ndarray:
    return generator(0, "noise").integers(0, 256, (count, size, size, channels)).astype(np.uint8)


def smooth(size: int, channels: int = 3) -> np.ndarray:
    """One picture of soft waves: uint8 [1, size, size, channels]."""
    y, x, c = np.mgrid[:size, :size, :channels]
    waves = 128 + 60 * np.sin(2 * math.pi * (x + 3 * c) / size) + 60 * np.cos(3 * math.pi * y / size)
    return waves.round().astype(np.uint8)[None]


def run(images: np.ndarray, size: int, key: int = 0, **changes: Any) -> np.ndarray:
    return augment(images, size, AugmentationConfig(**changes), generator(0, "augment", key))


def pixels(images: np.ndarray) -> np.ndarray:
    """As `augment` lays them out, unchanged."""
    return images.transpose(0, 3, 1, 2).astype(np.float32)
