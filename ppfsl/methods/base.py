"""The interface of all methods: two verbs, both pure. `adapt(support) -> classifier`, `classifier(query) -> logits`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

Inputs = Literal["embedding", "projected", "image"]
"""What a method works on: embeddings of length one, the same before normalisation, or images."""

Classifier = Callable[[paddle.Tensor], paddle.Tensor]
"""query [E, Q, ...] -> logits [E, Q, way]: one answer per episode and query."""


@dataclass(frozen=True)
class Support:
    """The support sets of E episodes that share their layout.

    Attributes:
        inputs: float32 [E, S, ...]: vectors [E, S, D], or pixels [E, S, C, H, W] in 0..255, as the method asks.
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

    @property
    def membership(self) -> paddle.Tensor:
        """[S, way], 1 where an image belongs to a class."""
        return F.one_hot(self.labels, self.way).astype(self.inputs.dtype)

    def class_sums(self) -> paddle.Tensor:
        """The sum of each class's vectors: [E, way, D]."""
        return paddle.matmul(self.membership, self.inputs, transpose_x=True)

    def class_means(self) -> paddle.Tensor:
        """The mean of each class's vectors: [E, way, D]."""
        return self.class_sums() / self.membership.sum(0).unsqueeze(-1)

    def over_shots(self, scores: paddle.Tensor, how: Literal["mean", "max", "logsumexp"]) -> paddle.Tensor:
        """One score per class from a score per support image: [E, Q, S] -> [E, Q, way]."""
        if how == "mean":
            return paddle.matmul(scores, self.membership) / self.membership.sum(0)
        order = paddle.argsort(self.labels)
        sizes = np.bincount(self.labels.numpy(), minlength=self.way).tolist()
        parts = paddle.index_select(scores, order, axis=-1).split(sizes, axis=-1)
        return paddle.stack([part.max(-1) if how == "max" else paddle.logsumexp(part, -1) for part in parts], -1)


class Method(Protocol):
    """A method is a value; what it learned from a support set lives in the classifier it returns."""

    @property
    def name(self) -> str:
        """In reports."""
        ...

    @property
    def inputs(self) -> Inputs:
        """What it works on."""
        ...

    @property
    def transductive(self) -> bool:
        """Whether an answer depends on the other queries: it adapts to them unlabelled, or normalises them together."""
        ...

    def adapt(self, support: Support) -> Classifier:
        """A classifier for each of the episodes."""
        ...


class Learner(Method, Protocol):
    """A method that is trained together with the embedder."""

    @property
    def layer(self) -> nn.Layer | None:
        """What it learns beside the embedder, kept for later episodes; None: nothing."""
        ...


class EpisodeLearner(Learner, Protocol):
    """A method that is trained on episodes."""

    def loss(self, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        """What training minimises: logits [E, Q, way] of its classifier, labels int64 [E, Q]; a scalar."""
        ...
