from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from ppfsl.backbones.embedder import Architecture, build_embedder
from ppfsl.config import StageConfig
from ppfsl.data.table import ImageTable
from ppfsl.onednn import available, fast_operators, native, operators, selfcheck
from ppfsl.onednn import library as dnnl
from ppfsl.onednn.convolution import convolution
from ppfsl.training.stage import Stage


@pytest.fixture(autouse=True)
def _forget():
    cached = (dnnl.library, selfcheck.available, selfcheck.problem)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


def test_this_paddle_passes():
    assert selfcheck.problem() == ""
    assert available()


def test_it_runs_once_a_process(monkeypatch):
    assert available()
    monkeypatch.setattr(selfcheck, "_agrees", None)
    monkeypatch.setattr(selfcheck, "library", None)
    assert available()
    assert selfcheck.problem() == ""


@pytest.mark.parametrize("context", [paddle.no_grad, fast_operators], ids=["no_grad", "fast_operators"])
def test_it_may_be_asked_anywhere(context):
    with context():
        assert selfcheck.problem() == ""


def _wrong_numbers(maps, weight, geometry):
    return convolution(maps, weight, geometry) * 1.01


def _wrong_gradients(maps, weight, geometry):
    output = convolution(maps, weight, geometry)
    return output + 0.1 * (output - output.detach())


def _in_groups_alone(maps, weight, geometry):
    return convolution(maps, weight, geometry) * (1.01 if geometry.groups > 1 else 1.0)


def _fail(*_):
    raise dnnl.OneDNNError("oneDNN's primitive_create returned status 3")


def _swap_weight_and_bias(patch):
    normalization = native.batch_normalization
    patch.setattr(native, "batch_normalization", lambda x, weight, bias, *rest: normalization(x, bias, weight, *rest))


FAULTS = {
    "missing": (
        lambda patch, folder: patch.setattr(paddle, "__file__", str(folder / "__init__.py")),
        "this Paddle ships no oneDNN in ",
    ),
    "another version": (
        lambda patch, _: patch.setattr(
            dnnl.ctypes,
            "CDLL",
            lambda _: SimpleNamespace(dnnl_version=lambda: dnnl.ctypes.pointer(dnnl._Version(4, 1, 0))),
        ),
        "this Paddle ships oneDNN 4.1, not version 3",
    ),
    "a function less": (lambda patch, _: patch.setitem(dnnl._SIGNATURES, "of_tomorrow", ()), "dnnl_of_tomorrow"),
    "a failing call": (lambda patch, _: patch.setattr(native, "convolution", _fail), "returned status 3"),
    "wrong numbers": (lambda patch, _: patch.setattr(native, "convolution", _wrong_numbers), "differ from Paddle's"),
    "wrong gradients": (
        lambda patch, _: patch.setattr(native, "convolution", _wrong_gradients),
        "differ from Paddle's",
    ),
    "wrong groups": (lambda patch, _: patch.setattr(native, "convolution", _in_groups_alone), "differ from Paddle's"),
    "wrong batch norm": (lambda patch, _: _swap_weight_and_bias(patch), "differ from Paddle's"),
    "another pooling": (
        lambda patch, _: patch.setattr(native, "max_pooling", lambda x, window: -native.native["pool2d"](-x, *POOLING)),
        "differ from Paddle's",
    ),
    "another device": (lambda patch, _: patch.setattr(paddle, "get_device", lambda: "gpu:0"), "not a CPU"),
}
POOLING = ([3, 3], [2, 2], [0, 0], False, True, "NCHW", "max", False, False, "EXPLICIT")


@pytest.mark.parametrize("fault", FAULTS)
def test_the_reason_is_told_and_paddles_own_operators_serve(monkeypatch, tmp_path, fault):
    make, reason = FAULTS[fault]
    make(monkeypatch, tmp_path)
    assert reason in selfcheck.problem()
    assert not available()
    assert isinstance(operators(wanted=True), nullcontext)


def stage_of(images: int = 16) -> Stage:
    """A stage that trains Conv4 on noise."""
    labels = np.repeat(np.arange(3), 4)
    pixels = np.random.default_rng(0).integers(0, 256, (12, images, images, 3)).astype(np.uint8)
    table = ImageTable("toy", pixels, labels, dict.fromkeys(range(3), ""), ("",) * 12, {}, "0" * 64)
    embedder = build_embedder(Architecture("conv4", images, options=(("width", 4),)), 0)
    objective = {"name": "cross_entropy", "batch_size": 6}
    config = StageConfig.model_validate({"objective": objective, "epochs": 2, "steps_per_epoch": 2})
    return Stage(config, embedder, table, np.arange(12), 0)


def trained(onednn: bool) -> tuple[list[float], dict[str, np.ndarray]]:
    """The losses and the weights."""
    stage = stage_of()
    with operators(onednn):
        losses = [step.terms["loss"] for epoch in range(2) for step in stage.run_epoch(epoch)]
    return losses, {name: value.numpy() for name, value in stage.embedder.state_dict().items()}


def test_stages_call_onednn_where_it_is_wanted_and_nowhere_else(calls):
    assert available()
    calls.clear()
    (own, _), none = trained(onednn=False), dict(calls)
    fast, _ = trained(onednn=True)
    assert none == {}
    assert calls == dict.fromkeys(("convolution", "batch_normalization", "max_pooling"), 4 * 2 * 2)
    np.testing.assert_allclose(fast, own, rtol=1e-3)
    assert fast != own


def test_stages_without_a_passing_onednn_do_not_call_it(calls, monkeypatch):
    monkeypatch.setattr(selfcheck, "library", _fail)
    trained(onednn=True)
    assert not calls


def test_a_stage_trained_twice_gives_the_same_bits(calls):
    (losses, weights), (again, others) = trained(onednn=True), trained(onednn=True)
    assert calls
    assert losses == again
    for name, value in weights.items():
        np.testing.assert_array_equal(value, others[name])


def test_it_draws_no_random_numbers():
    paddle.seed(5)
    expected = paddle.rand([3]).numpy()
    paddle.seed(5)
    assert selfcheck.problem() == ""
    np.testing.assert_array_equal(paddle.rand([3]).numpy(), expected)
