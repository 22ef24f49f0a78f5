"""Every configuration that ships, and every chain that a row of the results makes of one by options, runs from pictures
to result.json: made small, on noisy pictures.
"""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from ppfsl import pipeline
from ppfsl.backbones.embedder import Embedder, build_embedder
from ppfsl.config import Config
from ppfsl.config_file import load_config, parse_config
from ppfsl.reporting.rows import read_rows

Tree = dict[str, Any]
ROOT = Path(__file__).parents[1] / "configs"
NAMES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix() for path in ROOT.rglob("*.yaml") if "_base_" not in path.parts
)
CLASSES, EACH, SIDE = 20, 6, 24
AT_MOST = {
    **{"epochs": 1, "steps_per_epoch": 2, "way": 5, "shot": 2, "query": 3, "episodes_per_batch": 2, "inner_steps": 2},
    **{"batch_size": 16, "classes_per_batch": 4, "images_per_class": 4, "instances": 3, "triples": 4, "steps": 3},
    **{"episodes": 2, "pairs": 10, "hidden": 8, "slots": 8, "inner_batch": 2},
}
"""What says how long a run takes; all other keys are those of the configuration."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per class of colours of its own under noise."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for label in range(CLASSES):
        (folder / f"class{label:02d}").mkdir()
        colour = rng.integers(60, 200, 3)
        for number in range(EACH):
            pixels = (rng.normal(0, 40, (SIDE, SIDE, 3)) + colour).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"class{label:02d}" / f"{number}.png")
    return folder


def lowered(tree: Any, key: str = "") -> Any:
    """The same with the numbers of `AT_MOST` no greater than there."""
    if isinstance(tree, dict):
        return {key: lowered(value, key) for key, value in tree.items()}
    if isinstance(tree, list):
        values = [lowered(value, key) for value in tree]
        return list(dict.fromkeys(values)) if key in ("way", "shot") else values
    return min(tree, AT_MOST[key]) if key in AT_MOST and type(tree) is int else tree


def small(config: Config, pictures: Path, scratch: Path) -> Config:
    """The same chain on small pictures, every part of it as short as can be."""
    tree = lowered(config.model_dump(mode="json"))
    data = {"name": "folder", "folder": str(pictures), "split_ratio": [0.5, 0.25, 0.25], "cache_dir": str(scratch)}
    channels, koch = tree["data"]["channels"], tree["backbone"]["name"] == "koch"
    tree["data"] = {**data, "channels": channels, "image_size": 65 if koch else 32, "cached_size": 68 if koch else 36}
    tree["evaluation"]["support_set"] |= {"classes": None}
    if koch:
        tree["backbone"]["width"] = 4
    for stage in tree["pretrain"]:
        if stage["image_size"] is not None:
            stage["image_size"] = 24
        if stage["objective"]["name"] == "maml":
            stage["objective"]["first_order_epochs"] = 0
    if tree["backbone"]["pretrained"] != "none":  # which nobody can fetch here
        tree["backbone"]["pretrained"] = str(scratch / "weights.safetensors")
    tree["output_dir"] = str(scratch / "run")
    return parse_config(tree, "a small configuration")


def save_weights(embedder: Embedder, path: Path) -> None:
    """As `backbone.pretrained` takes them."""
    save_file({name: tensor.numpy() for name, tensor in embedder.backbone.state_dict().items()}, str(path))


def of_rows() -> dict[str, Config]:
    """Of the rows' trainings those that are no shipped configuration when made small: row -> configuration."""
    known = {shape(load_config(ROOT / f"{name}.yaml")) for name in NAMES}
    found = {}
    for about, _, folder in read_rows(ROOT.parent / "results"):
        words = shlex.split(about.command)
        options = [words[place + 1] for place, word in enumerate(words) if word == "-o"]
        if words[1] != "tools/train.py" or not options:
            continue
        config = load_config(ROOT.parent / words[words.index("-c") + 1], options)
        if shape(config) not in known:
            known.add(shape(config))
            found[f"{folder.parent.name}/{folder.name}"] = config
    return found


def shape(config: Config) -> str:
    """What is left of a configuration when it is made small, but for rates and the scale of a network."""
    tree = small(config, Path("pictures"), Path("scratch")).model_dump(mode="json")
    del tree["threads"], tree["seed"], tree["backbone"]["scale"], tree["backbone"]["normalization"]
    for stage in tree["pretrain"]:
        del stage["objective"]["inner_lr" if "inner_lr" in stage["objective"] else "name"]
    return json.dumps([tree, [stage.objective.name for stage in config.pretrain]])


def check_that_it_runs(config: Config, name: str, pictures: Path, scratch: Path) -> None:
    little = small(config, pictures, scratch)
    save_weights(build_embedder(pipeline.architecture_of(little), 0), scratch / "weights.safetensors")
    folder = pipeline.run(little, name)
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert result["stages"] == [stage.objective.name for stage in config.pretrain]
    rows = result["evaluations"]
    tasks = len(little.evaluation.tasks) + 1  # and the support set
    assert [row["adaptation"] for row in rows[::tasks]] == [entry.label or entry.name for entry in config.adaptations]
    assert len(rows) == tasks * len(config.adaptations)
    assert all(0 <= row["accuracy"] <= 1 for row in rows)


@pytest.fixture(autouse=True)
def without_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Showing a run takes seconds, and has tests of its own."""
    monkeypatch.setattr(pipeline, "show_run", lambda *_: None)


@pytest.mark.parametrize("name", NAMES)
def test_it_runs(name: str, pictures: Path, tmp_path: Path) -> None:
    check_that_it_runs(load_config(ROOT / f"{name}.yaml"), name, pictures, tmp_path)


ROWS = of_rows()


@pytest.mark.parametrize("row", ROWS)
def test_what_a_rows_options_make_of_a_configuration_runs(row: str, pictures: Path, tmp_path: Path) -> None:
    check_that_it_runs(ROWS[row], row, pictures, tmp_path)


def test_rows_have_chains_of_their_own() -> None:
    assert {"flowers102/finetuned_last_block", "flowers102/frozen_finished"} <= set(ROWS)
