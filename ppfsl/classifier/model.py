"""A classifier in one file: embedder, head, the support set that it was built from, and when to say "none of these".

The file is .safetensors: arrays, and JSON for everything else under the metadata key "ppfsl_classifier". It can be
opened without trusting whoever sent it.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from ppfsl.backbones.embedder import Architecture, Embedder, build_embedder
from ppfsl.backbones.weights import load_strictly, read_weights
from ppfsl.distances import normalized
from ppfsl.errors import UserError
from ppfsl.files import replacing
from ppfsl.version import __version__

_KEY, _EMBEDDER, _ARRAYS = "ppfsl_classifier", "embedder/", ("weight", "bias", "embeddings", "labels", "thumbnails")


@dataclass(frozen=True)
class Rejection:
    """When a picture counts as unlike every class: its greatest cosine to a class mean is below the threshold.

    Attributes:
        threshold: -1..1.
        known_kept: share of pictures of known classes that it kept where it was chosen.
        unknown_rejected: share of pictures of other classes that it rejected there.
        chosen_on: in words.
    """

    threshold: float
    known_kept: float
    unknown_rejected: float
    chosen_on: str


@dataclass(frozen=True)
class Classifier:
    """What labels pictures.

    Attributes:
        embedder: frozen.
        resize: pixels of the shorter side of pictures, whose centre the embedder sees.
        class_names: [K].
        weight: float32 [D, K]; logits of an embedding e of length one: e @ weight + bias.
        bias: float32 [K].
        embeddings: float32 [S, D] of the support pictures, of length one.
        labels: int64 [S], 0..K - 1.
        thumbnails: uint8 [S, T, T, C].
        files: [S], their names.
        rejection: None: nothing to choose a threshold by.
        adaptation: how the head was made.
        origin: where the embedder comes from, in words.
    """

    embedder: Embedder
    resize: int
    class_names: tuple[str, ...]
    weight: np.ndarray
    bias: np.ndarray
    embeddings: np.ndarray
    labels: np.ndarray
    thumbnails: np.ndarray
    files: tuple[str, ...]
    rejection: Rejection | None
    adaptation: str
    origin: str

    @property
    def means(self) -> np.ndarray:
        """The classes' mean support embeddings, of length one: float32 [K, D]."""
        sums = np.zeros((len(self.class_names), self.embeddings.shape[1]), dtype=np.float32)
        np.add.at(sums, self.labels, self.embeddings)
        return normalized(sums)

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """[N, D] of length one -> [N, K]."""
        return embeddings @ self.weight + self.bias


def save_classifier(classifier: Classifier, path: Path) -> None:
    """Write it whole or not at all."""
    header = {
        "schema": 1,
        "ppfsl": __version__,
        "architecture": classifier.embedder.architecture.to_json(),
        "rejection": None if classifier.rejection is None else asdict(classifier.rejection),
        "class_names": list(classifier.class_names),
        "files": list(classifier.files),
        **{key: getattr(classifier, key) for key in ("resize", "adaptation", "origin")},
    }
    arrays = {name: np.ascontiguousarray(getattr(classifier, name)) for name in _ARRAYS}
    for name, tensor in classifier.embedder.state_dict().items():
        arrays[_EMBEDDER + name] = np.ascontiguousarray(tensor.numpy())
    with replacing(path) as temporary:
        temporary.write_bytes(save(arrays, metadata={_KEY: json.dumps(header, allow_nan=False, sort_keys=True)}))


def load_classifier(path: Path) -> Classifier:
    """Read a classifier's file.

    Raises:
        UserError: when it is missing, damaged, or no classifier of ppfsl.
    """
    arrays, metadata = read_weights(path)
    if _KEY not in metadata:
        what = "a checkpoint of a run" if "ppfsl" in metadata else "no classifier of ppfsl"
        raise UserError(f"{path} is {what}; build a classifier with tools/finetune.py")
    try:
        header = json.loads(metadata[_KEY])
        embedder = build_embedder(Architecture.from_json(header["architecture"]), seed=0)
        parts = {name: arrays.pop(name) for name in _ARRAYS}
        fields: dict[str, Any] = {**parts, **_checked(header, parts, embedder.dim)}
        classifier = Classifier(embedder=embedder, **fields)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is a damaged classifier ({error!s:.200}); build it again") from None
    weights = {name.removeprefix(_EMBEDDER): value for name, value in arrays.items()}
    load_strictly(embedder, weights, str(path))
    embedder.eval()
    return classifier


def _checked(header: dict[str, Any], parts: dict[str, np.ndarray], dim: int) -> dict[str, Any]:
    """The fields that are no arrays; raises where they and the arrays do not make a classifier."""
    names, files = tuple(map(str, header["class_names"])), tuple(map(str, header["files"]))
    shapes = {"weight": (dim, len(names)), "bias": (len(names),), "embeddings": (len(files), dim)}
    shapes["labels"] = (len(files),)
    for name, shape in shapes.items():
        if parts[name].shape != shape:
            raise ValueError(f"{name} has shape {list(parts[name].shape)}, not {list(shape)}")
    if set(parts["labels"].tolist()) != set(range(len(names))) or len(names) < 2:
        raise ValueError("its support set lacks a class")
    thumbnails = parts["thumbnails"]
    if thumbnails.ndim != 4 or len(thumbnails) != len(files) or thumbnails.dtype != np.uint8:
        raise ValueError("its thumbnails are no pictures")
    if not all(np.isfinite(parts[name]).all() for name in ("weight", "bias", "embeddings")):
        raise ValueError("it holds numbers that are not finite")
    resize, rejection = header["resize"], header["rejection"]
    if not isinstance(resize, int) or not header["architecture"]["image_size"] <= resize <= 4096:
        raise ValueError(f"resize is {resize!r}")
    if rejection is not None:
        rejection = Rejection(**rejection)
        if not math.isfinite(rejection.threshold):
            raise ValueError("its threshold is no number")
    return {
        "resize": resize,
        "class_names": names,
        "files": files,
        "rejection": rejection,
        "adaptation": str(header["adaptation"]),
        "origin": str(header["origin"]),
    }
