"""Configurations of training runs, and ways to kill them."""

import copy
import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import paddle
import pytest

from ppfsl.backbones.embedder import Embedder
from ppfsl.inference import cache
from ppfsl.training import pretrain, validation
from ppfsl.training.checkpoint import Checkpoint, save_checkpoint
from tests.training.resume.runs import FROZEN, METHODS, STAGES, TASKS, Killed, Tree


@pytest.fixture
def tree(tiny_tree: Callable[[], Tree]) -> Tree:
    return {**tiny_tree(), "pretrain": copy.deepcopy([*STAGES, FROZEN])}


@pytest.fixture
def method_tree(tiny_tree: Callable[[], Tree]) -> Tree:
    """Stages of methods with layers of their own, on maps of 4 x 4 pixels."""
    backbone = {"name": "conv4", "width": 4, "pools": 2, "projection": "none"}
    return {**tiny_tree(), "backbone": backbone, "pretrain": copy.deepcopy(METHODS)}


@pytest.fixture
def task_tree(tiny_tree: Callable[[], Tree]) -> Tree:
    """Stages of methods that adapt networks by gradient."""
    tree = {**tiny_tree(), "pretrain": copy.deepcopy(TASKS)}
    tree["validation"]["episodes"] = 3
    return tree


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validates without exporting the embedder, which takes longer than all else here."""

    def embed(
        embedder: Embedder, images: np.ndarray, rows: np.ndarray, output: str, *_: object, **__: object
    ) -> np.ndarray:
        embedder.eval()
        pixels = paddle.to_tensor(images[rows].transpose(0, 3, 1, 2).astype(np.float32))
        with paddle.no_grad():
            return (embedder.projected(pixels) if output == "projected" else embedder.features(pixels)).numpy()

    monkeypatch.setattr(validation, "embed", embed)
    monkeypatch.setattr(cache, "embed", embed)


@pytest.fixture
def kill_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Call it to have training killed after so many more checkpoints."""
    left = [-1]

    def killing(checkpoint: Checkpoint, path: Path) -> None:
        save_checkpoint(checkpoint, path)
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    monkeypatch.setattr(pretrain, "save_checkpoint", killing)
    return functools.partial(left.__setitem__, 0)


@pytest.fixture
def scenes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], list[Path]]:
    """Gives what a kill before each checkpoint of the run in `whole` would have left: copies of its directory."""
    found: list[Path] = []

    def copying(checkpoint: Checkpoint, path: Path) -> None:
        if path.is_relative_to(tmp_path / "whole"):
            scene = tmp_path / f"killed {len(found)}"
            if (tmp_path / "whole").exists():
                shutil.copytree(tmp_path / "whole", scene)
            (scene / "checkpoints").mkdir(parents=True, exist_ok=True)
            (scene / "checkpoints" / ".ppfsl-abcdefgh.tmp").write_bytes(b"half a checkpoint")
            found.append(scene)
        save_checkpoint(checkpoint, path)

    monkeypatch.setattr(pretrain, "save_checkpoint", copying)
    return lambda: found
