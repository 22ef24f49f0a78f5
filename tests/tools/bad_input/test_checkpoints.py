"""Weights and checkpoints that do not fit or cannot be read: said in one line."""

from pathlib import Path

import numpy as np
import pytest

from ppfsl.training.checkpoint import load_checkpoint, save_checkpoint
from tests.tools.bad_input.mistaken import assert_one_sentence, contents, overridden, run_tool


def test_weights_of_another_architecture(tiny: Path, finished: Path, own_folder: Path) -> None:
    best = finished / "checkpoints" / "best.safetensors"
    arguments = overridden(tiny, output_dir="run", backbone__pretrained=best, backbone__width=5)
    assert_one_sentence(*run_tool("train", *arguments), str(best), "shape", "another architecture")
    arguments += ["-o", "backbone.name=resnet12", "-o", "backbone.width=null"]
    assert_one_sentence(*run_tool("train", *arguments), str(best), "another architecture")
    assert not (own_folder / "run").exists()


def test_checkpoints_that_cannot_be_read(tiny: Path, finished: Path, own_folder: Path) -> None:
    content = (finished / "checkpoints" / "best.safetensors").read_bytes()
    (own_folder / "damaged.safetensors").write_bytes(content[: len(content) // 2])
    (own_folder / "words.safetensors").write_text("just words", encoding="utf-8")
    (own_folder / "empty.safetensors").write_bytes(b"")
    (own_folder / "folder.safetensors").mkdir()
    before = contents(own_folder)
    arguments = overridden(tiny, output_dir="run")
    for name in ("damaged", "words", "empty", "folder", "absent"):
        path = f"{name}.safetensors"
        assert_one_sentence(*run_tool("eval", *arguments, "--checkpoint", path), path)
    assert contents(own_folder) == before, "a checkpoint is looked at before anything is decoded or written"


def test_a_file_of_weights_is_no_checkpoint(tiny: Path, own_folder: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3, np.float32)}, own_folder / "weights.safetensors")
    status, stderr = run_tool("eval", *overridden(tiny, output_dir="run"), "--checkpoint", "weights.safetensors")
    assert_one_sentence(status, stderr, "weights.safetensors is not a checkpoint of ppfsl")


@pytest.mark.parametrize("key", ["image_size", "channels"])
def test_checkpoint_for_other_images(tiny: Path, finished: Path, own_folder: Path, key: str) -> None:
    arguments = overridden(tiny, output_dir="run", **{f"data__{key}": {"image_size": 20, "channels": 1}[key]})
    best = finished / "checkpoints" / "best.safetensors"
    status, stderr = run_tool("eval", *arguments, "--checkpoint", str(best))
    remedy = {"image_size": "-o data.image_size=16", "channels": "-o data.channels=3"}[key]
    assert_one_sentence(status, stderr, str(best), f"data.{key}", remedy)
    assert not (own_folder / "run").exists()
    status, stderr = run_tool("eval", *arguments, *remedy.split(), "--checkpoint", str(best))
    assert status == 0, stderr


def test_checkpoint_whose_weights_do_not_fit_what_it_says(tiny: Path, finished: Path, own_folder: Path) -> None:
    checkpoint = load_checkpoint(finished / "checkpoints" / "best.safetensors")
    checkpoint.weights.pop("projection.bias")  # type: ignore[attr-defined]
    save_checkpoint(checkpoint, own_folder / "lacking.safetensors")
    status, stderr = run_tool("eval", *overridden(tiny, output_dir="run"), "--checkpoint", "lacking.safetensors")
    assert_one_sentence(status, stderr, "lacking.safetensors lacks weight 'projection.bias'")
