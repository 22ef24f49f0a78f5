"""What several programs must agree in: networks, episodes, tasks. Runs without ppfsl."""

from typing import NamedTuple


class Setting(NamedTuple):
    """A network and a batch of images."""

    backbone: str
    pixels: int
    channels: int
    batch: int
    options: tuple[tuple[str, float], ...] = ()


NETWORKS = {
    "conv4-28": Setting("conv4", 28, 1, 360),
    "conv4-84": Setting("conv4", 84, 3, 64),
    "resnet18-84": Setting("resnet18", 84, 3, 64),
    "resnet18-224": Setting("resnet18", 224, 3, 16),
    "mobilenet_v1-128": Setting("mobilenet_v1", 128, 3, 32, (("scale", 0.75),)),
}
TRAINED = ("conv4-28", "conv4-84", "resnet18-84", "mobilenet_v1-128")
EMBEDDED = ("resnet18-84", "resnet18-224")

LEARNING_RATE = 1e-4


class TaskSetting(NamedTuple):
    """A MAML task on Conv4 with 64 channels, 28 px."""

    way: int = 5
    queries: int = 25
    inner_lr: float = 0.4


TASK = TaskSetting()


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
