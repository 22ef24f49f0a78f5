"""The exported embedder gives what the eager one does, image by image, and leaves it as it was."""

from typing import Any

import numpy as np
import paddle
import pytest

from ppfsl.backbones.embedder import Architecture
from ppfsl.backbones.weights import weights_of
from ppfsl.data.augmentation import center_crop
from ppfsl.distances import normalized
from ppfsl.inference.engine import embed, to_pixels
from ppfsl.randomness import generator
from tests.inference.engine.networks import ARCHITECTURES, SMALL, close, eager, pictures, trained


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: f"{a.backbone}-{a.image_size}")
def test_embeddings_equal_eager_ones(architecture: Architecture) -> None:
    embedder = trained(architecture)
    images = pictures(5, architecture.image_size, architecture.channels)
    found = embed(embedder, images, np.arange(5), batch_size=2)
    assert found.shape == (5, embedder.dim)
    assert found.dtype == np.float32
    close(found, eager(embedder, images))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES[1::3], ids=lambda a: a.backbone)
def test_features_equal_eager_ones(architecture: Architecture) -> None:
    embedder = trained(architecture)
    images = pictures(5, architecture.image_size)
    found = embed(embedder, images, np.arange(5), "features")
    assert found.shape == (5, embedder.backbone_dim)
    close(found, eager(embedder, images, "features"))


@pytest.mark.parametrize(
    "architecture", [*ARCHITECTURES[:2], *ARCHITECTURES[5:]], ids=lambda a: f"{a.backbone}-{a.image_size}"
)
def test_projected_outputs_equal_eager_ones_and_are_embeddings_once_normalised(architecture: Architecture) -> None:
    embedder = trained(architecture)
    images = pictures(5, architecture.image_size, architecture.channels)
    found = embed(embedder, images, np.arange(5), "projected", batch_size=3)
    assert found.shape == (5, embedder.dim)
    close(found, eager(embedder, images, "projected"))
    assert np.abs(np.linalg.norm(found, axis=1) - 1).min() > 1e-2, "they are to be of any length"
    close(normalized(found), embed(embedder, images, np.arange(5)))


def test_normalised_vectors_have_length_one_and_zero_stays_zero() -> None:
    vectors = generator(0, "vectors").standard_normal((4, 6)).astype(np.float32) * np.float32([[1e-3], [1], [1e4], [0]])
    found = normalized(vectors)
    assert found.dtype == np.float32
    assert found.shape == (4, 6)
    for one, vector in zip(found[:3], vectors[:3], strict=True):
        np.testing.assert_allclose(one, vector / np.sqrt((vector.astype(np.float64) ** 2).sum()), rtol=1e-6)
    assert not found[3].any()
    assert normalized(vectors[:0]).shape == (0, 6)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_rows_decide_images_and_order(batch_size: int) -> None:
    embedder, images = trained(SMALL), pictures(8, 20)
    expected = eager(embedder, images)
    rows = np.asarray([7, 0, 3, 3, 5])
    close(embed(embedder, images, rows, batch_size=batch_size), expected[rows])
    assert np.abs(expected[:, None] - expected[None])[~np.eye(8, dtype=bool)].max() > 1e-2


def test_no_rows_give_no_embeddings() -> None:
    assert embed(trained(SMALL), pictures(2, 20), np.arange(0)).shape == (0, 6)


def test_larger_images_are_cropped_at_the_centre() -> None:
    embedder, images = trained(SMALL), pictures(4, 27)
    close(embed(embedder, images, np.arange(4)), eager(embedder, center_crop(images, 20)))


def test_table_is_read_a_batch_at_a_time() -> None:
    largest = 0

    class Images(np.ndarray):
        def __getitem__(self, key: Any) -> Any:
            nonlocal largest
            if isinstance(key, np.ndarray):
                largest = max(largest, len(key))
            return super().__getitem__(key)

    embed(trained(SMALL), pictures(10, 20).view(Images), np.arange(10), batch_size=3)
    assert largest == 3


@pytest.mark.parametrize("output", ["embedding", "projected", "features"])
def test_embedder_is_left_as_it_was(output: Any) -> None:
    embedder = trained(SMALL)
    embedder.train()
    embedder.backbone.blocks[1].eval()
    frozen = embedder.projection.bias
    frozen.stop_gradient = True
    modes = [layer.training for layer in embedder.sublayers(include_self=True)]
    assert True in modes
    assert False in modes
    before, names = weights_of(embedder), [parameter.name for parameter in embedder.parameters()]
    embed(embedder, pictures(3, 20), np.arange(3), output)
    assert [layer.training for layer in embedder.sublayers(include_self=True)] == modes
    assert [parameter.name for parameter in embedder.parameters()] == names
    assert [p.stop_gradient for p in embedder.projection.parameters()] == [False, True]
    for name, value in weights_of(embedder).items():
        np.testing.assert_array_equal(value, before[name])
    loss = embedder(paddle.to_tensor(to_pixels(pictures(3, 20)))).sum()  # and it still trains
    loss.backward()
    assert embedder.backbone.blocks[0][0].weight.grad is not None


def test_weights_of_the_moment_are_used() -> None:
    embedder, images = trained(SMALL), pictures(3, 20)
    first = embed(embedder, images, np.arange(3))
    bias = embedder.projection.bias
    bias.set_value(bias + 1)
    second = embed(embedder, images, np.arange(3))
    assert np.abs(first - second).max() > 1e-2
    close(second, eager(embedder, images))


def test_training_mode_comes_back_after_an_error() -> None:
    embedder = trained(SMALL)
    with pytest.raises(IndexError):
        embed(embedder, pictures(3, 20), np.asarray([5]))
    assert all(layer.training for layer in embedder.sublayers(include_self=True))


def test_pixels_keep_their_values() -> None:
    images = pictures(2, 5)
    found = to_pixels(images)
    assert found.dtype == np.float32
    assert found.flags["C_CONTIGUOUS"]
    assert found.shape == (2, 3, 5, 5)
    assert found[1, 2, 3, 4] == images[1, 3, 4, 2]
    assert np.array_equal(found, images.transpose(0, 3, 1, 2))
