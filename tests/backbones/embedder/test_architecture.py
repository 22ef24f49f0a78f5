"""Architectures as JSON, and values that are none."""

from typing import Any

import pytest

from ppfsl.backbones.embedder import Architecture
from tests.backbones.embedder.small import small


def test_architecture_round_trip() -> None:
    for architecture in (
        small(),
        Architecture("mobilenet_v1", 224, 3, 128, "signed", (("scale", 0.75),)),
        Architecture("conv4", 28, 1, None, "inverted", (("pools", 2), ("width", 8))),
        Architecture("koch", 105, 1),
        small(mirror=True, power=0.5, centered=True, whitened=True),
    ):
        assert Architecture.from_json(architecture.to_json()) == architecture
    assert small().to_json()["options"] == {"width": 4}


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": "vgg"},
        {"options": None},
        {"options": 3},
        {"options": ["x"]},
        {"heads": 4},
        {"power": 0},
        {"power": 1.5},
        {"power": True},
        {"power": float("nan")},
        {"power": "0.5"},
        {"mirror": 1},
        {"centered": "no"},
        {"whitened": None},
    ],
)
def test_other_values_are_no_architecture(changes: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Architecture.from_json({**small().to_json(), **changes})


def test_architectures_of_before_embedders_were_finished_are_not() -> None:
    value = small().to_json()
    for key in ("mirror", "power", "centered", "whitened"):
        del value[key]
    assert Architecture.from_json(value) == small()


def test_unfinished_architectures() -> None:
    assert small(mirror=True, power=0.5, centered=True, whitened=True).unfinished() == small() == small().unfinished()
    assert not small(mirror=True).straightens
    assert small(power=0.5).straightens
    assert small(centered=True).straightens
    assert small(whitened=True).straightens


def test_incomplete_values_are_no_architecture() -> None:
    for key in ("backbone", "image_size", "options"):
        value = small().to_json()
        del value[key]
        with pytest.raises((KeyError, TypeError)):
            Architecture.from_json(value)
