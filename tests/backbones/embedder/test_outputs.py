"""What embedders compute: backbones layer by layer, and what comes before and behind them."""

from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn

from ppfsl.backbones.conv4 import Conv4
from ppfsl.backbones.embedder import Architecture, Embedder, build_embedder, initialize
from ppfsl.randomness import generator
from tests.backbones.embedder.small import noise, small


@pytest.mark.parametrize(("pools", "side"), [(4, 16), (4, 21), (3, 19), (2, 17), (1, 16)])
@pytest.mark.parametrize("training", [True, False])
def test_conv4_pools_before_relu_what_the_papers_pool_after_it(pools: int, side: int, training: bool) -> None:
    """Layer by layer: convolution, batch norm, ReLU, then max pooling in the first blocks."""
    backbone = Conv4(in_channels=2, width=5, pools=pools)
    initialize(backbone, 0)
    for block in backbone.blocks:
        for name in ("weight", "bias", "_mean"):
            values = generator(0, "norm", name).normal(0.2, 0.5, 5)  # negative factors too, which turn the order round
            getattr(block[1], name).set_value(values.astype(np.float32))
    images = paddle.to_tensor(generator(0, "images").standard_normal((3, 2, side, side)).astype(np.float32))
    backbone.train() if training else backbone.eval()
    statistics = {name: value.numpy() for name, value in backbone.state_dict().items()}
    found = backbone(images).numpy()
    backbone.set_state_dict(statistics)
    maps = images
    for place, block in enumerate(backbone.blocks):
        maps = F.relu(block[1](block[0](maps)))
        if place < pools:
            maps = F.max_pool2d(maps, 2)
    np.testing.assert_array_equal(found, maps.numpy().reshape(3, -1))
    assert found.shape == (3, 5 * (side // 2**pools) ** 2)
    assert found.any()


def test_koch_gives_numbers_between_0_and_1_as_the_paper_builds_it() -> None:
    """Kernels of 10, 7, 4 and 4 pixels, 64, 128, 128 and 256 channels, then 9216 inputs to 4096 units."""
    embedder = build_embedder(Architecture("koch", 105, 1, normalization="inverted"), seed=0)
    state = embedder.backbone.state_dict()
    assert {name: tensor.shape for name, tensor in state.items() if name.endswith("weight")} == {
        "convolutions.0.weight": [64, 1, 10, 10],
        "convolutions.1.weight": [128, 64, 7, 7],
        "convolutions.2.weight": [128, 128, 4, 4],
        "convolutions.3.weight": [256, 128, 4, 4],
        "linear.weight": [9216, 4096],
    }
    found = embedder.projected(noise(1, 105, 1)).numpy()
    assert found.shape == (1, 4096)
    assert 0 <= found.min() < 0.4
    assert 0.6 < found.max() <= 1


def test_koch_layer_by_layer() -> None:
    embedder = build_embedder(Architecture("koch", 70, 1, normalization="inverted", options=(("width", 2),)), seed=0)
    backbone, images = embedder.backbone, noise(2, 70, 1)
    found = embedder.projected(images).numpy()
    assert found.shape == (2, 128)
    assert (found > 0).all()
    assert (found < 1).all()
    assert found.std() > 0.01
    maps = 1 - images / 255
    for place, convolution in enumerate(backbone.convolutions):
        maps = F.relu(F.conv2d(maps, convolution.weight, convolution.bias))
        if place < 3:
            maps = F.max_pool2d(maps, 2)
    expected = 1 / (1 + np.exp(-(maps.flatten(1).numpy() @ backbone.linear.weight.numpy())))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_embeddings_have_length_one() -> None:
    for projection in (None, 6):
        embedder = build_embedder(small(projection=projection), seed=0)
        for training in (False, True):
            embedder.train() if training else embedder.eval()
            lengths = np.linalg.norm(embedder(noise(5, 16)).numpy(), axis=1)
            np.testing.assert_allclose(lengths, 1, atol=1e-5)


def test_embedding_is_the_normalised_projection_of_the_features() -> None:
    embedder = build_embedder(small(projection=6), seed=0)
    embedder.eval()
    images = noise(3, 16)
    features = embedder.features(images).numpy().astype(np.float64)
    projected = features @ embedder.projection.weight.numpy() + embedder.projection.bias.numpy()
    np.testing.assert_allclose(embedder.project(embedder.features(images)).numpy(), projected, atol=1e-5)
    expected = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    np.testing.assert_allclose(embedder(images).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("normalization", "mean", "deviation"),
    [
        ("unit", [0, 0, 0], [1, 1, 1]),
        ("signed", [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
        ("inverted", [1, 1, 1], [-1, -1, -1]),
        ("imagenet", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_normalised(normalization: Any, mean: list[float], deviation: list[float], channels: int) -> None:
    embedder = Embedder(small(normalization=normalization, channels=channels))
    images = noise(2, 16, channels)
    seen: list[np.ndarray] = []

    class Eye(nn.Layer):
        def forward(self, images: paddle.Tensor) -> paddle.Tensor:
            seen.append(images.numpy())
            return images.flatten(1)

    embedder.backbone = Eye()
    embedder.features(images)
    for channel in range(channels):
        expected = (images.numpy()[:, channel].astype(np.float64) / 255 - mean[channel]) / deviation[channel]
        np.testing.assert_allclose(seen[0][:, channel], expected, atol=1e-5)


def test_inverted_paper_is_0_and_ink_is_1() -> None:
    embedder = Embedder(small(normalization="inverted", channels=1))
    seen: list[float] = []

    class Eye(nn.Layer):
        def forward(self, images: paddle.Tensor) -> paddle.Tensor:
            seen.extend(images.flatten().tolist()[:2])
            return images.flatten(1)

    embedder.backbone = Eye()
    images = np.zeros((1, 1, 16, 16), dtype=np.float32)
    images[0, 0, 0, 0] = 255
    embedder.features(paddle.to_tensor(images))
    assert seen == [0, 1]
