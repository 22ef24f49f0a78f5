"""What is evaluated on what: a run's images, and what training made of them."""

import functools
from dataclasses import dataclass

import numpy as np
from paddle import nn

from ppfsl.backbones.embedder import Embedder
from ppfsl.data.class_split import ClassSplit
from ppfsl.data.table import ImageTable
from ppfsl.distances import normalized
from ppfsl.evaluation import Gather
from ppfsl.inference.engine import pixels_of
from ppfsl.methods.base import Method


@dataclass(frozen=True)
class Data:
    """The table of a run, its class split, and the images (int64 [M]) of the part that is evaluated."""

    table: ImageTable
    split: ClassSplit
    rows: np.ndarray


@dataclass(frozen=True)
class Trained:
    """What training ends with.

    Attributes:
        embedder: with frozen weights.
        layer: what the last stage's method learned beside the embedder; None: nothing.
        pretrained: the weights that training started from, as `backbone.pretrained` names them.
        stages: the objectives that it was trained with, in order.
        processes: how many processes trained it: several numbers where training was resumed with another.
        seed: of the training, where that was another run's; None: of the configuration.
        checkpoint: of an evaluation, the file that it was given, as result.json names it; None: it is a run's own.
    """

    embedder: Embedder
    layer: nn.Layer | None
    pretrained: str
    stages: tuple[str, ...]
    processes: tuple[int, ...] = ()
    seed: int | None = None
    checkpoint: dict[str, str] | None = None


@dataclass(frozen=True)
class Subject:
    """What is evaluated.

    Attributes:
        trained: embedder and layer.
        projected: float32 [M, D], of `Data.rows`, what the embedder makes of them before normalisation.
    """

    trained: Trained
    projected: np.ndarray

    @functools.cached_property
    def embeddings(self) -> np.ndarray:
        """float32 [M, D], of length one."""
        return normalized(self.projected)


def gather_for(method: Method, data: Data, subject: Subject) -> Gather:
    """How the method gets at embeddings or images by the table's image indices."""
    if method.inputs != "image":
        return gather_vectors(data, subject.embeddings if method.inputs == "embedding" else subject.projected)
    size = subject.trained.embedder.architecture.image_size
    return lambda rows: pixels_of(data.table, rows, size)


def gather_vectors(data: Data, vectors: np.ndarray) -> Gather:
    """How to get at vectors [M, D] of `data.rows` by the table's image indices."""
    place = np.full(len(data.table), -1, dtype=np.int64)
    place[data.rows] = np.arange(len(data.rows))
    return lambda rows: vectors[place[rows]]
