"""The real photographs, drawings and weights below PPFSL_DATA; tests that need them are skipped where they are not."""

import os
from pathlib import Path

import pytest

_WEIGHTS = "mobilenet_v1_075_imagenet.safetensors"


def real_data(what: str = "photographs") -> Path:
    """The folder that PPFSL_DATA names; skips where it names none."""
    if "PPFSL_DATA" not in os.environ:
        pytest.skip(f"PPFSL_DATA is not set, so there are no {what}")
    return Path(os.environ["PPFSL_DATA"]).absolute()


def real_folder(name: str, what: str = "photographs") -> Path:
    """A data set's folder in it; skips where it is missing."""
    folder = real_data(what) / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing")
    return folder


def real_flowers_and_weights() -> tuple[Path, Path]:
    """PPFSL_DATA, which has flowers102, and MobileNetV1's ImageNet weights in it or beside it; skips without both."""
    data = real_data()
    weights = next((p for p in (data / "weights" / _WEIGHTS, data.parent / "weights" / _WEIGHTS) if p.is_file()), None)
    if weights is None or not (data / "flowers102").is_dir():
        pytest.skip(f"flowers102 is missing in {data}, or weights/{_WEIGHTS} in it or beside it")
    return data, weights
