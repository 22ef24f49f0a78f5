"""Finished embedders: mirror images, power transform and centring, against plain numpy; and undone again."""

from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from ppfsl.backbones.embedder import CENTER, WHITENING, Architecture, Embedder, build_embedder
from ppfsl.config import EmbeddingConfig
from ppfsl.data.class_split import ClassSplit, Part
from ppfsl.data.table import ImageTable
from ppfsl.errors import UserError
from ppfsl.inference.cache import EmbeddingCache
from ppfsl.inference.engine import embed
from ppfsl.inference.finish import check_finish, finished, uncentered, unfinished, whitening
from ppfsl.subject import Data

PROJECTED = Architecture("conv4", 16, projection=5, options=(("width", 4),))
BARE = Architecture("conv4", 16, options=(("width", 4),))
BASE, NOVEL = (0, 2), (1, 3)


@pytest.fixture(scope="module")
def data() -> Data:
    """24 images of noise, of four classes; half of these are base classes."""
    images = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
    labels = np.arange(24) % 4
    names = {label: str(label) for label in range(4)}
    table = ImageTable("noise", images, labels, names, tuple(map(str, range(24))), {}, "0" * 64)
    split = ClassSplit("by hand", Part(BASE), Part(()), Part(NOVEL))
    return Data(table, split, np.flatnonzero(np.isin(labels, NOVEL)))


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path, 1 << 20)


def raw(embedder: Embedder, data: Data, mirrored: bool = False) -> np.ndarray:
    """What the backbone makes of all images, in float64."""
    images = data.table.images[:, :, ::-1] if mirrored else data.table.images
    return embed(embedder, np.ascontiguousarray(images), np.arange(len(images)), "features").astype(np.float64)


def by_hand(embedder: Embedder, data: Data, keys: dict[str, Any]) -> np.ndarray:
    """The embeddings of all images, of length one, in plain numpy."""
    features = raw(embedder, data)
    if keys.get("mirror"):
        features = (features + raw(embedder, data, mirrored=True)) / 2
    if embedder.projection is not None:
        features = features @ embedder.projection.weight.numpy() + embedder.projection.bias.numpy()
    power = keys.get("power", 1)
    vectors = np.sign(features) * np.abs(features) ** power
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    base = np.isin(data.table.labels, BASE)
    spread = np.zeros((vectors.shape[1], vectors.shape[1]))
    for label in BASE:
        own = vectors[data.table.labels == label]
        spread += (own - own.mean(0)).T @ (own - own.mean(0)) / base.sum()
    if keys.get("center") == "base":
        vectors = vectors - vectors[base].mean(0)
    if "whitening" in keys:
        mixed = spread + keys["whitening"] * np.trace(spread) / len(spread) * np.eye(len(spread))
        root = np.linalg.inv(mixed)
        values, directions = np.linalg.eigh(root)
        vectors = vectors @ (directions @ np.diag(np.sqrt(values)) @ directions.T)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("architecture", [PROJECTED, BARE], ids=["projection", "none"])
@pytest.mark.parametrize(
    "keys",
    [
        {"mirror": True},
        {"power": 0.5},
        {"center": "base"},
        {"power": 0.3, "center": "base"},
        {"mirror": True, "power": 0.5, "center": "base"},
        {"whitening": 0.3},
        {"mirror": True, "power": 0.5, "center": "base", "whitening": 2.0},
    ],
    ids=lambda keys: "+".join(keys),
)
def test_embeddings_match_plain_numpy(
    architecture: Architecture, keys: dict[str, Any], data: Data, cache: EmbeddingCache
) -> None:
    embedder = build_embedder(architecture, seed=1)
    expected = by_hand(embedder, data, keys)
    assert np.abs(expected - by_hand(embedder, data, {})).max() > 1e-3
    result = finished(embedder, EmbeddingConfig(**keys), data, cache)
    rows = np.arange(24)
    np.testing.assert_allclose(embed(result, data.table.images, rows), expected, atol=1e-4)
    projected = cache.projected(result, data.table, rows)
    lengths = np.linalg.norm(projected, axis=1, keepdims=True)
    np.testing.assert_allclose(projected / lengths, expected, atol=1e-4)


def test_a_picture_and_its_mirror_image_are_the_same(data: Data, cache: EmbeddingCache) -> None:
    result = finished(build_embedder(PROJECTED, 0), EmbeddingConfig(mirror=True), data, cache)
    flipped = np.ascontiguousarray(data.table.images[:, :, ::-1])
    rows = np.arange(24)
    np.testing.assert_allclose(embed(result, data.table.images, rows), embed(result, flipped, rows), atol=1e-5)


