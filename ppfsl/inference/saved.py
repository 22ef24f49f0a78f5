"""Networks as files of Paddle Inference: written, and opened as functions."""

import contextlib
import io
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import paddle
from paddle import inference, nn

from ppfsl.errors import UserError

Run = Callable[[np.ndarray], np.ndarray]
"""float32 [N, C, S, S] -> [N, ...]."""

_PROBE = 1 << 16  # bytes, for which a disk that cut a file off has no room


def save_network(layer: nn.Layer, shape: tuple[int, ...], folder: Path) -> Path:
    """Write a network of one input, `images`, float32 [N, *shape], with any N.

    Returns:
        The model's file; beside it lie its weights, with the suffix .pdiparams.

    Raises:
        UserError: when the disk is full.
    """
    spec = [paddle.static.InputSpec([None, *shape], "float32", "images")]
    # Without the exporter's remarks, which concern its own options.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        paddle.jit.save(layer, str(folder / "model"), input_spec=spec)
    _check_room(folder)
    return next(path for path in folder.iterdir() if path.suffix in (".json", ".pdmodel"))


def _check_room(folder: Path) -> None:
    """Raise where Paddle, which says nothing of a full disk, may have cut off what it wrote."""
    probe = folder / "probe"
    try:
        probe.write_bytes(bytes(_PROBE))
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"cannot write an exported network in {folder.parent}: {error.strerror}; make room, or let TMPDIR name "
            "another folder"
        ) from None


def open_network(model: Path, onednn: bool = True) -> Run:
    """Open what `save_network` has written, for the CPU; the files are not needed afterwards."""
    config = inference.Config(str(model), str(model.with_suffix(".pdiparams")))
    config.disable_gpu()
    config.disable_glog_info()
    if onednn:
        config.enable_mkldnn()
        if b"leaky_relu" in model.read_bytes():  # on which this pass of Paddle 3.3 crashes the process
            config.delete_pass("conv_activation_onednn_fuse_pass")
    config.set_cpu_math_library_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    predictor = inference.create_predictor(config)
    source = predictor.get_input_handle(predictor.get_input_names()[0])
    target = predictor.get_output_handle(predictor.get_output_names()[0])

    has_run = False

    def run(pixels: np.ndarray) -> np.ndarray:
        nonlocal has_run
        source.copy_from_cpu(pixels)
        # The first time, Paddle prints which kernels it looks for; results go to the standard output.
        with contextlib.nullcontext() if has_run else silent(1):
            predictor.run()
        has_run = True
        return np.asarray(target.copy_to_cpu())

    return run


@contextlib.contextmanager
def silent(*numbers: int) -> Iterator[None]:
    """Without what C++ code prints on the standard output (1) and error (2)."""
    with contextlib.ExitStack() as restored, Path(os.devnull).open("w") as nowhere:
        for number in numbers:
            kept = os.dup(number)
            restored.callback(os.close, kept)
            restored.callback(os.dup2, kept, number)
            os.dup2(nowhere.fileno(), number)
        yield
