"""The interface of all methods: two verbs, both pure. `adapt(support) -> classifier`, `classifier(query) -> logits`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import paddle

Classifier = Callable[[paddle.Tensor], paddle.Tensor]
"""query [E, Q, ...] -> logits [E, Q, way]: one answer per episode and query."""


@dataclass(frozen=True)
class Support:
    """The support sets of E episodes that share their layout.

    Attributes:
        inputs: float32 [E, S, ...]: embeddings [E, S, D], or pixels [E, S, C, H, W] in 0..255, as the method asks.
        labels: int64 [S], 0..way - 1, the same in every episode.
        way: classes in each episode.
        numbers: int64 [E], the episodes' numbers: what random choices are keyed by.
        unlabelled: the queries [E, Q, ...] without labels, given to transductive methods alone.
    """

    inputs: paddle.Tensor
    labels: paddle.Tensor
    way: int
    numbers: np.ndarray
    unlabelled: paddle.Tensor | None = None


class Method(Protocol):
    """A method is a value; what it learned from a support set lives in the classifier it returns."""

    @property
    def name(self) -> str:
        """In reports."""
        ...

    @property
    def inputs(self) -> Literal["embedding", "image"]:
        """What it works on: embeddings of a frozen embedder, or images."""
        ...

    @property
    def transductive(self) -> bool:
        """Whether it looks at the unlabelled queries while it adapts."""
        ...

    def adapt(self, support: Support) -> Classifier:
        """A classifier for each of the episodes."""
        ...
