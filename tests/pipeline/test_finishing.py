"""The keys of embedding in a run: its rows and best.safetensors follow them, and no training is repeated."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ppfsl import pipeline
from ppfsl.errors import UserError
from ppfsl.inference.engine import embed
from ppfsl.training.checkpoint import load_checkpoint, load_embedder
from tests.pipeline.runs import Tree, configured, result_of, timeless

FINISH = {"mirror": True, "power": 0.5, "center": "base", "whitening": 1.0}


def test_a_finished_embedder_is_evaluated_and_kept(
    tiny_tree: Callable[[], Tree], tmp_path: Path, quiet: None, evaluated: list[str]
) -> None:
    tree, folder = tiny_tree(), tmp_path / "run"
    pipeline.run(configured(tree, folder), "tiny")
    plain, raw = result_of(folder), load_checkpoint(folder / "checkpoints" / "best.safetensors")
    evaluated.clear()
    pipeline.run(configured({**tree, "embedding": FINISH}, folder), "tiny")
    assert len(evaluated) == 3
    kept, last = (load_checkpoint(folder / "checkpoints" / f"{name}.safetensors") for name in ("best", "last"))
    assert (kept.architecture.mirror, kept.architecture.power) == (True, 0.5)
    assert (kept.architecture.centered, kept.architecture.whitened) == (True, True)
    assert last.architecture == raw.architecture == kept.architecture.unfinished()
    assert all((last.weights[name] == value).all() for name, value in raw.weights.items())
    assert [row["accuracy"] for row in result_of(folder)["evaluations"]] != [
        row["accuracy"] for row in plain["evaluations"]
    ]
    assert result_of(folder)["embedding"] == FINISH
    assert plain["embedding"] == {"mirror": False, "power": 1.0, "center": "none", "whitening": None}
    data = pipeline.open_data(configured(tree, folder))
    embeddings = embed(load_embedder(folder / "checkpoints" / "best.safetensors"), data.table.images, data.rows)
    again = pipeline.run(configured({**tree, "embedding": FINISH}, folder), "tiny")
    assert len(evaluated) == 3
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    pipeline.run(configured(tree, again), "tiny")
    assert load_checkpoint(folder / "checkpoints" / "best.safetensors").architecture == raw.architecture
    assert timeless(result_of(folder)) == timeless(plain)


def test_the_kept_embedder_follows_the_configuration(
    tiny_tree: Callable[[], Tree], tmp_path: Path, quiet: None
) -> None:
    """Also where another setting gives arrays of the same shapes; and it is written where it has changed alone."""
    best, kept = tmp_path / "run" / "checkpoints" / "best.safetensors", []
    for shrinkage in (1.0, 2.0, 2.0):
        tree = {**tiny_tree(), "embedding": {**FINISH, "whitening": shrinkage}}
        pipeline.run(configured(tree, tmp_path / "run"), "tiny")
        kept.append((load_checkpoint(best).weights["whitening"].tobytes(), best.stat().st_mtime_ns))
    assert kept[0][0] != kept[1][0]
    assert kept[1] == kept[2]


def test_the_configuration_says_how_a_checkpoint_is_finished(
    tiny_tree: Callable[[], Tree], tmp_path: Path, quiet: None
) -> None:
    """Whatever was done to it before."""
    scores = {}
    for name, finish in (("plain", {}), ("finished", FINISH)):
        tree = {**tiny_tree(), "embedding": finish}
        folder = pipeline.run(configured(tree, tmp_path / name), "tiny")
        scores[name] = [row["episode_correct"] for row in result_of(folder)["evaluations"]]
    assert scores["plain"] != scores["finished"]
    for source in ("plain", "finished"):
        for wanted, finish in (("plain", {}), ("finished", FINISH)):
            tree = {**tiny_tree(), "embedding": finish}
            best = tmp_path / source / "checkpoints" / "best.safetensors"
            folder = pipeline.run(configured(tree, tmp_path / f"{source} as {wanted}"), "tiny", best)
            assert [row["episode_correct"] for row in result_of(folder)["evaluations"]] == scores[wanted]


def test_a_checkpoints_method_knows_no_finished_embeddings(
    tiny_tree: Callable[[], Tree], tmp_path: Path, quiet: None
) -> None:
    siamese = {"objective": {"name": "siamese", "classes_per_batch": 3, "images_per_class": 3}, "epochs": 1}
    first = pipeline.run(configured({**tiny_tree(), "pretrain": [siamese]}, tmp_path / "siamese"), "tiny")
    best = first / "checkpoints" / "best.safetensors"
    config = configured({**tiny_tree(), "embedding": FINISH}, tmp_path / "other")
    with pytest.raises(UserError, match=r"the keys of embedding do not go with .*best\.safetensors, whose"):
        pipeline.run(config, "tiny", best)
    assert not (tmp_path / "other").exists()
