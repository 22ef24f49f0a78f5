"""Write the weights of one of the benchmarks' networks, for PyTorch to start from the same."""

import sys

import numpy as np

from benchmarks.programs.common import report
from benchmarks.settings import NETWORKS
from ppfsl.backbones.embedder import Architecture, Embedder, build_embedder


def build(name: str) -> Embedder:
    """A network of the benchmarks, with running statistics that are not those of a new network."""
    setting = NETWORKS[name]
    embedder = build_embedder(Architecture(setting.backbone, setting.pixels, setting.channels), 0)
    chance = np.random.default_rng(0)
    for key, tensor in embedder.state_dict().items():
        if key.endswith(("._mean", "._variance")):
            low, high = (-0.1, 0.1) if key.endswith("._mean") else (0.8, 1.2)
            tensor.set_value(chance.uniform(low, high, tensor.shape).astype(np.float32))
    return embedder


def main() -> None:
    """Arguments: the network's name and a file; its arrays lie in the order of the layers, which PyTorch's share."""
    name, path = sys.argv[1:]
    state = build(name).backbone.state_dict()
    np.savez(path, *[tensor.numpy() for tensor in state.values()])
    report()


if __name__ == "__main__":
    main()
