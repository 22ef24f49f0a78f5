"""The benchmarks' networks in PyTorch, with the weights that `networks_paddle` wrote. Runs without ppfsl."""

import numpy as np
import torch
from torch import nn

from benchmarks.settings import NETWORKS

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def conv4(channels: int) -> nn.Module:
    """Convolution, batch norm, max pooling, ReLU, four times."""
    blocks: list[nn.Module] = []
    for place in range(4):
        before = 64 if place else channels
        blocks += [nn.Conv2d(before, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.MaxPool2d(2), nn.ReLU()]
    return nn.Sequential(*blocks, nn.Flatten())


class Residual(nn.Module):
    """A basic block of ResNet18."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        shortcut = [nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)]
        self.shortcut = nn.Sequential(*(shortcut if stride > 1 or before != after else []))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] -> [N, C', H', W']."""
        return torch.relu(self.main(maps) + self.shortcut(maps))


def resnet18(channels: int) -> nn.Module:
    """With the stem of the ImageNet networks."""
    stem = [nn.Conv2d(channels, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    widths = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1)]
    widths += [(128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1)]
    return nn.Sequential(*stem, *(Residual(*width) for width in widths), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Normalized(nn.Module):
    """A network of images in 0..255, as ppfsl's embedders are."""

    def __init__(self, network: nn.Module, channels: int) -> None:
        super().__init__()
        self.network = network
        for name, values in (("mean", _MEAN), ("deviation", _DEVIATION)):
            self.register_buffer(name, 255 * torch.tensor(values[:channels]).reshape(1, -1, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[N, C, S, S] -> [N, D]."""
        return self.network((images - self.get_buffer("mean")) / self.get_buffer("deviation"))


def build(name: str, weights: str) -> nn.Module:
    """A network of the benchmarks, with weights from a file: they lie in the order of the layers."""
    setting = NETWORKS[name]
    network = {"conv4": conv4, "resnet18": resnet18}[setting.backbone](setting.channels)
    load(network, weights)
    return Normalized(network, setting.channels)


def load(network: nn.Module, path: str) -> None:
    """Put a file's arrays into a network, in the order of the layers."""
    own = {key: tensor for key, tensor in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    with np.load(path) as arrays:
        values = [torch.from_numpy(arrays[key]) for key in arrays.files]
    if [tuple(tensor.shape) for tensor in own.values()] != [tuple(value.shape) for value in values]:
        raise SystemExit(f"the layers are not those of {path}")
    network.load_state_dict(dict(zip(own, values, strict=True)), strict=False)
