"""Checkpoints: one .safetensors file with the weights, and in its header JSON for everything else.

One file, because one file can be replaced atomically. The embedder's weights stand under their own names; what the
method learned beside it under "method/"; what only training needs under "training/". The JSON (metadata key "ppfsl")
says how to rebuild the embedder and the method's layer.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from paddle import nn
from safetensors.numpy import save

from ppfsl.backbones.embedder import Architecture, Embedder
from ppfsl.backbones.weights import embedder_with, load_strictly, read_weights
from ppfsl.errors import UserError
from ppfsl.files import kind_of, replacing
from ppfsl.methods.layers import build_layer
from ppfsl.version import __version__

_TRAINING, _METHOD = "training/", "method/"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        architecture: rebuilds the embedder.
        weights: the embedder's, by the names of its `state_dict()`.
        layer: rebuilds what the method learned beside the embedder (`ppfsl.methods.layers`); None: nothing.
        layer_weights: its weights, by the names of its `state_dict()`.
        training: arrays that only training needs (optimizer state, the objective's head).
        facts: JSON values: how far training was, what it was trained on.
    """

    architecture: Architecture
    weights: Mapping[str, np.ndarray]
    layer: dict[str, Any] | None = None
    layer_weights: Mapping[str, np.ndarray] = field(default_factory=dict)
    training: Mapping[str, np.ndarray] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write it whole or not at all."""
    header = {
        "schema": 1,
        "ppfsl": __version__,
        "architecture": checkpoint.architecture.to_json(),
        "layer": checkpoint.layer,
        "facts": dict(checkpoint.facts),
    }
    arrays = {name: np.ascontiguousarray(value) for name, value in checkpoint.weights.items()}
    arrays |= {_METHOD + name: np.ascontiguousarray(value) for name, value in checkpoint.layer_weights.items()}
    arrays |= {_TRAINING + name: np.ascontiguousarray(value) for name, value in checkpoint.training.items()}
    with replacing(path) as temporary:
        content = save(arrays, metadata={"ppfsl": json.dumps(header, allow_nan=False, sort_keys=True)})
        temporary.write_bytes(content)  # whose OSError says when the disk is full; safetensors' own says it in words


def best_checkpoint(run: Path) -> Path:
    """The file of a run's folder that holds its best weights.

    Raises:
        UserError: when there is none.
    """
    file = run / "checkpoints" / "best.safetensors"
    if kind_of(file) != "file":
        raise UserError(
            f"{run} holds no trained embedder ({file} is missing); name the folder of a finished run, or run its "
            "configuration again, which makes what is missing"
        )
    return file


def checkpoint_file(path: Path) -> Path:
    """The file itself that somebody has named, or of a run's folder the one with its best weights.

    Raises:
        UserError: when a folder holds none.
    """
    return best_checkpoint(path) if kind_of(path) == "folder" else path


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint file.

    Raises:
        UserError: when it is missing, damaged, or no checkpoint of ppfsl.
    """
    wrong = UserError(f"{path} is not a checkpoint of ppfsl; name one that a run wrote in its checkpoints/")
    if path.suffix == ".pdparams" and kind_of(path) == "file":  # a pickle, which can run code
        raise wrong
    arrays, metadata = read_weights(path)
    try:
        header = json.loads(metadata["ppfsl"])
        architecture = Architecture.from_json(header["architecture"])
        facts = header["facts"]
    except (KeyError, TypeError, ValueError):
        raise wrong from None
    weights = {name: value for name, value in arrays.items() if not name.startswith((_TRAINING, _METHOD))}
    return Checkpoint(
        architecture, weights, header.get("layer"), _below(_METHOD, arrays), _below(_TRAINING, arrays), facts
    )


def _below(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name[len(prefix) :]: value for name, value in arrays.items() if name.startswith(prefix)}


def load_embedder(path: Path) -> Embedder:
    """The embedder of a checkpoint file; no configuration is needed.

    Raises:
        UserError: as `load_checkpoint`, or when the weights do not fit the architecture it names.
    """
    return embedder_of(load_checkpoint(path), str(path))


def embedder_of(checkpoint: Checkpoint, origin: str) -> Embedder:
    """The embedder of a checkpoint.

    Raises:
        UserError: when the weights do not fit the architecture it names; `origin` says where they are from.
    """
    return embedder_with(checkpoint.architecture, checkpoint.weights, origin)


def method_layer(checkpoint: Checkpoint, origin: str) -> nn.Layer | None:
    """What the method of a checkpoint learned beside the embedder, frozen, in evaluation mode; None: nothing.

    Raises:
        UserError: when it is no layer that this version knows, or its weights do not fit.
    """
    if checkpoint.layer is None:
        return None
    try:
        layer = build_layer(checkpoint.layer, seed=0)
    except (KeyError, TypeError, ValueError, IndexError, ArithmeticError):
        raise UserError(
            f"{origin} holds a method that this version of ppfsl does not know; update ppfsl or train it again"
        ) from None
    load_strictly(layer, checkpoint.layer_weights, origin)
    layer.eval()
    for parameter in layer.parameters():
        parameter.stop_gradient = True
    return layer
