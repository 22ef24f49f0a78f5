"""The exported embedder gives what the eager one does, image by image, and leaves it as it was."""

import dataclasses
import warnings
from typing import Any

import numpy as np
import paddle
import pytest

from ppfsl.backbones.embedder import Architecture, Embedder, build_embedder
from ppfsl.backbones.weights import weights_of
from ppfsl.data.augmentation import center_crop
from ppfsl.distances import normalized
from ppfsl.inference import engine, saved
from ppfsl.inference.engine import embed, to_pixels
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


@pytest.fixture(autouse=True)
def nothing_exported_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_kept", {})


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is exported, as it is."""
    exported: list[Any] = []
    really = engine._export

    def recorded(layer: Any, shape: Any) -> Any:
        exported.append(shape)
        return really(layer, shape)

    monkeypatch.setattr(engine, "_export", recorded)
    return exported


@pytest.fixture(autouse=True)
def few_are_exported_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else these tests' handful of images would be embedded eagerly."""
    monkeypatch.setattr(engine, "FEW", 0)


@pytest.fixture(autouse=True)
def no_warnings() -> Any:
    """Falling back to eager would hide what these tests are about."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Paddle Inference")
        yield


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


def test_the_same_weights_are_exported_once_per_output(exports: list[Any]) -> None:
    images = pictures(3, 20)
    first = embed(trained(SMALL), images, np.arange(3))
    assert np.array_equal(embed(trained(SMALL), images, np.arange(3)), first)
    assert len(exports) == 1
    embed(trained(SMALL), images, np.arange(3), "features")
    embed(trained(SMALL), images, np.arange(3))
    assert len(exports) == 2


def test_architectures_of_the_same_weights_are_told_apart(exports: list[Any]) -> None:
    """The normalisation of pixels is none of them."""
    images = pictures(3, 20)
    first, other = trained(SMALL), trained(dataclasses.replace(SMALL, normalization="signed"))
    assert engine.weights_digest(first) == engine.weights_digest(other)
    embed(first, images, np.arange(3))
    close(embed(other, images, np.arange(3)), eager(other, images))
    assert len(exports) == 2


def test_onednn_runs_it_with_the_threads_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    really = saved.inference.create_predictor

    def create(config: Any) -> Any:
        found.append((config.mkldnn_enabled(), config.cpu_math_library_num_threads()))
        return really(config)

    monkeypatch.setattr(saved.inference, "create_predictor", create)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    embed(trained(SMALL), pictures(2, 20), np.arange(2))
    assert found == [(True, 3)]


@pytest.mark.parametrize(("asked", "exported"), [(3, 0), (4, 1), (None, 1)])
def test_nothing_is_exported_for_a_few_images(
    asked: int | None, exported: int, exports: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "FEW", 3)
    embedder, images = trained(SMALL), pictures(3, 16)
    embedder.train()
    run = engine.predictor(embedder, asked)
    close(run(engine.to_pixels(images)), eager(embedder, images))
    assert len(exports) == exported


@pytest.mark.parametrize(("count", "exported"), [(3, 0), (4, 1)])
def test_a_few_images_of_a_table_are_embedded_without_an_export(
    count: int, exported: int, exports: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "FEW", 3)
    embedder, images = trained(SMALL), pictures(6, 20)
    close(embed(embedder, images, np.arange(count), batch_size=2), eager(embedder, images[:count]))
    assert len(exports) == exported


def test_few_exported_networks_are_kept(exports: list[Any]) -> None:
    embedder, images = trained(SMALL), pictures(3, 20)
    assert embedder.projection is not None
    for number in range(4):
        embedder.projection.bias.set_value(embedder.projection.bias + number)
        embed(embedder, images, np.arange(3))
    assert len(exports) == 4 and len(engine._kept) == engine._MOST_KEPT
    embed(embedder, images, np.arange(3))
    assert len(exports) == 4


def test_statistics_count_among_the_weights(exports: list[Any]) -> None:
    embedder, images = trained(SMALL), pictures(3, 20)
    first = embed(embedder, images, np.arange(3))
    mean = next(value for name, value in embedder.state_dict().items() if name.endswith("_mean"))
    mean.set_value(mean + 0.5)
    assert np.abs(embed(embedder, images, np.arange(3)) - first).max() > 1e-3
    assert len(exports) == 2


def test_training_mode_comes_back_after_an_error() -> None:
    embedder = trained(SMALL)
    with pytest.raises(IndexError):
        embed(embedder, pictures(3, 20), np.asarray([5]))
    assert all(layer.training for layer in embedder.sublayers(include_self=True))


def test_embedder_that_cannot_be_exported_runs_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(engine, "_export", fail)
    embedder, images = trained(SMALL), pictures(3, 20)
    with pytest.warns(UserWarning, match=r"Paddle Inference cannot run this embedder \(RuntimeError\('no such oper"):
        found = embed(embedder, images, np.arange(3))
    np.testing.assert_array_equal(found, eager(embedder, images))


@pytest.mark.parametrize("wrong", [lambda x: 1.01 * x, lambda x: x * np.nan], ids=["1 % off", "NaN"])
def test_export_that_gives_other_numbers_is_not_trusted(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder, images = trained(SMALL), pictures(3, 20)

    def other_numbers(layer: Embedder, shape: tuple[int, ...]) -> Any:
        assert shape == (3, 20, 20)
        return lambda pixels: wrong(layer(paddle.to_tensor(pixels)).numpy())

    monkeypatch.setattr(engine, "_export", other_numbers)
    with pytest.warns(UserWarning, match=r"Paddle Inference differs from eager by \S+; running eagerly"):
        found = embed(embedder, images, np.arange(3))
    np.testing.assert_array_equal(found, eager(embedder, images))


def test_a_network_that_gives_zeros_is_exported_too(exports: list[Any]) -> None:
    """Its numbers are no measure for a difference."""
    embedder = trained(SMALL)
    for parameter in embedder.projection.parameters():
        parameter.set_value(parameter * 0)
    found = embed(embedder, pictures(3, 20), np.arange(3))
    assert not found.any() and len(engine._kept) == 1


def test_export_leaves_nothing_behind(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    embed(trained(SMALL), pictures(2, 20), np.arange(2))
    assert list(tmp_path.iterdir()) == []


def test_pixels_keep_their_values() -> None:
    images = pictures(2, 5)
    found = to_pixels(images)
    assert found.dtype == np.float32
    assert found.flags["C_CONTIGUOUS"]
    assert found.shape == (2, 3, 5, 5)
    assert found[1, 2, 3, 4] == images[1, 3, 4, 2]
    assert np.array_equal(found, images.transpose(0, 3, 1, 2))
