"""A small network's weights, a support set of three classes, and the classifier that they make."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ppfsl.backbones.embedder import Architecture, build_embedder
from ppfsl.backbones.weights import weights_of
from ppfsl.classifier.build import Built, build_classifier
from ppfsl.config import Config
from ppfsl.config_file import parse_config
from ppfsl.training.checkpoint import Checkpoint, save_checkpoint

ARCHITECTURE = Architecture("conv4", 16, options=(("width", 4),))


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a network that nobody trained."""
    path = tmp_path_factory.mktemp("weights") / "conv4.safetensors"
    save_checkpoint(Checkpoint(ARCHITECTURE, weights_of(build_embedder(ARCHITECTURE, seed=0))), path)
    return path


@pytest.fixture(scope="session")
def own_config(weights: Path) -> Callable[..., Config]:
    """Gives a configuration of a classifier on these weights, with the keys of its adaptation."""

    def configured(**adaptation: Any) -> Config:
        tree = {
            "device": "cpu",
            "data": {"image_size": 16, "cached_size": 20},
            "backbone": {"name": "conv4", "width": 4, "projection": "none", "pretrained": str(weights)},
            "adaptations": [{"name": "finetune", "scale": 20.0, "entropy": "none"} | adaptation],
        }
        return parse_config(tree, "test")

    return configured


@pytest.fixture(scope="session")
def support(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of four pictures, one of them with a Chinese name; to be read only."""
    folder = tmp_path_factory.mktemp("support")
    for source, name in (("class00", "rose"), ("class01", "向日葵"), ("class02", "tulip")):
        (folder / name).mkdir()
        for file in sorted((photographs / source).iterdir())[:4]:
            shutil.copy(file, folder / name)
    return folder


@pytest.fixture(scope="session")
def built(own_config: Callable[..., Config], support: Path) -> Built:
    return build_classifier(own_config(), support)


@pytest.fixture(scope="session")
def encoded() -> Callable[..., bytes]:
    """Gives the bytes of an image file."""

    def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        return stream.getvalue()

    return encode
