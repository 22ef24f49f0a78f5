"""Embedders: dimensions, names, normalisation, and weights that the seed alone decides."""

from dataclasses import replace
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn
from paddle.vision.models import mobilenet_v1, resnet18

from ppfsl.backbones.conv4 import Conv4
from ppfsl.backbones.embedder import Architecture, Embedder, build_embedder, initialize
from ppfsl.errors import UserError
from ppfsl.randomness import generator

WIDTH_4 = (("width", 4),)


def small(**changes: Any) -> Architecture:
    return Architecture(**{"backbone": "conv4", "image_size": 16, "options": WIDTH_4, **changes})


def noise(count: int, size: int, channels: int = 3) -> paddle.Tensor:
    values = generator(0, "pixels").integers(0, 256, (count, channels, size, size))
    return paddle.to_tensor(values.astype(np.float32))


def weights(layer: nn.Layer) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in layer.state_dict().items()}


@pytest.fixture(scope="module")
def resnet() -> Embedder:
    return build_embedder(Architecture("resnet18", 32, projection=8), seed=0)


# --- dimensions and names


@pytest.mark.parametrize(
    ("architecture", "dim"),
    [
        (Architecture("conv4", 28), 64),
        (Architecture("conv4", 28, channels=1), 64),
        (Architecture("conv4", 84), 1600),
        (Architecture("conv4", 16), 64),
        (Architecture("conv4", 47, options=(("width", 5),)), 20),
        (Architecture("conv4", 28, channels=1, options=(("pools", 2),)), 64 * 7 * 7),
        (Architecture("conv4", 20, options=(("pools", 3), ("width", 4))), 16),
        (Architecture("conv4", 16, options=(("pools", 1), ("width", 4))), 256),
        (Architecture("koch", 65, channels=3, options=(("width", 4),)), 256),
        (Architecture("resnet12", 16), 640),
        (Architecture("mobilenet_v1", 32, options=(("scale", 0.75),)), 768),
        (Architecture("mobilenet_v1", 33), 1024),
    ],
    ids=lambda value: f"{value.backbone}-{value.image_size}" if isinstance(value, Architecture) else str(value),
)
def test_output_dimensions(architecture: Architecture, dim: int) -> None:
    embedder = Embedder(architecture)
    assert (embedder.backbone_dim, embedder.dim) == (dim, dim)
    embedder.eval()
    images = noise(2, architecture.image_size, architecture.channels)
    assert embedder.features(images).shape == [2, dim]
    assert embedder(images).shape == [2, dim]


def test_projection_gives_its_own_dimension(resnet: Embedder) -> None:
    assert (resnet.backbone_dim, resnet.dim) == (512, 8)
    resnet.eval()
    assert resnet.features(noise(2, 32)).shape == [2, 512]
    assert resnet(noise(2, 32)).shape == [2, 8]


def shapes(layer: nn.Layer) -> dict[str, list[int]]:
    return {name: tensor.shape for name, tensor in layer.state_dict().items() if not name.startswith("fc.")}


def test_resnet18_bears_paddles_names_and_computes_the_same(resnet: Embedder) -> None:
    theirs = resnet18(num_classes=0)
    assert shapes(resnet.backbone) == shapes(theirs)
    theirs.set_state_dict(resnet.backbone.state_dict())
    theirs.eval()
    resnet.eval()
    images = noise(2, 32) / 255
    np.testing.assert_array_equal(resnet.backbone(images).numpy(), theirs(images).numpy().reshape(2, 512))


def test_resnet18_takes_grey_images() -> None:
    assert build_embedder(Architecture("resnet18", 16, channels=1), seed=0).dim == 512


def test_mobilenet_bears_paddles_names_and_computes_the_same() -> None:
    ours = build_embedder(Architecture("mobilenet_v1", 32, options=(("scale", 0.25),)), seed=0).backbone
    theirs = mobilenet_v1(scale=0.25, num_classes=0)
    assert shapes(ours) == shapes(theirs)
    theirs.set_state_dict(ours.state_dict())
    theirs.eval()
    ours.eval()
    images = noise(2, 32) / 255
    np.testing.assert_array_equal(ours(images).numpy(), theirs(images).numpy().reshape(2, 256))


MAPS: list[tuple[Architecture, tuple[int, int, int]]] = [
    (Architecture("conv4", 28, options=(("pools", 2),)), (64, 7, 7)),
    (Architecture("conv4", 28), (64, 1, 1)),
    (Architecture("conv4", 84, options=(("width", 8),)), (8, 5, 5)),
    (Architecture("conv4", 84, options=(("pools", 2), ("width", 2))), (2, 21, 21)),
    (Architecture("koch", 65, 1, options=(("width", 4),)), (256, 1, 1)),
    (Architecture("resnet12", 16), (640, 1, 1)),
    (Architecture("resnet18", 32), (512, 1, 1)),
    (Architecture("mobilenet_v1", 32, options=(("scale", 0.25),)), (256, 1, 1)),
]


