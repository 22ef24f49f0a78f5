"""Weights from files and from Paddle's hub, loaded strictly."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import paddle
from paddle import nn
from safetensors import SafetensorError, safe_open

from ppfsl.backbones import mobilenet_v1, resnet18
from ppfsl.backbones.embedder import Architecture, Embedder
from ppfsl.errors import UserError
from ppfsl.files import check_readable, kind_of

Weights = Mapping[str, np.ndarray]


def weights_of(layer: nn.Layer) -> dict[str, np.ndarray]:
    """A copy of a layer's weights, by the names of its `state_dict()`."""
    return {name: tensor.numpy().copy() for name, tensor in layer.state_dict().items()}


def embedder_with(architecture: Architecture, weights: Weights, origin: str) -> Embedder:
    """An embedder with given weights, in evaluation mode.

    Raises:
        UserError: when the weights do not fit the architecture; `origin` says where they come from.
    """
    embedder = Embedder(architecture)
    load_strictly(embedder, weights, origin)
    embedder.eval()
    return embedder


def load_strictly(layer: nn.Layer, weights: Weights, origin: str) -> None:
    """Set every parameter and buffer of a layer; Paddle's own loader only warns where this one raises.

    Args:
        layer: what to fill.
        weights: name -> array, by the names of `layer.state_dict()`.
        origin: where they come from, for the error.

    Raises:
        UserError: for a missing, extra or misshapen weight; the layer is then unchanged.
    """
    wanted = layer.state_dict()
    missing = [name for name in wanted if name not in weights]
    extra = [name for name in weights if name not in wanted]
    if missing or extra:
        what, name, count = ("lacks", missing[0], len(missing)) if missing else ("has an unknown", extra[0], len(extra))
        more = f" and {count - 1} more" if count > 1 else ""
        raise UserError(f"{origin} {what} weight {name!r}{more}; it belongs to another architecture")
    for name, tensor in wanted.items():
        if tuple(tensor.shape) != tuple(weights[name].shape):
            raise UserError(
                f"{origin}: weight {name!r} has shape {list(weights[name].shape)}, "
                f"the network needs {list(tensor.shape)}; it belongs to another architecture"
            )
    for name, tensor in wanted.items():
        tensor.set_value(np.ascontiguousarray(weights[name]).astype(str(tensor.dtype).rsplit(".", 1)[-1]))


def check_pretrained(pretrained: str) -> None:
    """Raise where `backbone.pretrained` names a file that is not there or may not be read.

    Raises:
        UserError: naming it.
    """
    if pretrained not in ("none", "imagenet"):
        _check_file(Path(pretrained))


def load_pretrained(embedder: Embedder, pretrained: str) -> None:
    """Set the backbone's weights as `backbone.pretrained` says: `none`, `imagenet`, or a file.

    Files hold either the weights of the bare backbone under `paddle.vision`'s names (its classifier `fc` is left out)
    or a ppfsl checkpoint, whose backbone is taken.

    Raises:
        UserError: when they cannot be had or do not fit.
    """
    if pretrained == "none":
        return
    if pretrained == "imagenet":
        weights: Weights = _hub_weights(embedder)
    else:
        weights, metadata = read_weights(Path(pretrained))
        if "ppfsl" in metadata:
            prefix = "backbone."
            weights = {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}
    weights = {name: value for name, value in weights.items() if not name.startswith("fc.")}
    load_strictly(embedder.backbone, weights, pretrained)


def read_weights(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata of a .safetensors file, or the arrays of a .pdparams file.

    A .pdparams file is a pickle, which can run code: name only files that you trust.

    Raises:
        UserError: when the file is missing, damaged or of another kind, or may not be read.
    """
    _check_file(path)
    if path.suffix == ".pdparams":
        return _unpickle(path), {}
    try:
        with safe_open(str(path), framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:  # TypeError: bfloat16, which numpy lacks
        raise UserError(f"{path} is not a readable .safetensors file ({error}); fetch or train it again") from None


def _check_file(path: Path) -> None:
    if kind_of(path) != "file":
        raise UserError(f"there is no weights file {path}")
    check_readable(path)


def _unpickle(path: Path) -> dict[str, np.ndarray]:
    try:
        state = paddle.load(str(path), return_numpy=True)
    except Exception as error:  # unpickling can raise anything
        raise UserError(f"{path} is not a readable .pdparams file ({error})") from None
    if not isinstance(state, dict) or not all(isinstance(value, np.ndarray) for value in state.values()):
        raise UserError(f"{path} holds something else than a dictionary of weights")
    return state


def _hub_weights(embedder: Embedder) -> dict[str, np.ndarray]:
    architecture = embedder.architecture
    try:
        if architecture.backbone == "resnet18":
            tensors = resnet18.imagenet_weights()
        elif architecture.backbone == "mobilenet_v1":
            tensors = mobilenet_v1.imagenet_weights(dict(architecture.options).get("scale", 1.0))
        else:
            raise UserError(
                f"Paddle's hub has no ImageNet weights for {architecture.backbone}; "
                "set backbone.pretrained to none or to a file"
            )
    except (OSError, RuntimeError, AssertionError) as error:
        raise UserError(
            f"the ImageNet weights of {architecture.backbone} cannot be had from Paddle's hub ({_last_line(error)}); "
            "set backbone.pretrained to a local .safetensors file"
        ) from None
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
