"""Comparing two pictures with a run's embedder: how the run's own pictures were cropped, so are they."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ppfsl.backbones.embedder import Architecture, build_embedder
from ppfsl.backbones.weights import weights_of
from ppfsl.config_file import parse_config, to_yaml
from ppfsl.files import write_text
from ppfsl.inference.compare import compare
from ppfsl.inference.engine import embed
from ppfsl.training.checkpoint import Checkpoint, save_checkpoint


def test_pictures_are_cropped_from_the_size_of_the_runs_cached_images(photographs: Path, tmp_path: Path) -> None:
    """By hand: pictures of 20 pixels, cached at that size, lose two pixels on every side."""
    architecture = Architecture("conv4", 16, options=(("width", 4),))
    embedder = build_embedder(architecture, seed=0)
    config = parse_config({"data": {"image_size": 16, "cached_size": 20}}, "a test")
    (tmp_path / "checkpoints").mkdir()
    save_checkpoint(Checkpoint(architecture, weights_of(embedder)), tmp_path / "checkpoints" / "best.safetensors")
    write_text(tmp_path / "config.yaml", to_yaml(config))
    files = [photographs / "class00" / "00.png", photographs / "class05" / "00.png"]
    centres = np.stack([np.asarray(Image.open(file))[2:18, 2:18] for file in files])
    left, right = embed(embedder, centres, np.arange(2), "projected")
    cosine = left @ right / np.sqrt((left @ left) * (right @ right))
    assert compare(tmp_path, *files, threshold=0.5).similarity == pytest.approx(cosine, abs=1e-6)
