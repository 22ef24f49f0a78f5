"""easyfsl, also where torchvision is a build for GPUs beside a PyTorch for CPUs. Runs without ppfsl."""

from typing import Any

import torch
from torch.utils.data import Sampler

try:
    import torchvision  # noqa: F401
except RuntimeError:
    # PyPI's torchvision cannot load its own operators then, which easyfsl does not need; but it looks for them.
    for _operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{_operator}", "(Tensor dets, Tensor scores, float threshold) -> Tensor")

if Sampler.__init__ is object.__init__:
    # PyTorch's samplers no longer take the data set, which easyfsl 1.5's still hands them.
    def _without_data_source(self: Any, data_source: Any = None) -> None:
        """Nothing is to be done."""

    Sampler.__init__ = _without_data_source

from easyfsl.datasets import FeaturesDataset
from easyfsl.methods import FewShotClassifier, Finetune, PrototypicalNetworks, SimpleShot
from easyfsl.samplers import TaskSampler
from easyfsl.utils import evaluate

__all__ = [
    "FeaturesDataset",
    "FewShotClassifier",
    "Finetune",
    "PrototypicalNetworks",
    "SimpleShot",
    "TaskSampler",
    "evaluate",
]
