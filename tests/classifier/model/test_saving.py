"""What a classifier's file keeps."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
from PIL import Image

from ppfsl.backbones.embedder import build_embedder
from ppfsl.classifier.build import Built
from ppfsl.classifier.model import load_classifier, save_classifier
from ppfsl.classifier.predict import Labeller
from tests.classifier.model.files import refused, rewrite


def test_saved_and_loaded_is_the_same(built: Built, file: Path) -> None:
    found, wanted = load_classifier(file), built.classifier
    for name in ("resize", "class_names", "files", "rejection", "adaptation", "origin"):
        assert getattr(found, name) == getattr(wanted, name), name
    for name in ("weight", "bias", "embeddings", "labels", "thumbnails"):
        assert getattr(found, name).dtype == getattr(wanted, name).dtype
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    assert found.embedder.architecture == wanted.embedder.architecture
    assert not found.embedder.training
    assert found.class_names == ("rose", "tulip", "向日葵")


def test_saved_and_loaded_answers_to_the_same_bits(built: Built, file: Path, photographs: Path) -> None:
    files = sorted(photographs.rglob("*.png"))[::9]
    first, second = (list(Labeller(model, 2).label(files)) for model in (built.classifier, load_classifier(file)))
    assert first == second
    assert len({answer.label for answer in first}) > 1


def test_the_same_classifier_makes_the_same_bytes(built: Built, file: Path, tmp_path: Path) -> None:
    save_classifier(load_classifier(file), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


def test_means_are_the_classes_mean_directions(built: Built) -> None:
    classifier = built.classifier
    for label in range(3):
        mean = classifier.embeddings[classifier.labels == label].mean(0)
        np.testing.assert_allclose(classifier.means[label], mean / np.linalg.norm(mean), atol=1e-6)


def test_rejection_may_be_absent(built: Built, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_classifier(replace(built.classifier, rejection=None), path)
    assert load_classifier(path).rejection is None


def test_thumbnails_show_the_support_pictures(built: Built, support: Path) -> None:
    classifier = built.classifier
    assert classifier.thumbnails.shape == (12, 96, 96, 3)
    for file, thumbnail in zip(classifier.files, classifier.thumbnails, strict=True):
        with Image.open(support / file) as image:
            wanted = np.asarray(image.convert("RGB").resize((96, 96), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(thumbnail - wanted).max() <= 1


def test_finished_embedders_are_kept(built: Built, tmp_path: Path) -> None:
    """With mirror images, power transform, the vector and the matrix."""
    classifier, rng = built.classifier, np.random.default_rng(0)
    finish = {"mirror": True, "power": 0.5, "centered": True, "whitened": True}
    embedder = build_embedder(replace(classifier.embedder.architecture, **finish), seed=1)
    embedder.whitening.set_value(rng.normal(size=embedder.whitening.shape).astype(np.float32))
    wanted, path = replace(classifier, embedder=embedder), tmp_path / "m.safetensors"
    save_classifier(wanted, path)
    found = load_classifier(path).embedder
    assert found.architecture == embedder.architecture
    for name, tensor in embedder.state_dict().items():
        np.testing.assert_array_equal(found.state_dict()[name].numpy(), tensor.numpy())
    for change in ({"whitened": False}, {"centered": False}, {"power": 0}, {"power": "x"}):
        save_classifier(wanted, path)
        rewrite(path, lambda h, a, change=change: h["architecture"].update(change))
        refused(path, "")


def test_projections_are_kept(built: Built, tmp_path: Path) -> None:
    classifier = built.classifier
    embedder = build_embedder(replace(classifier.embedder.architecture, projection=5), seed=1)
    rng = np.random.default_rng(0)
    wanted = replace(
        classifier,
        embedder=embedder,
        weight=rng.normal(size=(5, 3)).astype(np.float32),
        embeddings=rng.normal(size=(12, 5)).astype(np.float32),
    )
    path = tmp_path / "m.safetensors"
    save_classifier(wanted, path)
    found = load_classifier(path).embedder.state_dict()
    for name, tensor in embedder.state_dict().items():
        np.testing.assert_array_equal(found[name].numpy(), tensor.numpy())
    for change in ({"projection": 6}, {"projection": 10**9}, {"projection": None}, {"projection": "5"}):
        save_classifier(wanted, path)
        rewrite(path, lambda h, a, change=change: h["architecture"].update(change))
        refused(path, "")


def test_embedder_answers_as_before(built: Built, file: Path) -> None:
    pixels = paddle.to_tensor(np.random.default_rng(0).uniform(0, 255, (2, 3, 16, 16)).astype(np.float32))
    with paddle.no_grad():
        found, wanted = load_classifier(file).embedder(pixels), built.classifier.embedder(pixels)
    np.testing.assert_array_equal(found.numpy(), wanted.numpy())
