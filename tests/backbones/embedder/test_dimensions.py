"""Embedders: dimensions, names, and the images that they refuse."""

from dataclasses import replace

import numpy as np
import pytest
from paddle import nn
from paddle.vision.models import mobilenet_v1, resnet18

from ppfsl.backbones.embedder import Architecture, Embedder, build_embedder
from ppfsl.errors import UserError
from tests.backbones.embedder.small import noise, small


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
