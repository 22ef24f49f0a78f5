"""Time training steps of the same networks in PyTorch: one process; prints JSON. Runs without ppfsl."""

import argparse
import json
import os
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import nn

from benchmarks.settings import NETWORKS, STEPS


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


def mobilenet_v1(channels: int, scale: float) -> nn.Module:
    """Depthwise and pointwise convolutions."""

    def width(full: int) -> int:
        return int(full * scale)

    def block(before: int, after: int, kernel: int, stride: int, groups: int) -> list[nn.Module]:
        convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
        return [convolution, nn.BatchNorm2d(after), nn.ReLU()]

    layers = block(channels, width(32), 3, 2, 1)
    plan = [(32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)]
    plan += [(512, 512, 1)] * 5 + [(512, 1024, 2), (1024, 1024, 1)]
    for before, after, stride in plan:
        layers += block(width(before), width(before), 3, stride, width(before))
        layers += block(width(before), width(after), 1, 1, 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def main() -> None:
    """Forward, backward and an Adam step on random images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("way", choices=["torch"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    setting = NETWORKS[arguments.network]
    builders: dict[str, Any] = {"conv4": conv4, "resnet18": resnet18, "mobilenet_v1": mobilenet_v1}
    network = builders[setting.backbone](setting.channels, **dict(setting.options))
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    shape = (setting.batch, setting.channels, setting.pixels, setting.pixels)
    images = torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    seconds = []
    for _ in range(STEPS):
        start = time.perf_counter()
        loss = network(images).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"images_per_second": setting.batch / min(seconds)}))


if __name__ == "__main__":
    main()