def test_centred_base_embeddings_have_mean_zero(data: Data, cache: EmbeddingCache) -> None:
    result = finished(build_embedder(PROJECTED, 0), EmbeddingConfig(power=0.5, center="base"), data, cache)
    rows = np.flatnonzero(np.isin(data.table.labels, BASE))
    np.testing.assert_allclose(cache.projected(result, data.table, rows).mean(0), 0, atol=1e-5)


def test_the_given_embedder_is_left_as_it_was(data: Data, cache: EmbeddingCache) -> None:
    embedder = build_embedder(PROJECTED, 0)
    before = {name: tensor.numpy().copy() for name, tensor in embedder.state_dict().items()}
    finished(embedder, EmbeddingConfig(mirror=True, power=0.5, center="base"), data, cache)
    assert embedder.architecture == PROJECTED
    assert all((tensor.numpy() == before[name]).all() for name, tensor in embedder.state_dict().items())


def test_nothing_to_do_is_the_embedder_itself(data: Data, cache: EmbeddingCache) -> None:
    embedder = build_embedder(PROJECTED, 0)
    assert finished(embedder, EmbeddingConfig(), data, cache) is embedder
    assert uncentered(embedder, EmbeddingConfig()) is embedder
    assert unfinished(embedder) is embedder


def test_unfinished_undoes_it(data: Data, cache: EmbeddingCache) -> None:
    embedder = build_embedder(PROJECTED, 0)
    everything = EmbeddingConfig(mirror=True, power=0.5, center="base", whitening=1.0)
    result = finished(embedder, everything, data, cache)
    assert {CENTER, WHITENING} <= result.state_dict().keys()
    again = unfinished(result)
    assert again.architecture == PROJECTED
    pixels = paddle.to_tensor(np.random.default_rng(0).uniform(0, 255, (3, 3, 16, 16)).astype(np.float32))
    embedder.eval()
    assert (again(pixels).numpy() == embedder(pixels).numpy()).all()


def test_centring_needs_base_classes(data: Data, cache: EmbeddingCache) -> None:
    alone = Data(data.table, ClassSplit("novel alone", Part(()), Part(()), Part(NOVEL)), data.rows)
    embedder = build_embedder(PROJECTED, 0)
    for key, config in (
        ("center: base", EmbeddingConfig(center="base", whitening=1.0)),
        ("whitening", EmbeddingConfig(whitening=1.0)),
    ):
        with pytest.raises(UserError, match=f"embedding.{key} needs base classes, but split novel alone has none"):
            check_finish(config, alone)
        check_finish(config, data)
    check_finish(EmbeddingConfig(mirror=True), alone)
    assert finished(embedder, EmbeddingConfig(mirror=True), alone, cache).architecture.mirror


def test_whitening_evens_out_what_varies_within_classes() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 200)
    noise = rng.standard_normal((4000, 3)) * [3.0, 1.0, 0.2]
    vectors = rng.standard_normal((20, 3))[labels] * 5 + noise
    after = vectors @ whitening(vectors, labels, 1e-9)
    within = np.concatenate([after[labels == k] - after[labels == k].mean(0) for k in range(20)])
    covariance = within.T @ within / 4000
    np.testing.assert_allclose(covariance, np.eye(3) * covariance[0, 0], atol=1e-6 * covariance[0, 0])
    np.testing.assert_allclose(whitening(vectors, labels, 1e8) * 1e4, np.eye(3), atol=1e-6)


def test_whitening_of_directions_without_any_variance() -> None:
    labels = np.repeat(np.arange(5), 40)
    line = np.random.default_rng(0).standard_normal((200, 1)) @ np.ones((1, 8))
    apart = line - np.stack([line[labels == k].mean(0) for k in range(5)])[labels]
    assert np.linalg.eigvalsh(apart.T @ apart / 200).min() < 0  # rounding: they are 0
    matrix = whitening(line, labels, 1e-18)
    assert np.isfinite(matrix).all()
    np.testing.assert_allclose((apart @ matrix).std(), apart.std() / np.sqrt(8), rtol=1e-6)


def test_whitening_needs_images_that_differ() -> None:
    with pytest.raises(UserError, match="needs base classes whose images differ"):
        whitening(np.repeat(np.eye(3), 4, axis=0), np.repeat(np.arange(3), 4), 1.0)


def test_backbone_outputs_are_shared_but_for_mirror_images(data: Data, cache: EmbeddingCache, tmp_path: Path) -> None:
    embedder, rows = build_embedder(PROJECTED, 0), np.arange(24)
    cache.projected(embedder, data.table, rows)
    cache.projected(uncentered(embedder, EmbeddingConfig(power=0.5)), data.table, rows)
    assert len(list(tmp_path.glob("*.npy"))) == 1
    cache.projected(uncentered(embedder, EmbeddingConfig(mirror=True)), data.table, rows)
    assert len(list(tmp_path.glob("*.npy"))) == 2
