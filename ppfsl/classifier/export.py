"""Classifiers and embedders as models that run without ppfsl: Paddle Inference, and ONNX by Paddle2ONNX."""

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
from ppfsl.files import make_folder, replacing, write_json, write_text
from ppfsl.inference.saved import Run, open_network, save_network, silent
from ppfsl.randomness import generator

Format = Literal["paddle", "onnx"]

TOLERANCE = 1e-4  # of an exported model's probabilities or embeddings, against eager mode
_OPSET = 17
_EXAMPLES = {"paddle": "run_paddle.py", "onnx": "run_onnx.py"}


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
        folder: for model.json and model.pdiparams, model.onnx, about.json, and run_paddle.py, run_onnx.py.
        formats: which models.

    Returns:
        The files.

    Raises:
        UserError: when Paddle2ONNX or onnxruntime is not installed, or when an exported model differs from eager mode.
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
    files = []
    with tempfile.TemporaryDirectory(prefix="ppfsl-") as temporary:
        model = _saved(network, shape, Path(temporary))
        for form in formats:
            paths, run = (_paddle if form == "paddle" else _onnx)(model)
            difference = float(np.abs(run(images) - expected).max())
            if not difference < TOLERANCE:
                raise UserError(
                    f"the exported {form} model differs from ppfsl's by {difference:.1e}, more than {TOLERANCE:.0e}; "
                    "export another format, or report it with the name of the backbone"
                )
            for path in paths:
                with replacing(folder / path.name) as target:
                    shutil.copyfile(path, target)
                files.append(folder / path.name)
    write_json(folder / "about.json", _about(source, resize))
    files.append(folder / "about.json")
    for form in formats:
        example = Path(__file__).parent / "examples" / _EXAMPLES[form]
        write_text(folder / example.name, example.read_text(encoding="utf-8"))
        files.append(folder / example.name)
    return files


def _about(source: Classifier | Embedder, resize: int) -> dict[str, Any]:
    """What a program that runs the model must know of pictures and answers."""
    classifier = source if isinstance(source, Classifier) else None
    architecture = (source.embedder if isinstance(source, Classifier) else source).architecture
    return {
        "input": "float32 [N, channels, image_size, image_size], pixels in 0..255, RGB or grey",
        "output": "embeddings of length one" if classifier is None else "probabilities of the classes",
        "channels": architecture.channels,
        "resize": resize,
        "image_size": architecture.image_size,
        "classes": None if classifier is None else list(classifier.class_names),
    }


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
