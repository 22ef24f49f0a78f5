"""An embedder's first weights, which the seed alone decides."""

import numpy as np
import paddle
import pytest
from paddle import nn

from ppfsl.backbones.embedder import Architecture, build_embedder, initialize
from tests.backbones.embedder.small import small


def weights(layer: nn.Layer) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in layer.state_dict().items()}


def test_weights_are_a_pure_function_of_the_seed() -> None:
    one = weights(build_embedder(small(projection=6), seed=1))
    paddle.seed(7)
    build_embedder(Architecture("conv4", 16, channels=1), seed=3)  # what else the process builds is no matter
    paddle.rand([5])
    two = weights(build_embedder(small(projection=6), seed=1))
    other = weights(build_embedder(small(projection=6), seed=2))
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name])
        if value.ndim > 1:
            assert not np.isclose(value, other[name]).all()


def test_layers_of_one_shape_differ() -> None:
    embedder = weights(build_embedder(small(), seed=0))
    assert not np.array_equal(embedder["backbone.blocks.1.0.weight"], embedder["backbone.blocks.2.0.weight"])


def test_weights_do_not_depend_on_what_stands_behind_the_backbone() -> None:
    bare, projected = (weights(build_embedder(small(projection=dim), seed=0)) for dim in (None, 6))
    for name, value in bare.items():
        np.testing.assert_array_equal(value, projected[name])


def test_initial_variances() -> None:
    net = nn.Sequential(nn.Conv2D(8, 400, 3), nn.Linear(50, 700), nn.Conv2D(64, 64, 3, groups=64), nn.BatchNorm2D(3))
    initialize(net, 0)
    conv, linear, depthwise, norm = net
    for layer, variance in ((conv, 2 / 72), (linear, 1 / 50), (depthwise, 2 / 9)):
        values = layer.weight.numpy()
        assert values.mean() == pytest.approx(0, abs=5 * np.sqrt(variance / values.size))
        assert values.var() == pytest.approx(variance, rel=8 / np.sqrt(values.size))
        assert not layer.bias.numpy().any()
    assert (norm.weight.numpy() == 1).all()
    assert not norm.bias.numpy().any()


def test_weights_stay_the_same_for_ever() -> None:
    first = weights(build_embedder(small(), seed=0))["backbone.blocks.0.0.weight"].ravel()[:4]
    np.testing.assert_allclose(
        first, [0.014482365921139717, 0.07264655083417892, 0.30577680468559265, -0.6230864524841309], rtol=1e-6
    )


def test_building_leaves_training_mode_and_statistics_alone() -> None:
    embedder = build_embedder(small(projection=6), seed=0)
    assert all(layer.training for layer in embedder.sublayers(include_self=True))
    for name, value in weights(embedder).items():
        if name.endswith("_mean"):
            assert not value.any()
        if name.endswith("_variance"):
            assert (value == 1).all()