@pytest.mark.parametrize(("architecture", "shape"), MAPS, ids=lambda value: getattr(value, "backbone", str(value)))
@pytest.mark.parametrize("projection", [None, 6])
def test_map_shape(architecture: Architecture, shape: tuple[int, int, int], projection: int | None) -> None:
    embedder = Embedder(replace(architecture, projection=projection))
    assert embedder.map_shape == (shape if projection is None else (projection, 1, 1))
    assert embedder.dim == np.prod(embedder.map_shape)


def test_map_is_what_the_output_flattens() -> None:
    embedder = build_embedder(small(image_size=20, options=(("pools", 2), ("width", 4))), seed=0)
    embedder.eval()
    images = noise(3, 20)
    maps = embedder.backbone.blocks((images - embedder._mean) / embedder._deviation)
    assert tuple(maps.shape) == (3, *embedder.map_shape) == (3, 4, 5, 5)
    np.testing.assert_array_equal(embedder.projected(images).numpy().reshape(maps.shape), maps.numpy())


@pytest.mark.parametrize("name", ["conv4", "resnet12", "mobilenet_v1"])
def test_last_block_is_the_end_of_the_backbone(name: str) -> None:
    backbone = Embedder(Architecture(name, 16)).backbone
    inside = {id(p) for layer in backbone.last_block() for p in layer.parameters()}
    own = [id(p) in inside for p in backbone.parameters()]
    assert 0 < sum(own) < len(own)
    assert own == sorted(own)  # first those before, then the block's


def test_last_block_of_koch() -> None:
    backbone = Embedder(Architecture("koch", 65, 1, options=(("width", 2),))).backbone
    (block,) = backbone.last_block()
    assert [id(p) for p in block.parameters()] == [id(p) for p in backbone.parameters()][-2:]


def test_last_block_of_resnet18(resnet: Embedder) -> None:
    (block,) = resnet.backbone.last_block()
    assert block is resnet.backbone.layer4


def test_weights_hold_no_constants(resnet: Embedder) -> None:
    names = set(resnet.state_dict())
    assert {name.partition(".")[0] for name in names} == {"backbone", "projection"}
    assert {name for name in names if name.startswith("projection")} == {"projection.weight", "projection.bias"}


# --- what it computes


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


# --- refusals


@pytest.mark.parametrize("backbone", ["conv4", "resnet12", "resnet18", "mobilenet_v1"])
def test_too_small_images_are_refused(backbone: str) -> None:
    with pytest.raises(UserError, match=rf"^data\.image_size is 15; {backbone} needs 16 px or more$"):
        Embedder(Architecture(backbone, 15))


def test_koch_refuses_images_that_its_convolutions_use_up() -> None:
    with pytest.raises(UserError, match=r"^data\.image_size is 64; koch needs 65 px or more$"):
        Embedder(Architecture("koch", 64, 1))


def test_mobilenet_refuses_grey_images() -> None:
    with pytest.raises(UserError, match=r"mobilenet_v1 takes RGB images; set data\.channels to 3"):
        Embedder(Architecture("mobilenet_v1", 32, channels=1))


# --- weights and the seed


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


# --- architectures as JSON


def test_architecture_round_trip() -> None:
    for architecture in (
        small(),
        Architecture("mobilenet_v1", 224, 3, 128, "signed", (("scale", 0.75),)),
        Architecture("conv4", 28, 1, None, "inverted", (("pools", 2), ("width", 8))),
        Architecture("koch", 105, 1),
        small(mirror=True, power=0.5, centered=True, whitened=True),
    ):
        assert Architecture.from_json(architecture.to_json()) == architecture
    assert small().to_json()["options"] == {"width": 4}


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": "vgg"},
        {"options": None},
        {"options": 3},
        {"options": ["x"]},
        {"heads": 4},
        {"power": 0},
        {"power": 1.5},
        {"power": True},
        {"power": float("nan")},
        {"power": "0.5"},
        {"mirror": 1},
        {"centered": "no"},
        {"whitened": None},
    ],
)
def test_other_values_are_no_architecture(changes: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Architecture.from_json({**small().to_json(), **changes})


def test_architectures_of_before_embedders_were_finished_are_not() -> None:
    value = small().to_json()
    for key in ("mirror", "power", "centered", "whitened"):
        del value[key]
    assert Architecture.from_json(value) == small()


def test_unfinished_architectures() -> None:
    assert small(mirror=True, power=0.5, centered=True, whitened=True).unfinished() == small() == small().unfinished()
    assert not small(mirror=True).straightens
    assert small(power=0.5).straightens
    assert small(centered=True).straightens
    assert small(whitened=True).straightens


def test_incomplete_values_are_no_architecture() -> None:
    for key in ("backbone", "image_size", "options"):
        value = small().to_json()
        del value[key]
        with pytest.raises((KeyError, TypeError)):
            Architecture.from_json(value)
