"""Classifiers and embedders as models that run without ppfsl: Paddle Inference, and ONNX by Paddle2ONNX."""

import contextlib
import hashlib
import importlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import numpy as np
import paddle
from paddle import nn

from ppfsl.backbones.embedder import Embedder
from ppfsl.classifier.model import Classifier
from ppfsl.errors import UserError
from ppfsl.files import check_replaceable, kind_of, make_folder, read_json, replacing_all, write_json
from ppfsl.inference.engine import weights_digest
from ppfsl.inference.saved import Run, open_network, save_network, silent
from ppfsl.randomness import generator

Format = Literal["paddle", "onnx"]

TOLERANCE = 1e-4  # of an exported model's probabilities or embeddings, against eager mode
_OPSET = 17
_ABOUT = "about.json"
_EXAMPLES: dict[Format, str] = {"paddle": "run_paddle.py", "onnx": "run_onnx.py"}
_SHARED = "exported.py"


class LabellingNetwork(nn.Layer):
    """Pixels to probabilities: float32 [N, C, S, S] in 0..255 -> [N, K], by a classifier's embedder and head."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.embedder = classifier.embedder
        self.register_buffer("_weight", paddle.to_tensor(classifier.weight))
        self.register_buffer("_bias", paddle.to_tensor(classifier.bias))

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        """The classes' probabilities."""
        return nn.functional.softmax(self.embedder(images) @ self._weight + self._bias, axis=-1)


def export(source: Classifier | Embedder, resize: int, folder: Path, formats: Sequence[Format]) -> list[Path]:
    """Write a model, what it needs to know of pictures, and an example that runs it without ppfsl.

    Args:
        source: a classifier (probabilities of its classes), or an embedder (embeddings of length one).
        resize: pixels of the shorter side of pictures, whose centre the network sees.
        folder: for model.json and model.pdiparams, model.onnx, about.json, run_paddle.py, run_onnx.py, exported.py.
        formats: which models.

    Returns:
        The files.

    Raises:
        UserError: when Paddle2ONNX or onnxruntime is not installed, when an exported model differs from eager mode, or
            when it cannot be written.
    """
    network = LabellingNetwork(source) if isinstance(source, Classifier) else source
    embedder = source.embedder if isinstance(source, Classifier) else source
    network.eval()
    architecture = embedder.architecture
    shape = (architecture.channels, architecture.image_size, architecture.image_size)
    images = generator(0, "export").uniform(0, 255, (3, *shape)).astype(np.float32)
    with paddle.no_grad():
        expected = network(paddle.to_tensor(images)).numpy()
    make_folder(folder)
    check_replaceable(folder / _ABOUT, "description of an exported model", _digests_in)
    with tempfile.TemporaryDirectory(prefix="ppfsl-") as temporary:
        model = _saved(network, shape, Path(temporary))
        files = [path for form in formats for path in _checked(form, model, images, expected)]
        about = _about(source, resize, f"{weights_digest(network)} {architecture}")
        digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        write_json(model.with_name(_ABOUT), {**about, "digests": _other_formats(folder / _ABOUT, about) | digests})
        files += [model.with_name(_ABOUT), *_examples(formats, folder)]
        _check_own(files, folder)
        _put(files[::-1], folder)  # models last: with old ones, the new about.json is refused
        return [folder / file.name for file in files]


def _examples(formats: Sequence[Format], folder: Path) -> list[Path]:
    """The scripts of these formats, and those that take the place of an earlier export's, which may know no digests."""
    names = [name for form, name in _EXAMPLES.items() if form in formats or kind_of(folder / name) == "file"]
    return [Path(__file__).parent / "examples" / name for name in (*names, _SHARED)]


def _check_own(files: Sequence[Path], folder: Path) -> None:
    """Raise where a file would take the place of one that is of no export, as there is no about.json."""
    targets = [folder / file.name for file in files]
    if kind_of(folder / _ABOUT) is None:
        for target in targets:
            if kind_of(target) == "file" and target.stat().st_size:
                raise UserError(f"cannot write {target}: it exists, and is of no export; choose another folder")


