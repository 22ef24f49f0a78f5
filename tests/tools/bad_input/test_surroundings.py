"""Folders, disks and devices that do not serve, and a loss that is not finite: what is said and left."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppfsl.training.checkpoint import load_checkpoint
from tests.tools.bad_input.mistaken import assert_one_sentence, overridden, run_tool


def test_unwritable_output_folder(tiny: Path, own_folder: Path) -> None:
    (own_folder / "file").write_text("not a folder", encoding="utf-8")
    arguments = overridden(tiny, output_dir="file/run")
    assert_one_sentence(*run_tool("train", *arguments), "file/run", "choose another")
    assert (own_folder / "file").read_text(encoding="utf-8") == "not a folder"


LOOKING = {
    "train": ("-c", "TINY", "-o", "output_dir=PLACE/run"),
    "eval": ("-c", "TINY", "-o", "output_dir=run", "--checkpoint", "PLACE/checkpoints/best.safetensors"),
    "verify": ("--run", "PLACE", "a.png", "b.png"),
    "export": ("--checkpoint", "PLACE", "--output", "exported"),
    "finetune": ("--support", "PHOTOGRAPHS", "--model", "m.safetensors", "--checkpoint", "PLACE"),
    "predict": ("PHOTOGRAPHS", "--model", "PLACE/m.safetensors"),
}


@pytest.mark.parametrize("tool", LOOKING)
@pytest.mark.parametrize("reason", ["File name too long", "Permission denied"])
def test_paths_that_cannot_be_looked_up(
    tiny: Path, photographs: Path, own_folder: Path, monkeypatch: pytest.MonkeyPatch, tool: str, reason: str
) -> None:
    place = "n" * 300 if reason == "File name too long" else "closed"
    stat = os.stat

    def refuse(path: Any, **further: Any) -> Any:  # root may enter every folder: the refusal is played
        if str(path).startswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **further)

    monkeypatch.setattr(os, "stat", refuse)
    words = {"TINY": str(tiny), "PHOTOGRAPHS": str(photographs)}
    arguments = [words.get(word, word.replace("PLACE", place)) for word in LOOKING[tool]]
    status, stderr = run_tool(tool, *arguments)
    assert_one_sentence(
        status, stderr, f"error: {place}", f" cannot be looked up: {reason}; mend that, or name another"
    )
    assert list(own_folder.iterdir()) == []


@pytest.mark.parametrize("tool", ["eval", "export", "predict"])
def test_files_that_may_not_be_read(
    tiny: Path, photographs: Path, own_folder: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    (own_folder / "closed.safetensors").write_bytes(b"")
    really = Path.open

    def refuse(self: Path, *arguments: Any, **further: Any) -> Any:
        if self.name == "closed.safetensors":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return really(self, *arguments, **further)

    monkeypatch.setattr(Path, "open", refuse)
    arguments = {
        "eval": ("-c", str(tiny), "-o", "output_dir=run", "--checkpoint", "closed.safetensors"),
        "export": ("--checkpoint", "closed.safetensors", "--output", "exported"),
        "predict": (str(photographs), "--model", "closed.safetensors"),
    }[tool]
    sentence = "closed.safetensors cannot be read: Permission denied; mend that, or name another file"
    status, stderr = run_tool(tool, *arguments)
    assert_one_sentence(status, stderr)
    assert stderr == f"error: {sentence}\n"


def test_unwritable_cache(tiny: Path, own_folder: Path) -> None:
    (own_folder / "cache").write_text("not a folder", encoding="utf-8")
    assert_one_sentence(*run_tool("train", *overridden(tiny, output_dir="run")), "cache")
    assert not (own_folder / "run").exists()


def test_no_gpu_to_be_had(tiny: Path, own_folder: Path) -> None:
    import paddle

    if paddle.is_compiled_with_cuda():
        pytest.skip("this Paddle may use GPUs")
    for device in ("gpu", "gpu:1"):
        words = (f"device: {device} needs a GPU build of PaddlePaddle", "set device to cpu")
        assert_one_sentence(*run_tool("train", *overridden(tiny, output_dir="run", device=device)), *words)
    assert list(own_folder.iterdir()) == []


def test_loss_that_is_not_finite(tiny: Path, own_folder: Path) -> None:
    """The remedy works: the same command with another rate ends well."""
    arguments = overridden(tiny, output_dir="run")
    wrong = [*arguments, "-o", "pretrain.0.steps_per_epoch=1", "-o", "pretrain.0.optimizer={name: sgd, lr: 1.0e+30}"]
    status, stderr = run_tool("train", *wrong)
    assert status == 2
    *_, line = stderr.splitlines()
    assert line.startswith("error: 1_cross_entropy: the loss is not finite at step 1 of epoch 2; ")
    assert line.endswith(
        "the last good checkpoint is run/checkpoints/last.safetensors: lower pretrain.0.optimizer.lr or set "
        "pretrain.0.clip_norm, and choose another output_dir"
    )
    assert "Traceback" not in stderr
    for name in ("last", "best"):
        checkpoint = load_checkpoint(own_folder / "run" / "checkpoints" / f"{name}.safetensors")
        assert checkpoint.facts["progress"]["epochs"] == 1
        for arrays in (checkpoint.weights, checkpoint.training):
            assert all(np.isfinite(array).all() for array in arrays.values())
    for row in (own_folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        assert "NaN" not in row
        assert "Infinity" not in row
    assert not (own_folder / "run" / "result.json").exists()

    again = run_tool("train", *wrong)
    assert again[0] == 2, "a run that diverged does so again"
    assert again[1].splitlines()[-1] == line


def test_full_disk(tiny: Path, own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two epochs; once there is room again the run goes on."""
    arguments = overridden(tiny, output_dir="run")
    really, left = Path.write_bytes, [4]

    def full(self: Path, content: bytes) -> int:
        left[0] -= self.suffix == ".tmp"
        if left[0] == 0:
            really(self, content[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return really(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    status, stderr = run_tool("train", *arguments)
    assert status == 2
    assert stderr.splitlines()[-1].startswith("error: No space left on device; make room")
    assert "Traceback" not in stderr
    assert not list((own_folder / "run").rglob("*.tmp"))
    assert load_checkpoint(own_folder / "run" / "checkpoints" / "last.safetensors").facts["progress"]["epochs"] == 0
    status, stderr = run_tool("train", *arguments)
    assert status == 0, stderr
