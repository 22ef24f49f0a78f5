"""A frozen embedder as a function of image batches: Paddle Inference with oneDNN on a CPU, eager elsewhere."""

import contextlib
import hashlib
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import paddle
from paddle import nn

from ppfsl.backbones.embedder import Embedder
from ppfsl.data.augmentation import center_crop
from ppfsl.data.table import ImageTable
from ppfsl.distributed import ALONE, World
from ppfsl.inference.saved import Run, open_network, save_network
from ppfsl.interrupts import raise_if_heard
from ppfsl.progress import detail, progress_bar

Output = Literal["embedding", "projected", "features"]

FEW = 32
"""So many images are embedded eagerly in less time than an export takes: 1.5 s, or 32 images of 224 px by ResNet18."""

_MOST_KEPT = 2  # exported networks, each with a copy of its weights
_kept: dict[str, Run] = {}

_TOLERANCE = 1e-3  # of oneDNN against eager, relative to the largest output


def embed(
    embedder: Embedder,
    images: np.ndarray,
    rows: np.ndarray,
    output: Output = "embedding",
    batch_size: int = 64,
    progress: str | None = None,
    world: World = ALONE,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """What the embedder, in evaluation mode, makes of a table's images.

    Args:
        embedder: left as it was, training mode included.
        images: uint8 [N, S, S, C]; cropped at the centre to the embedder's image size, a batch at a time, so the
            memory needed does not grow with N.
        rows: int64 [M], which images.
        output: "embedding": of length one, [M, D]; "projected": before normalisation, [M, D]; "features": the
            backbone's, [M, B].
        batch_size: images per call.
        progress: the progress bar's text, or None for no bar.
        world: the processes that divide the batches among themselves, each of which gets the whole result.
        out: where to put it, such as a file that is mapped into memory.

    Returns:
        float32 [M, D or B], in the order of `rows`.
    """
    size = embedder.architecture.image_size
    dim = embedder.backbone_dim if output == "features" else embedder.dim
    result = np.empty((len(rows), dim), dtype=np.float32) if out is None else out
    starts = range(0, len(rows), batch_size)
    with _evaluating(embedder):
        run = _runner(embedder, output, len(rows))
        with progress_bar(len(rows), progress, "img") as bar:
            for start in world.share(starts):
                batch = center_crop(images[rows[start : start + batch_size]], size)
                result[start : start + len(batch)] = run(to_pixels(batch))
                bar.update(min(len(batch) * world.size, len(rows) - bar.n))
    if world.size > 1:
        own = {start: np.asarray(result[start : start + batch_size]) for start in world.share(starts)}
        for part in world.exchange(own):
            for start, values in part.items():
                result[start : start + batch_size] = values
    return result


def predictor(embedder: Embedder, images: int | None = None) -> Run:
    """The embedder as a function of pixels, for one batch after another: float32 [N, C, S, S] in 0..255 -> [N, D].

    The embedder is put into evaluation mode and must not change afterwards.

    Args:
        embedder: what is run.
        images: how many it will be asked about, where that is known: a few are embedded eagerly before the embedder
            has been exported.
    """
    embedder.eval()
    return _runner(embedder, "embedding", images)


def to_pixels(images: np.ndarray) -> np.ndarray:
    """uint8 [N, S, S, C] -> float32 [N, C, S, S], the values unchanged: what embedders take."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)


def pixels_of(table: ImageTable, places: np.ndarray, size: int) -> np.ndarray:
    """The centres of images of a table: float32 [..., C, size, size], 0..255, for places of any shape."""
    pixels = to_pixels(center_crop(table.images[places.ravel()], size))
    return pixels.reshape(*places.shape, *pixels.shape[1:])


@contextlib.contextmanager
def _evaluating(embedder: nn.Layer) -> Iterator[None]:
    modes = [(layer, layer.training) for layer in embedder.sublayers(include_self=True)]
    embedder.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training


def _runner(embedder: Embedder, output: Output, images: int | None) -> Run:
    """What runs the embedder on so many images (None: who knows); what was just exported is not exported again."""
    layer = embedder if output == "embedding" else _Part(embedder, output)
    layer.eval()
    eager = _eager(layer)
    if not paddle.get_device().startswith("cpu") or (images is not None and images <= FEW):
        return eager
    architecture = embedder.architecture
    shape = (architecture.channels, architecture.image_size, architecture.image_size)
    key = f"{weights_digest(embedder)} {architecture} {output}"
    if key in _kept:
        return _kept[key]
    try:
        exported = _export(layer, shape)
        sample = np.linspace(0, 255, 2 * int(np.prod(shape)), dtype=np.float32).reshape(2, *shape)
        expected = eager(sample)
        difference = float(np.abs(exported(sample) - expected).max()) / max(float(np.abs(expected).max()), 1e-12)
    except Exception as error:  # whatever Paddle's exporter and optimizer raise, eager gives the same numbers
        raise_if_heard()
        warnings.warn(f"Paddle Inference cannot run this embedder ({error!r:.200}); running it eagerly", stacklevel=3)
        return eager
    if not difference < _TOLERANCE:
        warnings.warn(f"Paddle Inference differs from eager by {difference:.1e}; running eagerly", stacklevel=3)
        return eager
    for oldest in list(_kept)[: len(_kept) + 1 - _MOST_KEPT]:
        del _kept[oldest]
    _kept[key] = exported
    detail(f"{architecture.backbone} runs in Paddle Inference; largest difference to eager {difference:.1e}")
    return exported


def _eager(layer: nn.Layer) -> Run:
    def run(pixels: np.ndarray) -> np.ndarray:
        with paddle.no_grad():
            return layer(paddle.to_tensor(pixels)).numpy()

    return run


def weights_digest(layer: nn.Layer) -> str:
    """A hash of a layer's parameters and buffers with their names: 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(layer.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} ".encode())
        digest.update(np.ascontiguousarray(tensor.numpy()).data)
    return digest.hexdigest()


class _Part(nn.Layer):
    """An embedder as far as an output of it."""

    def __init__(self, embedder: Embedder, output: Output) -> None:
        super().__init__()
        self.embedder, self._output = embedder, output

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return self.embedder.features(images) if self._output == "features" else self.embedder.projected(images)


def _export(layer: nn.Layer, shape: tuple[int, ...]) -> Run:
    """The layer as a predictor of Paddle Inference with oneDNN."""
    with tempfile.TemporaryDirectory(prefix="ppfsl-") as folder:
        return open_network(save_network(layer, shape, Path(folder)))
