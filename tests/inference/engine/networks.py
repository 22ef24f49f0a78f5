"""Embedders with statistics of their own, pictures, and what the eager ones make of them."""

import numpy as np
import paddle

from ppfsl.backbones.embedder import Architecture, Embedder, build_embedder
from ppfsl.inference.engine import to_pixels
from ppfsl.randomness import generator

ARCHITECTURES = [
    Architecture("conv4", 28, 1, None, "unit", (("width", 8),)),
    Architecture("conv4", 20, 3, 6, "imagenet", (("width", 8),)),
    Architecture("resnet12", 16, 3, 6),
    Architecture("resnet18", 32, 3, None),
    Architecture("mobilenet_v1", 32, 3, 6, "signed", (("scale", 0.25),)),
    Architecture("conv4", 28, 1, None, "inverted", (("pools", 2), ("width", 8))),
    Architecture("koch", 65, 1, None, "inverted", (("width", 2),)),
]
SMALL = ARCHITECTURES[1]


def pictures(count: int, size: int, channels: int = 3) -> np.ndarray:
    return generator(0, "pictures").integers(0, 256, (count, size, size, channels)).astype(np.uint8)


def trained(architecture: Architecture) -> Embedder:
    """An embedder with statistics of its own in every batch norm."""
    embedder = build_embedder(architecture, 0)
    for name, tensor in embedder.state_dict().items():
        rng = generator(0, "statistics", name)
        if name.endswith("_mean"):
            tensor.set_value(rng.normal(0, 0.1, tensor.shape).astype(np.float32))
        if name.endswith("_variance"):
            tensor.set_value(rng.uniform(0.5, 2, tensor.shape).astype(np.float32))
    return embedder


def eager(embedder: Embedder, images: np.ndarray, output: str = "embedding") -> np.ndarray:
    embedder.eval()
    with paddle.no_grad():
        pixels = paddle.to_tensor(to_pixels(images))
        of = {"embedding": embedder, "projected": embedder.projected, "features": embedder.features}
        result = of[output](pixels).numpy()
    embedder.train()
    return result


def close(one: np.ndarray, other: np.ndarray) -> None:
    np.testing.assert_allclose(one, other, atol=1e-4 * max(1.0, float(np.abs(other).max())))