def _checked(form: Format, model: Path, images: np.ndarray, expected: np.ndarray) -> list[Path]:
    """The files of a format, which give the expected answers."""
    files, run = (_paddle if form == "paddle" else _onnx)(model)
    difference = float(np.abs(run(images) - expected).max())
    if not difference < TOLERANCE:
        raise UserError(
            f"the exported {form} model differs from ppfsl's by {difference:.1e}, more than {TOLERANCE:.0e}; "
            "export another format, or report it with the name of the backbone"
        )
    return files


def _put(files: Sequence[Path], folder: Path) -> None:
    """Copy files into a folder, where they appear in this order when all have been copied."""
    with replacing_all([folder / file.name for file in files]) as temporaries:
        for file, temporary in zip(files, temporaries, strict=True):
            shutil.copyfile(file, temporary)


def _about(source: Classifier | Embedder, resize: int, network: str) -> dict[str, Any]:
    """What a program that runs the model must know of pictures and answers; `network` tells networks apart."""
    classifier = source if isinstance(source, Classifier) else None
    architecture = (source.embedder if isinstance(source, Classifier) else source).architecture
    return {
        "input": "float32 [N, channels, image_size, image_size], pixels in 0..255, RGB or grey",
        "output": "embeddings of length one" if classifier is None else "probabilities of the classes",
        "channels": architecture.channels,
        "resize": resize,
        "image_size": architecture.image_size,
        "classes": None if classifier is None else list(classifier.class_names),
        "network": hashlib.sha256(network.encode()).hexdigest(),
    }


def _other_formats(path: Path, about: dict[str, Any]) -> dict[str, str]:
    """The digests of an earlier export of the same network, perhaps in another format."""
    with contextlib.suppress(UserError):  # there is none
        earlier, digests = _digests_in(path)
        return digests if earlier == about else {}
    return {}


def _digests_in(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """An about.json without the digests of the model's files, and these; older exports have none."""

    def parts(value: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        value["image_size"]
        return {key: value[key] for key in value if key != "digests"}, dict(value.get("digests", {}))

    return read_json(path, parts)


def _saved(network: nn.Layer, shape: tuple[int, ...], folder: Path) -> Path:
    with mock.patch.object(nn.functional, "leaky_relu", _leaky_relu):
        return save_network(network, shape, folder)


def _paddle(model: Path) -> tuple[list[Path], Run]:
    return [model, model.with_suffix(".pdiparams")], open_network(model, onednn=False)


def _onnx(model: Path) -> tuple[list[Path], Run]:
    try:
        paddle2onnx, onnxruntime = (importlib.import_module(name) for name in ("paddle2onnx", "onnxruntime"))
    except ImportError as error:
        raise UserError(
            f"ONNX needs two more packages ({error}): pip install paddle2onnx onnxruntime, or export --format paddle"
        ) from None
    target = model.with_suffix(".onnx")
    weights = str(model.with_suffix(".pdiparams"))
    try:
        with silent(1, 2):
            paddle2onnx.export(str(model), weights, str(target), opset_version=_OPSET)
        session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    except Exception as error:  # converters raise whatever they like
        raise UserError(f"Paddle2ONNX cannot convert this network ({error!s:.200}); export --format paddle") from None

    def run(images: np.ndarray) -> np.ndarray:
        return np.asarray(session.run(None, {session.get_inputs()[0].name: images})[0])

    return [target], run


def _leaky_relu(x: paddle.Tensor, negative_slope: float = 0.01, name: str | None = None) -> paddle.Tensor:
    """In plainer operators: Paddle2ONNX 2.1 loses the slope, and oneDNN's fusion of Paddle 3.3 crashes on it."""
    return paddle.maximum(x, negative_slope * x)
