"""Mixed precision, as far as it can be tried without a GPU: which type is asked for, and the scale of float16."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from ppfsl import pipeline
from ppfsl.backbones.embedder import Architecture, build_embedder
from ppfsl.config import StageConfig
from ppfsl.config_file import parse_config
from ppfsl.errors import UserError
from ppfsl.training import precision as precision_module
from ppfsl.training.precision import Precision
from ppfsl.training.stage import Stage


@pytest.fixture
def casts(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """With what arguments 16 bits were asked for; nothing is cast."""
    asked: list[dict[str, Any]] = []
    really = paddle.amp.auto_cast

    def recorded(**arguments: Any) -> Any:
        asked.append(arguments)
        return really(enable=False)

    monkeypatch.setattr(paddle.amp, "auto_cast", recorded)
    return asked


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Call it to have a GPU with bfloat16, or one without."""
    return lambda bfloat16: monkeypatch.setattr(paddle.amp, "is_bfloat16_supported", lambda: bfloat16)


def layer_and_optimizer() -> tuple[paddle.nn.Layer, Any]:
    layer = paddle.nn.Linear(3, 2)
    for parameter in layer.parameters():
        parameter.set_value(np.linspace(-1, 1, parameter.size, dtype=np.float32).reshape(parameter.shape))
    return layer, paddle.optimizer.SGD(0.5, layer.parameters(), grad_clip=paddle.nn.ClipGradByGlobalNorm(0.1))


def trained(precision: Precision, factor: float = 1.0) -> list[np.ndarray]:
    """The weights after a clipped step; the factor makes gradients overflow or not."""
    layer, optimizer = layer_and_optimizer()
    with precision.network():
        output = layer(paddle.ones([4, 3]))
    precision.backward(output.square().mean() * factor)
    precision.step(optimizer, layer.parameters())
    return [parameter.numpy() for parameter in layer.parameters()]


def test_full_precision_asks_for_nothing(casts: list[dict[str, Any]]) -> None:
    layer, optimizer = layer_and_optimizer()
    layer(paddle.ones([4, 3])).square().mean().backward()
    optimizer.step()
    plain = Precision(mixed=False)
    for found, parameter in zip(trained(plain), layer.parameters(), strict=True):
        assert np.array_equal(found, parameter.numpy())
    assert casts == [] and plain.state() == {}


@pytest.mark.parametrize(("bfloat16", "dtype"), [(True, "bfloat16"), (False, "float16")])
def test_networks_run_in_what_the_gpu_has(
    bfloat16: bool, dtype: str, casts: list[dict[str, Any]], gpu: Callable[[bool], None]
) -> None:
    gpu(bfloat16)
    found = trained(Precision(mixed=True))
    assert casts == [{"level": "O1", "dtype": dtype}]
    for one, other in zip(found, trained(Precision(mixed=False)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)  # clipped after the scale is taken out


def test_float16_multiplies_the_loss_and_bfloat16_does_not(gpu: Callable[[bool], None]) -> None:
    for bfloat16, expected in ((True, 1.0), (False, 2.0**15)):
        gpu(bfloat16)
        value = paddle.to_tensor(3.0, stop_gradient=False)
        Precision(mixed=True).backward(value * 1.0)
        assert value.grad.item() == expected


def test_a_step_whose_gradient_overflows_is_skipped_and_the_scale_halved(
    gpu: Callable[[bool], None], casts: list[dict[str, Any]]
) -> None:
    gpu(False)
    precision = Precision(mixed=True)
    before = [parameter.numpy() for parameter in layer_and_optimizer()[0].parameters()]
    after = trained(precision, factor=1e38)
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    assert precision.state() == {"scale": 2.0**14, "good": 0}
    assert not np.array_equal(trained(precision)[0], before[0])
    assert precision.state() == {"scale": 2.0**14, "good": 1}


def test_without_a_scale_no_step_is_skipped(gpu: Callable[[bool], None], casts: list[dict[str, Any]]) -> None:
    """The stage finds the weights that are no numbers, and says so."""
    gpu(True)
    for precision in (Precision(mixed=False), Precision(mixed=True)):
        weight, _ = trained(precision, factor=float("inf"))
        assert not np.isfinite(weight).all()


def test_the_scale_doubles_after_many_good_steps(
    gpu: Callable[[bool], None], casts: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu(False)
    monkeypatch.setattr(precision_module, "_PATIENCE", 3)
    precision = Precision(mixed=True)
    scales = []
    for factor in (1.0, 1.0, 1e38, 1.0, 1.0, 1.0, 1.0):
        trained(precision, factor)
        scales.append(precision.state()["scale"] / 2.0**15)
    assert scales == [1, 1, 0.5, 0.5, 0.5, 1, 1]


def test_the_scale_goes_on_from_a_checkpoint(gpu: Callable[[bool], None], casts: list[dict[str, Any]]) -> None:
    gpu(False)
    first, second = Precision(mixed=True), Precision(mixed=True)
    trained(first, factor=1e38)
    trained(first)
    second.load_state(first.state())
    assert second.state() == first.state() == {"scale": 2.0**14, "good": 1}
    second.load_state({})
    assert second.state() == first.state()
    gpu(True)
    other = Precision(mixed=True)
    other.load_state(first.state())
    assert other.state() == {}


def test_a_cpu_is_refused_before_anything_is_written(tiny_tree: Callable[[], dict[str, Any]], tmp_path: Path) -> None:
    tree = tiny_tree() | {"output_dir": str(tmp_path / "run"), "amp": "O1", "device": "cpu"}
    with pytest.raises(UserError, match=r"^amp: O1 needs a GPU, and this run is on the cpu; set it to none$"):
        pipeline.run(parse_config(tree, "tiny"), "tiny")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("bfloat16", [True, False])
def test_a_stage_trains_and_resumes_with_it(
    bfloat16: bool, gpu: Callable[[bool], None], casts: list[dict[str, Any]], tiny_tree: Callable[[], dict[str, Any]]
) -> None:
    gpu(bfloat16)
    settings = StageConfig.model_validate({"objective": {"name": "cross_entropy", "batch_size": 4}, "epochs": 2})
    table = pipeline.open_data(parse_config(tiny_tree(), "tiny")).table

    def stage(mixed: bool) -> Stage:
        architecture = Architecture("conv4", 16, 3, 6, options=(("width", 4),))
        return Stage(settings, build_embedder(architecture, 0), table, np.arange(24), 0, mixed=mixed)

    mixed, plain = stage(True), stage(False)
    losses = [[step.terms["loss"] for step in one.run_epoch(0)] for one in (mixed, plain)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)  # what is shown is the loss itself
    assert len(casts) == len(losses[0])
    state = mixed.state()
    assert ("precision.scale" in state) == (not bfloat16)
    resumed = stage(True)
    resumed.embedder.set_state_dict(mixed.embedder.state_dict())
    resumed.load_state({name: np.array(value) for name, value in state.items()})
    again = resumed.state()
    assert state.keys() == again.keys() and all(np.array_equal(state[name], again[name]) for name in state)


def test_methods_of_many_steps_are_refused(tiny_tree: Callable[[], dict[str, Any]], tmp_path: Path) -> None:
    tree = tiny_tree() | {"output_dir": str(tmp_path / "run"), "amp": "O1"}
    tree["pretrain"] = [{"objective": {"name": "maml", "way": 3, "shot": 1, "query": 2}}]
    config = parse_config(tree, "tiny")
    data = pipeline.open_data(config)
    with pytest.raises(UserError, match=r"^1_maml: amp: O1 does not go with maml, whose steps need 32 bits; set it to"):
        pipeline.prepared_training(config, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
