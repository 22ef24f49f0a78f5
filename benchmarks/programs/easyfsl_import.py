"""easyfsl, also where torchvision is a build for GPUs beside a PyTorch for CPUs. Runs without ppfsl."""

import torch

try:
    import torchvision  # noqa: F401
except RuntimeError:
    # PyPI's torchvision cannot load its own operators then, which easyfsl does not need; but it looks for them.
    for _operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{_operator}", "(Tensor dets, Tensor scores, float threshold) -> Tensor")

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
