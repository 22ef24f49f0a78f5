"""Weights from files and from Paddle's hub: all of them or none."""

from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.vision.models import mobilenet_v1
from safetensors.numpy import save_file

from ppfsl.backbones.embedder import Architecture, Embedder, build_embedder
from ppfsl.backbones.weights import load_pretrained, load_strictly, read_weights, weights_of
from ppfsl.errors import UserError
from ppfsl.randomness import generator
from ppfsl.training.checkpoint import Checkpoint, save_checkpoint

CONV4 = Architecture("conv4", 16, projection=6, options=(("width", 4),))
MOBILENET = Architecture("mobilenet_v1", 16, projection=6, options=(("scale", 0.25),))


def embedder(seed: int = 0, architecture: Architecture = CONV4) -> Embedder:
    return build_embedder(architecture, seed)


def arrays(layer: nn.Layer) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in layer.state_dict().items()}


def other(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Other numbers in the same shapes, the statistics of batch norm included."""
    return {name: generator(0, "other", name).random(value.shape).astype(np.float32) for name, value in weights.items()}


def same(one: dict[str, np.ndarray], two: dict[str, np.ndarray]) -> bool:
    return one.keys() == two.keys() and all(np.array_equal(value, two[name]) for name, value in one.items())


# --- strict loading


def test_every_parameter_and_statistic_is_set() -> None:
    layer = embedder()
    wanted = other(arrays(layer))
    assert any(name.endswith("_variance") for name in wanted)
    load_strictly(layer, wanted, "here")
    assert same(arrays(layer), wanted)


def test_other_number_types_and_layouts_are_converted() -> None:
    layer = nn.Linear(3, 2)
    weights = {"weight": np.asfortranarray(np.arange(6.0).reshape(3, 2)), "bias": np.asarray([1, 2], dtype=np.float16)}
    load_strictly(layer, weights, "here")
    assert layer.weight.numpy().tolist() == [[0, 1], [2, 3], [4, 5]]
    assert layer.weight.dtype == layer.bias.dtype == paddle.float32


FIRST = "backbone.blocks.0.0.weight"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({FIRST: None}, f"file.x lacks weight '{FIRST}'; it belongs to another architecture"),
        ({FIRST: None, "projection.bias": None}, f"file.x lacks weight '{FIRST}' and 1 more; it belongs"),
        ({"fc.weight": np.zeros(3)}, "file.x has an unknown weight 'fc.weight'; it belongs to another architecture"),
        (
            {"projection.bias": np.zeros(7)},
            "file.x: weight 'projection.bias' has shape [7], the network needs [6]; it belongs to another architecture",
        ),
        ({"projection.bias": np.zeros((6, 1))}, "has shape [6, 1], the network needs [6]"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(changes: dict[str, Any], sentence: str) -> None:
    layer = embedder()
    before = arrays(layer)
    weights = {name: value for name, value in {**other(before), **changes}.items() if value is not None}
    with pytest.raises(UserError) as caught:
        load_strictly(layer, weights, "file.x")
    assert sentence in str(caught.value)
    assert same(arrays(layer), before)


# --- files


def test_safetensors_round_trip(tmp_path: Path) -> None:
    weights = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b.c": np.asarray([7], dtype=np.int64)}
    save_file(weights, tmp_path / "w.safetensors", metadata={"k": "v"})
    found, metadata = read_weights(tmp_path / "w.safetensors")
    assert same(found, weights)
    assert metadata == {"k": "v"}
    save_file(weights, tmp_path / "w.safetensors")
    assert read_weights(tmp_path / "w.safetensors")[1] == {}


def test_pdparams_round_trip(tmp_path: Path) -> None:
    layer = embedder()
    paddle.save(layer.state_dict(), str(tmp_path / "w.pdparams"))
    found, metadata = read_weights(tmp_path / "w.pdparams")
    assert same(found, arrays(layer))
    assert metadata == {}


@pytest.mark.parametrize("name", ["w.safetensors", "w.pdparams"])
def test_missing_and_damaged_files_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=rf"^there is no weights file \S+{name}$"):
        read_weights(tmp_path / name)
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(UserError, match="there is no weights file"):
        read_weights(tmp_path / "folder.safetensors")
    whole = tmp_path / f"whole_{name}"
    if name.endswith(".pdparams"):
        paddle.save(embedder().state_dict(), str(whole))
    else:
        save_file(arrays(embedder()), whole)
    for content in (b"", b"nonsense", whole.read_bytes()[:-10], whole.read_bytes()[:100]):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"{name} is not a readable \.{name[2:]} file"):
            read_weights(tmp_path / name)


def test_number_type_that_numpy_lacks_is_refused(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(UserError, match=r"w\.safetensors is not a readable \.safetensors file"):
        read_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize("value", [[1, 2], {"a": {"b": paddle.ones([1])}}, {"epoch": 3}])
def test_pdparams_of_something_else_is_refused(tmp_path: Path, value: Any) -> None:
    paddle.save(value, str(tmp_path / "w.pdparams"))
    with pytest.raises(UserError, match="holds something else than a dictionary of weights"):
        read_weights(tmp_path / "w.pdparams")


# --- pretrained backbones


def test_none_leaves_the_weights() -> None:
    layer = embedder()
    before = arrays(layer)
    load_pretrained(layer, "none")
    assert same(arrays(layer), before)


@pytest.mark.parametrize("kind", ["safetensors", "pdparams"])
def test_file_with_a_classifier_fills_the_backbone_alone(tmp_path: Path, kind: str) -> None:
    network = mobilenet_v1(scale=0.25, num_classes=3)
    path = tmp_path / f"w.{kind}"
    if kind == "pdparams":
        paddle.save(network.state_dict(), str(path))
    else:
        save_file(arrays(network), path)
    layer = embedder(architecture=MOBILENET)
    projection = arrays(layer.projection)
    load_pretrained(layer, str(path))
    wanted = {name: value for name, value in arrays(network).items() if not name.startswith("fc.")}
    assert len(wanted) == len(arrays(network)) - 2
    assert same(arrays(layer.backbone), wanted)
    assert same(arrays(layer.projection), projection)


def test_checkpoint_fills_the_backbone_alone(tmp_path: Path) -> None:
    trained, layer = embedder(seed=1), embedder(seed=0)
    projection = arrays(layer.projection)
    save_checkpoint(
        Checkpoint(CONV4, weights_of(trained), training={"head.weight": np.zeros(3)}), tmp_path / "c.safetensors"
    )
    load_pretrained(layer, str(tmp_path / "c.safetensors"))
    assert same(arrays(layer.backbone), arrays(trained.backbone))
    assert same(arrays(layer.projection), projection)


def test_weights_of_another_backbone_are_refused(tmp_path: Path) -> None:
    save_file(arrays(embedder().backbone), tmp_path / "conv4.safetensors")
    layer = embedder(architecture=MOBILENET)
    before = arrays(layer)
    with pytest.raises(UserError, match=r"conv4\.safetensors lacks weight 'conv1.+ belongs to another architecture"):
        load_pretrained(layer, str(tmp_path / "conv4.safetensors"))
    assert same(arrays(layer), before)


# --- Paddle's hub, which is never reached from here


def unreachable(*_: Any, **__: Any) -> str:
    raise RuntimeError("Downloading from https://example.invalid/x failed.\nRetry limit reached")


def test_unreachable_hub_points_to_local_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paddle.vision.models.mobilenetv1.get_weights_path_from_url", unreachable)
    architecture = Architecture("mobilenet_v1", 16)
    layer = embedder(architecture=architecture)
    before = arrays(layer)
    with pytest.raises(
        UserError,
        match=r"^the ImageNet weights of mobilenet_v1 cannot be had from Paddle's hub \(Retry limit reached\); "
        r"set backbone\.pretrained to a local \.safetensors file$",
    ):
        load_pretrained(layer, "imagenet")
    assert same(arrays(layer), before)


def test_unreachable_hub_for_resnet18(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paddle.vision.models.resnet.get_weights_path_from_url", unreachable)
    with pytest.raises(UserError, match=r"weights of resnet18 cannot be had .+ local \.safetensors file"):
        load_pretrained(embedder(architecture=Architecture("resnet18", 16)), "imagenet")


def test_width_that_the_hub_lacks_points_to_local_files() -> None:
    with pytest.raises(UserError, match=r"mobilenet_v1 cannot be had from Paddle's hub .+ local \.safetensors file"):
        load_pretrained(embedder(architecture=MOBILENET), "imagenet")


def test_hub_has_no_few_shot_backbones() -> None:
    with pytest.raises(UserError, match=r"hub has no ImageNet weights for conv4; set backbone\.pretrained to none or"):
        load_pretrained(embedder(), "imagenet")


def test_weights_of_the_hub_fill_the_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = mobilenet_v1()
    path = tmp_path / "hub.pdparams"
    paddle.save(network.state_dict(), str(path))
    monkeypatch.setattr("paddle.vision.models.mobilenetv1.get_weights_path_from_url", lambda *_: str(path))
    layer = embedder(architecture=Architecture("mobilenet_v1", 16, projection=4))
    load_pretrained(layer, "imagenet")
    wanted = {name: value for name, value in arrays(network).items() if not name.startswith("fc.")}
    assert same(arrays(layer.backbone), wanted)
