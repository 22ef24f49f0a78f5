"""A small embedder, and the building of a method for it from an adaptation's keys."""

from typing import Any

from paddle import nn
from pydantic import TypeAdapter

from ppfsl.backbones.embedder import Architecture, build_embedder
from ppfsl.config import Adaptation
from ppfsl.methods.base import Method
from ppfsl.methods.build import build_method

EMBEDDER = build_embedder(Architecture("conv4", 16, 3, 5, "unit", (("width", 4),)), 0)
WEIGHTS = {f"embedder.{name}": int(w.size) for name, w in EMBEDDER.named_parameters() if w.trainable}
FULL = {"name": "matching", "context": "full"}


def adaptation(**keys: Any) -> Adaptation:
    return TypeAdapter(Adaptation).validate_python(keys)


def build(keys: dict[str, Any], layer: nn.Layer | None = None, seed: int = 3) -> Method:
    return build_method(adaptation(**keys), EMBEDDER, seed, layer)
