"""What several programs must agree in: networks, episodes, tasks. Runs without ppfsl."""

from typing import NamedTuple

import numpy as np


class Setting(NamedTuple):
    """A network and a batch of images."""

    backbone: str
    pixels: int
    channels: int
    batch: int


NETWORKS = {
    "conv4-28": Setting("conv4", 28, 1, 360),
    "resnet18-84": Setting("resnet18", 84, 3, 64),
    "resnet18-224": Setting("resnet18", 224, 3, 8),
}
TRAINED = ("conv4-28", "resnet18-84")
PRETRAINED = "resnet18-84"
EMBEDDED = ("resnet18-84", "resnet18-224")

LEARNING_RATE = 1e-4


class TaskSetting(NamedTuple):
    """A MAML task on Conv4 with 64 channels, 28 px."""

    way: int = 5
    queries: int = 25
    inner_lr: float = 0.4


TASK = TaskSetting()


def task_images() -> list[np.ndarray]:
    """The support images and the queries of a task: float32 [N, 1, 28, 28], 0..255."""
    chance = np.random.default_rng(0)
    return [chance.integers(0, 256, (count, 1, 28, 28)).astype(np.float32) for count in (TASK.way, TASK.queries)]


class EpisodeSetting(NamedTuple):
    """Episodes on cached embeddings of length one."""

    classes: int = 20
    images_per_class: int = 60
    dim: int = 512
    way: int = 5
    shot: int = 5
    query: int = 15


EPISODES = EpisodeSetting()


class HeadSetting(NamedTuple):
    """Fine-tuning of a cosine head."""

    steps: int = 100
    lr: float = 5e-4
    scale: float = 10.0


HEAD = HeadSetting()


class PhotographSetting(NamedTuple):
    """Training batches of photographs."""

    size: int = 84
    cached_size: int = 96
    batch: int = 64
    area: tuple[float, float] = (0.3, 1.0)
    jitter: float = 0.2


PHOTOGRAPHS = PhotographSetting()
