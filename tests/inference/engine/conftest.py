"""An engine that has exported nothing yet, and a record of what it exports."""

import warnings
from typing import Any

import pytest

from ppfsl.inference import engine


@pytest.fixture(autouse=True)
def nothing_exported_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_kept", {})


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is exported, as it is."""
    exported: list[Any] = []
    really = engine._export

    def recorded(layer: Any, shape: Any) -> Any:
        exported.append(shape)
        return really(layer, shape)

    monkeypatch.setattr(engine, "_export", recorded)
    return exported


@pytest.fixture(autouse=True)
def few_are_exported_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else these tests' handful of images would be embedded eagerly."""
    monkeypatch.setattr(engine, "FEW", 0)


@pytest.fixture(autouse=True)
def no_warnings() -> Any:
    """Falling back to eager would hide what these tests are about."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Paddle Inference")
        yield
