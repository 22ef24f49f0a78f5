"""Which weights validation scores and checkpoints keep."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppfsl import pipeline
from ppfsl.backbones.embedder import Embedder
from ppfsl.backbones.weights import weights_of
from ppfsl.config_file import parse_config
from ppfsl.training.checkpoint import load_checkpoint
from ppfsl.training.pretrain import pretrain
from ppfsl.training.validation import Validation

Tree = dict[str, Any]
Weights = dict[str, np.ndarray]


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[Weights]:
    """The weights that each validation saw; every one is better than the one before it."""
    found: list[Weights] = []

    def score(self: Validation, embedder: Embedder, *_: Any) -> float:
        found.append(weights_of(embedder))
        return len(found) / 100

    monkeypatch.setattr(Validation, "score", score)
    return found


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_what_is_kept_of_the_first_weights_is_validated_and_saved(
    share: float, tiny_tree: Callable[[], Tree], scored: list[Weights], tmp_path: Path
) -> None:
    """Of the weights with which its stage began."""
    common = {"steps_per_epoch": 2, "optimizer": {"name": "adam", "lr": 0.01}}
    before = {"objective": {"name": "cross_entropy", "batch_size": 16}, "epochs": 1, **common}
    stage = {"objective": {"name": "cosine", "triples": 4}, "epochs": 2, **common}
    ends = {}
    for name, kept in (("without", 0.0), ("with", share)):
        tree = {**tiny_tree(), "pretrain": [before, {**stage, "keep_start": kept}]}
        config = parse_config({**tree, "output_dir": str(tmp_path / name)}, "a test")
        pretrain(*pipeline.prepared_training(config, pipeline.open_data(config), tmp_path / name))
        ends[name] = load_checkpoint(tmp_path / name / "checkpoints" / "best.safetensors").weights
    first = load_checkpoint(tmp_path / "with" / "checkpoints" / "1_cross_entropy.safetensors").weights
    assert len(scored) == 6
    for name, value in ends["with"].items():
        part = share if name.startswith("backbone.") else 0
        np.testing.assert_allclose(value, (1 - part) * ends["without"][name] + part * first[name], atol=1e-6)
        assert np.array_equal(value, scored[5][name])
    moved = [name for name in first if not np.allclose(ends["with"][name], ends["without"][name])]
    assert bool(moved) == (share > 0)
