"""What stages draw, when they are validated, and which weights validation scores and checkpoints keep."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppfsl import pipeline
from ppfsl.backbones.embedder import Embedder
from ppfsl.backbones.weights import weights_of
from ppfsl.config_file import parse_config
from ppfsl.training.checkpoint import Checkpoint, load_checkpoint
from ppfsl.training.objectives.cross_entropy import CrossEntropy
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


def train(tree: Tree, folder: Path) -> Checkpoint:
    """The best checkpoint."""
    config = parse_config({**tree, "output_dir": str(folder)}, "a test")
    pretrain(*pipeline.prepared_training(config, pipeline.open_data(config), folder))
    return load_checkpoint(folder / "checkpoints" / "best.safetensors")


def test_equal_stages_draw_different_batches(
    tiny_tree: Callable[[], Tree], scored: list[Weights], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[list[int]] = []
    really = CrossEntropy.batches

    def watched(self: CrossEntropy, epoch: int, steps: int) -> Iterator[np.ndarray]:
        for batch in really(self, epoch, steps):
            drawn.append(batch.tolist())
            yield batch

    monkeypatch.setattr(CrossEntropy, "batches", watched)
    stage = {"objective": {"name": "cross_entropy", "batch_size": 16}, "epochs": 1, "steps_per_epoch": 2}
    train({**tiny_tree(), "pretrain": [stage, stage]}, tmp_path / "run")
    assert len(drawn) == 4
    assert drawn[:2] != drawn[2:]


def test_the_last_epoch_is_validated_whatever_the_interval(
    tiny_tree: Callable[[], Tree], scored: list[Weights], tmp_path: Path
) -> None:
    tree = tiny_tree()
    tree["validation"]["every"] = 2
    tree["pretrain"][0] |= {"epochs": 3, "steps_per_epoch": 1}
    progress = train(tree, tmp_path / "run").facts["progress"]
    assert len(scored) == 2, "after epochs 2 and 3"
    assert (progress["epochs"], progress["best"]) == (3, 0.02)


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
        ends[name] = train(tree, tmp_path / name).weights
    first = load_checkpoint(tmp_path / "with" / "checkpoints" / "1_cross_entropy.safetensors").weights
    assert len(scored) == 6
    for name, value in ends["with"].items():
        part = share if name.startswith("backbone.") else 0
        np.testing.assert_allclose(value, (1 - part) * ends["without"][name] + part * first[name], atol=1e-6)
        assert np.array_equal(value, scored[5][name])
    moved = [name for name in first if not np.allclose(ends["with"][name], ends["without"][name])]
    assert bool(moved) == (share > 0)
