"""Checkpoint files: whole or refused, and enough to rebuild the embedder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from ppfsl.backbones.embedder import Architecture, build_embedder
from ppfsl.backbones.weights import weights_of
from ppfsl.errors import UserError
from ppfsl.methods.layers import build_layer, describe
from ppfsl.randomness import generator
from ppfsl.training.checkpoint import Checkpoint, load_checkpoint, load_embedder, method_layer, save_checkpoint
from ppfsl.version import __version__

ARCHITECTURE = Architecture("conv4", 16, 1, 6, "unit", (("width", 4),))
FACTS = {"progress": {"epoch": 3, "best": 0.1 + 0.2, "stage_best": None}, "trained_on": {"data.name": "花"}}
TRAINING = {"optimizer.0.moment1": np.arange(6.0).reshape(2, 3), "head.weight": np.asarray([1], dtype=np.int64)}


def write(path: Path, seed: int = 1) -> Checkpoint:
    checkpoint = Checkpoint(
        ARCHITECTURE, weights_of(build_embedder(ARCHITECTURE, seed)), training=TRAINING, facts=FACTS
    )
    save_checkpoint(checkpoint, path)
    return checkpoint


def same(one: Any, two: Any) -> bool:
    return one.keys() == two.keys() and all(
        np.array_equal(value, two[name]) and value.dtype == two[name].dtype for name, value in one.items()
    )


def test_round_trip(tmp_path: Path) -> None:
    written = write(tmp_path / "c.safetensors")
    found = load_checkpoint(tmp_path / "c.safetensors")
    assert found.architecture == ARCHITECTURE
    assert same(found.weights, written.weights)
    assert same(found.training, TRAINING)
    assert found.facts == FACTS


def test_embedder_without_training_state_round_trip(tmp_path: Path) -> None:
    checkpoint = Checkpoint(ARCHITECTURE, weights_of(build_embedder(ARCHITECTURE, 1)))
    save_checkpoint(checkpoint, tmp_path / "c.safetensors")
    found = load_checkpoint(tmp_path / "c.safetensors")
    assert (dict(found.training), dict(found.facts)) == ({}, {})
    assert (found.layer, dict(found.layer_weights)) == (None, {})


def test_arrays_of_any_layout_are_stored_as_they_look(tmp_path: Path) -> None:
    transposed = np.arange(6, dtype=np.float32).reshape(2, 3).T
    scalar = np.asarray(0.9, dtype=np.float32)
    save_checkpoint(Checkpoint(ARCHITECTURE, {}, training={"t": transposed, "s": scalar}), tmp_path / "c.safetensors")
    found = load_checkpoint(tmp_path / "c.safetensors").training
    np.testing.assert_array_equal(found["t"], transposed)
    assert found["s"].item() == scalar.item()


def test_embedder_is_rebuilt_without_a_configuration(tmp_path: Path) -> None:
    written = write(tmp_path / "c.safetensors")
    embedder = load_embedder(tmp_path / "c.safetensors")
    assert embedder.architecture == ARCHITECTURE
    assert same(weights_of(embedder), written.weights)
    original = build_embedder(ARCHITECTURE, 1)
    images = paddle.to_tensor(generator(0).integers(0, 256, (3, 1, 16, 16)).astype(np.float32))
    for each in (embedder, original):
        each.eval()
    np.testing.assert_array_equal(embedder(images).numpy(), original(images).numpy())


def test_weights_are_copies() -> None:
    embedder = build_embedder(ARCHITECTURE, 1)
    weights = weights_of(embedder)
    kept = {name: value.copy() for name, value in weights.items()}
    for parameter in embedder.parameters():
        parameter.set_value(parameter + 1)
    assert same(weights, kept)


def test_header_names_what_wrote_it(tmp_path: Path) -> None:
    write(tmp_path / "c.safetensors")
    with safe_open(str(tmp_path / "c.safetensors"), framework="numpy") as file:
        header = json.loads(file.metadata()["ppfsl"])
        assert {"backbone.blocks.0.0.weight", "training/head.weight"} <= set(file.keys())
    assert (header["schema"], header["ppfsl"]) == (1, __version__)
    assert header["architecture"]["backbone"] == "conv4"


def test_same_content_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors")
    write(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_facts_that_json_lacks_are_refused_and_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    write(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(Checkpoint(ARCHITECTURE, {}, facts={"best": float("nan")}), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    with pytest.raises(UserError, match=r"there is no weights file \S+c\.safetensors"):
        load_checkpoint(path)
    write(path)
    whole = path.read_bytes()
    for content in (b"", b"nonsense", whole[:-1], whole[:40]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"c\.safetensors is not a readable \.safetensors file"):
            load_checkpoint(path)


ALIEN: list[Any] = [
    None,
    "",
    "not JSON",
    [],
    3,
    {},
    {"architecture": None, "facts": {}},
    {"architecture": {}, "facts": {}},
    {"architecture": ARCHITECTURE.to_json()},
    {"architecture": {**ARCHITECTURE.to_json(), "backbone": "vit"}, "facts": {}},
    {"architecture": {**ARCHITECTURE.to_json(), "options": 3}, "facts": {}},
    {"architecture": {**ARCHITECTURE.to_json(), "depth": 9}, "facts": {}},
]

LAYERS: list[dict[str, Any]] = [
    {"name": "siamese", "arguments": {"dim": 6, "merge": "concatenation", "hidden": [5, 2]}},
    {"name": "matching", "arguments": {"dim": 6, "steps": 3}},
    {"name": "relation", "arguments": {"shape": [2, 3, 3], "width": 4, "hidden": 3}},
    {"name": "meta_baseline", "arguments": {"initial": 7.5}},
]


@pytest.mark.parametrize("header", ALIEN, ids=str)
def test_alien_files_are_refused(tmp_path: Path, header: Any) -> None:
    path = tmp_path / "alien.safetensors"
    text = header if isinstance(header, str) else json.dumps(header)
    save_file({"a": np.zeros(3)}, path, metadata=None if header is None else {"ppfsl": text})
    with pytest.raises(UserError) as caught:
        load_checkpoint(path)
    assert str(caught.value) == f"{path} is not a checkpoint of ppfsl; name one that a run wrote in its checkpoints/"


def test_weights_under_the_wrong_architecture_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    weights = weights_of(build_embedder(ARCHITECTURE, 1))
    save_checkpoint(Checkpoint(Architecture("conv4", 16, 1, 7, "unit", (("width", 4),)), weights), path)
    with pytest.raises(UserError, match=r"c\.safetensors: weight 'projection\.weight' has shape \[4, 6\]"):
        load_embedder(path)


def test_pickles_are_no_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "c.pdparams"
    paddle.save(build_embedder(ARCHITECTURE, 1).state_dict(), str(path))
    with pytest.raises(UserError, match="is not a checkpoint of ppfsl"):
        load_checkpoint(path)


# --- what a method learned beside the embedder


def with_layer(path: Path, description: dict[str, Any]) -> Checkpoint:
    """Write a checkpoint with such a layer, every weight of which was changed since it was built."""
    layer = build_layer(description, seed=3)
    for name, tensor in layer.state_dict().items():
        tensor.set_value(generator(0, "learned", name).uniform(0.5, 1, tensor.shape).astype(np.float32))
    embedder = weights_of(build_embedder(ARCHITECTURE, 1))
    checkpoint = Checkpoint(ARCHITECTURE, embedder, describe(layer), weights_of(layer), TRAINING, FACTS)
    save_checkpoint(checkpoint, path)
    return checkpoint


@pytest.mark.parametrize("description", LAYERS, ids=lambda description: description["name"])
def test_layer_round_trip(tmp_path: Path, description: dict[str, Any]) -> None:
    written = with_layer(tmp_path / "c.safetensors", description)
    found = load_checkpoint(tmp_path / "c.safetensors")
    assert found.layer == written.layer == description
    assert same(found.layer_weights, written.layer_weights)
    assert same(found.weights, written.weights)
    assert same(found.training, TRAINING)
    assert found.facts == FACTS
    load_embedder(tmp_path / "c.safetensors")  # in whose way the layer's weights are not


@pytest.mark.parametrize("description", LAYERS, ids=lambda description: description["name"])
def test_method_layer_is_the_trained_one_frozen_and_in_evaluation_mode(
    tmp_path: Path, description: dict[str, Any]
) -> None:
    written = with_layer(tmp_path / "c.safetensors", description)
    layer = method_layer(load_checkpoint(tmp_path / "c.safetensors"), "c.safetensors")
    assert layer is not None
    assert describe(layer) == description
    assert same(weights_of(layer), written.layer_weights)
    assert not any(part.training for part in layer.sublayers(include_self=True))
    assert all(parameter.stop_gradient for parameter in layer.parameters())


def test_checkpoint_without_layer_has_no_method_layer(tmp_path: Path) -> None:
    write(tmp_path / "c.safetensors")
    assert method_layer(load_checkpoint(tmp_path / "c.safetensors"), "c.safetensors") is None


def test_checkpoints_of_versions_without_layers_are_read(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    written = write(path)
    with safe_open(str(path), framework="numpy") as file:
        header = json.loads(file.metadata()["ppfsl"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del header["layer"]
    save_file(arrays, path, metadata={"ppfsl": json.dumps(header)})
    found = load_checkpoint(path)
    assert found.layer is None
    assert same(found.weights, written.weights)
    assert method_layer(found, str(path)) is None


@pytest.mark.parametrize(
    "description",
    [
        {"name": "maml", "arguments": {}},
        {"arguments": {"dim": 3}},
        {"name": "relation"},
        {"name": "relation", "arguments": {"shape": [2, 3, 3], "width": 4, "hidden": 3, "depth": 9}},
        {"name": "relation", "arguments": {"width": 4}},
        {"name": "meta_baseline", "arguments": None},
        {"name": "relation", "arguments": {"shape": [3], "width": 4, "hidden": 3}},
        {"name": "relation", "arguments": {"shape": [2, 3, 3], "width": 0, "hidden": 3}},
        {"name": ["relation"], "arguments": {}},
        "relation",
        [],
    ],
    ids=str,
)
def test_layers_that_this_version_does_not_know_are_refused(description: Any) -> None:
    checkpoint = Checkpoint(ARCHITECTURE, {}, description)
    with pytest.raises(UserError) as caught:
        method_layer(checkpoint, "here.safetensors")
    assert str(caught.value) == (
        "here.safetensors holds a method that this version of ppfsl does not know; update ppfsl or train it again"
    )


def test_weights_that_do_not_fit_the_layer_are_refused(tmp_path: Path) -> None:
    written = with_layer(tmp_path / "c.safetensors", LAYERS[2])
    wider = {"name": "relation", "arguments": {"shape": [2, 3, 3], "width": 5, "hidden": 3}}
    with pytest.raises(UserError, match=r"^c\.safetensors: weight 'of_class\.weight' has shape \[4, 2, 3, 3\]"):
        method_layer(Checkpoint(ARCHITECTURE, {}, wider, written.layer_weights), "c.safetensors")
    lacking = {name: value for name, value in written.layer_weights.items() if name != "linears.1.bias"}
    with pytest.raises(UserError, match=r"^c\.safetensors lacks weight 'linears\.1\.bias'"):
        method_layer(Checkpoint(ARCHITECTURE, {}, written.layer, lacking), "c.safetensors")
