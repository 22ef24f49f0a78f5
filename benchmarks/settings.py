"""What the benchmarks of training measure: the same networks for Paddle and PyTorch."""

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
    "resnet18-84": Setting("resnet18", 84, 3, 32),
    "mobilenet_v1-128": Setting("mobilenet_v1", 128, 3, 32, (("scale", 0.75),)),
}
STEPS = 6
"""Training steps of each process; the fastest counts."""


class TaskSetting(NamedTuple):
    """A MAML task on Conv4 with 64 channels, 28 px."""

    way: int = 5
    queries: int = 25
    inner_lr: float = 0.4


TASK = TaskSetting()
TASKS = 10
"""Tasks of each process; the fastest counts."""
