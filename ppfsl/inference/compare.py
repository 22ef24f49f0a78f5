"""Two picture files, one question: do they show the same class?"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ppfsl.config_file import load_config
from ppfsl.data.augmentation import center_crop
from ppfsl.data.decode import read_square
from ppfsl.errors import UserError
from ppfsl.files import kind_of, read_json
from ppfsl.inference.engine import embed
from ppfsl.methods.similarity import Similarity
from ppfsl.runtime import choose_device
from ppfsl.training.checkpoint import best_checkpoint, embedder_of, load_checkpoint, method_layer


@dataclass(frozen=True)
class Comparison:
    """An answer.

    Attributes:
        similarity: of the two pictures, higher for more alike.
        similarity_name: what it is.
        threshold: from this similarity on they are taken for one class.
    """

    similarity: float
    similarity_name: str
    threshold: float

    @property
    def same(self) -> bool:
        """Whether they are taken for one class."""
        return self.similarity >= self.threshold


def compare(run: Path, left: Path, right: Path, threshold: float | None = None) -> Comparison:
    """Compare two pictures with the embedder of a run.

    Args:
        run: the run directory.
        left, right: picture files.
        threshold: None: the run's own, which was chosen on validation classes.

    Raises:
        UserError: when the run has no checkpoint or no threshold, or a file is no readable picture; when the threshold
            is not finite.
    """
    if threshold is not None and not math.isfinite(threshold):
        raise UserError(f"the threshold must be a finite number, not {threshold}")
    path, settings = best_checkpoint(run), run / "config.yaml"
    if kind_of(settings) != "file":
        raise UserError(f"{run} holds no configuration ({settings} is missing); name the folder of a finished run")
    if threshold is None:
        threshold = _threshold(run)
    config = load_config(settings)
    try:
        choose_device(config.device)
    except UserError as error:
        raise UserError(f"{settings}: {error}") from None
    checkpoint = load_checkpoint(path)
    embedder = embedder_of(checkpoint, str(path))
    architecture = embedder.architecture
    pictures = np.stack([_read(file, config.data.table_size, architecture.channels) for file in (left, right)])
    pictures = center_crop(pictures, architecture.image_size)
    projected = embed(embedder, pictures, np.arange(2), "projected")
    similarity = Similarity.of(method_layer(checkpoint, str(path)))
    return Comparison(float(similarity(projected[:1], projected[1:])[0]), similarity.name, threshold)


def _threshold(run: Path) -> float:
    path = run / "result.json"
    if kind_of(path) != "file":
        raise UserError(f"{run} has not been evaluated ({path} is missing); let it finish, or give a --threshold")
    threshold = read_json(path, _parse_threshold)
    if threshold is None:
        raise UserError(
            f"{run} has no threshold; give one with --threshold, or run its configuration again with "
            "-o verification.pairs=4000, which trains nothing anew"
        )
    return float(threshold)


def _parse_threshold(result: Any) -> float | None:
    if not isinstance(result, dict):
        raise TypeError("it is no result of a run; give a --threshold")
    if result.get("verification") is None:
        return None
    pairs = result["verification"]
    threshold = pairs.get("threshold") if isinstance(pairs, dict) else None
    if not isinstance(threshold, int | float) or not math.isfinite(threshold):
        raise ValueError(f"its verification.threshold is {threshold!r}; give one with --threshold")
    return threshold


def _read(file: Path, size: int, channels: int) -> np.ndarray:
    """A picture as the run's table would hold it: uint8 [size, size, channels]."""
    try:
        return read_square(file, size, channels)
    except ValueError as error:
        raise UserError(f"{file} is not a readable image ({error}); name another file") from None
