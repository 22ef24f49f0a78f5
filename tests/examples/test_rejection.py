"""The rejection example: what it draws, and that it runs."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from ppfsl.backbones.embedder import Architecture, build_embedder
from ppfsl.backbones.weights import weights_of
from ppfsl.training.checkpoint import Checkpoint, save_checkpoint

SCRIPT = Path(__file__).parents[2] / "examples" / "rejection.py"


@pytest.fixture(scope="module")
def rejection():
    spec = importlib.util.spec_from_file_location("rejection_example", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_draw_tells_known_from_unknown(rejection):
    labels = np.repeat(np.arange(6), 7)
    embeddings = np.eye(6)[labels]
    support, own, cosines, classes, unknown = rejection._draw(4, 2, embeddings, labels, np.random.default_rng(0))
    assert (support.shape, own.tolist()) == ((8, 6), [0, 0, 1, 1, 2, 2, 3, 3])
    assert (support[::2] == support[1::2]).all(), "two of a class beside one another"
    assert cosines.shape == (4 * 5, 4)
    np.testing.assert_array_equal(cosines, np.eye(4)[classes])
    np.testing.assert_array_equal(unknown, np.zeros(2 * 7))


def test_it_runs(rejection, tiny_tree, tmp_path, monkeypatch, capsys):
    architecture = Architecture("conv4", 16, options=(("width", 4),))
    weights = tmp_path / "weights.safetensors"
    save_checkpoint(Checkpoint(architecture, weights_of(build_embedder(architecture, seed=0))), weights)
    tree = tiny_tree() | {"pretrain": [], "device": "cpu"}
    tree["data"] |= {"split_ratio": [0.2, 0.4, 0.4]}
    tree["backbone"] |= {"projection": "none", "pretrained": str(weights)}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    monkeypatch.setattr(rejection, "SIZES", ((3, 4), (2, 3)))
    monkeypatch.setattr(rejection, "DRAWS", 5)
    monkeypatch.setattr(sys, "argv", ["rejection.py", "-c", str(tmp_path / "tiny.yaml")])
    rejection.main()
    _, three, validation, two = capsys.readouterr().out.splitlines()
    assert three.split()[:2] == ["3", "4"] and "support set" in three
    assert "validation classes" in validation
    assert "validation classes" in two, "two classes alone choose no threshold"
