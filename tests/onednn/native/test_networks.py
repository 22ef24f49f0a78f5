"""Whole networks within the context agree with Paddle."""

from contextlib import nullcontext

import numpy as np
import paddle
import pytest
from paddle.nn.functional import conv2d

from ppfsl.backbones.conv4 import Conv4
from ppfsl.backbones.embedder import initialize
from ppfsl.backbones.koch import Koch
from ppfsl.backbones.mobilenet_v1 import MobileNetV1
from ppfsl.backbones.resnet12 import ResNet12
from ppfsl.backbones.resnet18 import ResNet18
from ppfsl.onednn import convolution, fast_operators
from tests.onednn.native.maps import MAPS, WEIGHT, float32

NETWORKS = {
    "conv4": (lambda: Conv4(width=8), (4, 3, 20, 20), {"convolution": 4, "batch_normalization": 4, "max_pooling": 4}),
    "resnet12": (ResNet12, (2, 3, 16, 16), {"convolution": 16, "batch_normalization": 16, "max_pooling": 4}),
    "resnet18": (ResNet18, (4, 3, 32, 32), {"convolution": 20, "batch_normalization": 20, "max_pooling": 1}),
    "mobilenet_v1": (
        lambda: MobileNetV1(scale=0.25),
        (4, 3, 32, 32),
        {"convolution": 27, "batch_normalization": 27},
    ),
    "koch": (lambda: Koch(in_channels=1, width=4, side=65), (3, 1, 65, 65), {"convolution": 4, "max_pooling": 3}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_backbones_agree_with_paddle_in_output_gradients_and_statistics(calls, near, name):
    make, shape, expected = NETWORKS[name]
    images, results = np.random.default_rng(1).normal(size=shape), []
    for dtype, context in (("float64", nullcontext), ("float32", nullcontext), ("float32", fast_operators)):
        network = make()
        initialize(network, 0)
        network.to(dtype=dtype)
        network.train()
        with context():
            output = network(paddle.to_tensor(images.astype(dtype)))
        factors = np.random.default_rng(2).normal(size=output.shape)
        (output * paddle.to_tensor(factors.astype(dtype))).sum().backward()
        gradients = {n: p.grad.numpy() for n, p in network.named_parameters() if not p.stop_gradient}
        statistics = {n: v.numpy() for n, v in network.state_dict().items() if n.endswith(("_mean", "_variance"))}
        results.append({"output": {"output": output.numpy()}, "gradients": gradients, "statistics": statistics})
    assert calls == expected
    reference, own, fast = results
    assert fast["gradients"].keys() == reference["gradients"].keys()
    for kind in reference:
        if reference[kind]:
            near(fast[kind], reference[kind], 1e-3)
            # Batch norms over a few numbers magnify roundings, Paddle's own too; seen: 3.4 times as large as its own.
            assert distance(fast[kind], reference[kind]) <= 6 * distance(own[kind], reference[kind]) + 1e-6


def distance(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """Of all numbers together, relative."""
    error, whole = (
        np.concatenate([(value - other).ravel() for value, other in pairs])
        for pairs in (
            [(found[name], value) for name, value in expected.items()],
            [(value, 0) for value in expected.values()],
        )
    )
    return float(np.linalg.norm(error) / np.linalg.norm(whole))


def test_networks_in_evaluation_agree_with_paddle(calls):
    network = Conv4(width=8)
    initialize(network, 0)
    network.eval()
    images = float32(np.random.default_rng(1).normal(size=(3, 3, 20, 20)), learning=False)
    own = network(images).numpy()
    with fast_operators():
        fast = network(images).numpy()
    np.testing.assert_allclose(fast, own, atol=1e-5)
    assert calls == {"convolution": 4, "max_pooling": 4}


@pytest.mark.parametrize("kind", [MemoryError, OSError])
def test_lack_of_memory_in_a_backward_pass_is_told_from_errors(monkeypatch, kind):
    def failing(_):
        raise MemoryError("this much") if kind is MemoryError else ValueError("this much")

    monkeypatch.setattr(convolution, "saved", failing)
    with pytest.raises(kind, match="this much"), fast_operators():
        conv2d(float32(MAPS), float32(WEIGHT)).sum().backward()
