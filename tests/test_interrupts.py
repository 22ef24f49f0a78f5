"""Ctrl-C that Paddle's C++ side has made something else of."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from ppfsl.backbones.embedder import Architecture, build_embedder
from ppfsl.errors import UserError
from ppfsl.inference import engine
from ppfsl.interrupts import noted
from ppfsl.onednn import convolution, fast_operators


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    """Python's own, which a shell's background jobs lack; the same afterwards."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)  # in which Python gets to it


@pytest.fixture
def pressed_in_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    really = convolution._gradient_of_weight

    def gradient(geometry: Any) -> Any:
        press()
        return really(geometry)

    monkeypatch.setattr(convolution, "_gradient_of_weight", gradient)


def train() -> None:
    weight = paddle.ones([2, 3, 3, 3])
    weight.stop_gradient = False
    with fast_operators():
        F.conv2d(paddle.ones([1, 3, 5, 5]), weight).sum().backward()


@pytest.mark.usefixtures("pressed_in_backward")
def test_paddle_makes_something_else_of_it() -> None:
    """Else the tests below could not fail."""
    with pytest.raises(Exception, match="KeyboardInterrupt"):
        train()


@pytest.mark.usefixtures("pressed_in_backward")
@pytest.mark.parametrize("nested", [False, True])
def test_in_a_backward_pass_it_stays_ctrl_c(nested: bool) -> None:
    with pytest.raises(KeyboardInterrupt), noted():
        if nested:
            with noted():
                train()
        train()


def test_an_export_is_not_taken_for_a_failed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the run would go on eagerly."""

    def interrupted(*_: object) -> None:
        try:
            press()
        except KeyboardInterrupt:
            raise RuntimeError("(PreconditionNotMet) Failed to get callstack object") from None

    monkeypatch.setattr(engine, "_kept", {})
    monkeypatch.setattr(engine, "FEW", 0)  # else one image is embedded without an export
    monkeypatch.setattr(engine, "_export", interrupted)
    embedder = build_embedder(Architecture("conv4", 16, options=(("width", 4),)), 0)
    with pytest.raises(KeyboardInterrupt), noted():
        engine.embed(embedder, np.zeros((1, 16, 16, 3), np.uint8), np.arange(1))


def test_what_is_no_interruption_passes() -> None:
    with pytest.raises(KeyError), noted():
        raise KeyError
    with pytest.raises(KeyboardInterrupt), noted():
        press()
    with pytest.raises(KeyError), noted():  # the one before is over
        raise KeyError
    with noted():
        pass


def test_a_mistake_that_is_heard_of_afterwards_is_said() -> None:
    """Such as that of another process, for which this one has been interrupted."""
    with pytest.raises(UserError, match="mend this"), noted():
        try:
            press()
        except KeyboardInterrupt:
            raise UserError("mend this") from None


def test_those_who_ignore_it_go_on_ignoring_it() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with noted():
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.signal(signal.SIGINT, signal.default_int_handler) is signal.SIG_IGN
