"""A classifier in one file: embedder, head, the support set that it was built from, and when to say "none of these".

The file is .safetensors: arrays, and JSON for everything else under the metadata key "ppfsl_classifier". It can be
opened without trusting whoever sent it: nothing in it is code, all of it is checked, and what it asks for takes no more
memory than a few times the file's size and a network's work on one picture.
"""

import json
import math
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from ppfsl.backbones.embedder import CENTER, WHITENING, Architecture, Embedder, backbone_shapes
from ppfsl.backbones.weights import load_strictly, read_weights
from ppfsl.distances import normalized
from ppfsl.errors import UserError
from ppfsl.files import kind_of, replacing
from ppfsl.version import __version__

_KEY, _EMBEDDER, _ARRAYS = "ppfsl_classifier", "embedder/", ("weight", "bias", "embeddings", "labels", "thumbnails")
THUMBNAIL = 96  # pixels of a side
_LARGEST = 1024  # pixels of a side, as in configurations


@dataclass(frozen=True)
class Rejection:
    """When a picture counts as unlike every class: its greatest cosine to a class mean is below the threshold.

    Attributes:
        threshold: -1..1.
        known_kept: share of pictures of known classes that it kept where it was chosen.
        unknown_rejected: share of pictures of other classes that it rejected there.
        chosen_on: in words.

    Raises:
        ValueError, TypeError: when they are not such values.
    """

    threshold: float
    known_kept: float
    unknown_rejected: float
    chosen_on: str

    def __post_init__(self) -> None:
        for value in (self.threshold, self.known_kept, self.unknown_rejected):
            if isinstance(value, bool) or not math.isfinite(value):
                raise ValueError(f"its rejection threshold has {value!r} for a number")
        if not isinstance(self.chosen_on, str):
            raise TypeError("its rejection threshold does not say what it was chosen on")


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

    @cached_property
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
    with replacing(path) as temporary:
        temporary.write_bytes(classifier_file(classifier))


def classifier_file(classifier: Classifier) -> bytes:
    """The content of its file."""
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
    return save(arrays, metadata={_KEY: json.dumps(header, allow_nan=False, sort_keys=True)})


def load_classifier(path: Path) -> Classifier:
    """Read a classifier's file.

    Raises:
        UserError: when it is missing, damaged, or no classifier of ppfsl.
    """
    arrays, text = read_parts(path)
    try:
        header = json.loads(text)
        parts = {name: arrays.pop(name) for name in _ARRAYS}
        weights = {name.removeprefix(_EMBEDDER): value for name, value in arrays.items()}
        embedder = _embedder(header["architecture"], weights, str(path))
        fields: dict[str, Any] = {**parts, **_checked(header, parts, embedder)}
    except KeyError as error:
        raise UserError(f"{path} is a damaged classifier (it has no {error!s:.200}); build it again") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is a damaged classifier ({error!s:.200}); build it again") from None
    return Classifier(embedder=embedder, **fields)


def read_parts(path: Path) -> tuple[dict[str, np.ndarray], str]:
    """The arrays in a classifier's file and its JSON, neither of them checked.

    Raises:
        UserError: when it is missing, damaged, or no classifier of ppfsl.
    """
    if kind_of(path) == "file" and path.suffix != ".safetensors":  # .pdparams are pickles, which can run code
        raise UserError(f"{path} is no .safetensors file; build a classifier with tools/finetune.py")
    if kind_of(path) != "file":
        what = "is a folder, no classifier" if kind_of(path) == "folder" else "does not exist"
        raise UserError(f"{path} {what}; name a file that tools/finetune.py has written")
    arrays, metadata = read_weights(path)
    if _KEY not in metadata:
        what = "a checkpoint of a run" if "ppfsl" in metadata else "no classifier of ppfsl"
        raise UserError(f"{path} is {what}; build a classifier with tools/finetune.py")
    return arrays, metadata[_KEY]


def _embedder(value: Any, weights: dict[str, np.ndarray], origin: str) -> Embedder:
    """The embedder of these weights; an architecture larger than they are is refused before room is made for it."""
    architecture = Architecture.from_json(value)
    if not _whole(architecture.image_size, 16, _LARGEST) or architecture.channels not in (1, 3):
        raise ValueError(f"images of {architecture.image_size!r} px, {architecture.channels!r} channels")
    try:
        shapes = backbone_shapes(architecture)
    except Exception as error:  # whatever Paddle makes of senseless options
        raise ValueError(f"no backbone has its options, {error!s:.100}") from None
    if _fit(weights, shapes):
        dim = Embedder(replace(architecture.unfinished(), projection=None)).dim
        if architecture.projection is not None:
            shapes["projection.weight"] = (dim, architecture.projection)
            dim = architecture.projection
        shapes |= {CENTER: (dim,)} if architecture.centered else {}
        shapes |= {WHITENING: (dim, dim)} if architecture.whitened else {}
    if not _fit(weights, shapes):
        raise ValueError("its weights are not those of its architecture")
    embedder = Embedder(architecture)
    load_strictly(embedder, weights, origin)
    if not all(np.isfinite(array).all() for array in weights.values()):
        raise ValueError("it holds numbers that are not finite")
    embedder.eval()
    return embedder


def _fit(weights: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]) -> bool:
    return all(name in weights and weights[name].shape == shape for name, shape in shapes.items())


def _checked(header: dict[str, Any], parts: dict[str, np.ndarray], embedder: Embedder) -> dict[str, Any]:
    """The fields that are no arrays; raises where they and the arrays do not make a classifier."""
    names, files = _texts(header, "class_names"), _texts(header, "files")
    if len(set(names)) < len(names) or len(names) < 2:
        raise ValueError("it lacks two classes of different names")
    _check_arrays(parts, len(names), len(files), embedder)
    resize, rejection = header["resize"], header["rejection"]
    if not _whole(resize, embedder.architecture.image_size, _LARGEST):
        raise ValueError(f"resize is {resize!r}")
    return {
        "resize": resize,
        "class_names": names,
        "files": files,
        "rejection": None if rejection is None else Rejection(**rejection),
        "adaptation": str(header["adaptation"]),
        "origin": str(header["origin"]),
    }


def _check_arrays(parts: dict[str, np.ndarray], classes: int, pictures: int, embedder: Embedder) -> None:
    side = parts["thumbnails"].shape[1] if parts["thumbnails"].ndim == 4 else 0
    wanted: dict[str, tuple[tuple[int, ...], type]] = {
        "weight": ((embedder.dim, classes), np.float32),
        "bias": ((classes,), np.float32),
        "embeddings": ((pictures, embedder.dim), np.float32),
        "labels": ((pictures,), np.int64),
        "thumbnails": ((pictures, max(side, 1), max(side, 1), embedder.architecture.channels), np.uint8),
    }
    for name, (shape, kind) in wanted.items():
        array = parts[name]
        if array.shape != shape or array.dtype != kind:
            found = f"{array.dtype} {list(array.shape)}"
            raise ValueError(f"{name} is {found}, not {np.dtype(kind)} {list(shape)}")
        if not np.isfinite(array).all():
            raise ValueError("it holds numbers that are not finite")
    if set(parts["labels"].tolist()) != set(range(classes)):
        raise ValueError("its support set lacks a class")


def _texts(header: dict[str, Any], key: str) -> tuple[str, ...]:
    value = header[key]
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{key} is no list of texts")
    return tuple(value)


def _whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and least <= value <= most
