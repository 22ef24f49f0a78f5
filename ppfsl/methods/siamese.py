"""Siamese networks on pairs (Koch, Zemel and Salakhutdinov 2015, "Siamese Neural Networks for One-shot Image
Recognition").

Two pictures go through one embedder; their embeddings are merged, by the absolute difference or by concatenation, and
fully connected layers with a sigmoid at the end give the probability that they show the same class. A query gets the
class of the most similar shot.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import paddle
import paddle.nn.functional as F
from paddle import nn

from ppfsl.methods.base import Classifier, Support

_MOST_NUMBERS = 1 << 24  # merged at a time: 64 MB, however long the embeddings are


@dataclass(frozen=True)
class Siamese:
    """The class whose shots are most similar.

    Similarities are compared as log-odds, the sigmoid's argument: the sigmoid itself is 1 for any two similar enough
    pictures, and could not tell which is the more similar.

    Attributes:
        layer: the trained head.
        shots: the mean or the maximum of the log-odds over a class's shots.
        name: in reports.
    """

    layer: "PairHead"
    shots: Literal["mean", "max"] = "mean"
    name: str = "siamese"
    inputs: Literal["projected"] = "projected"
    transductive: bool = False

    def adapt(self, support: Support) -> Classifier:
        """Keep the shots."""

        def classify(query: paddle.Tensor) -> paddle.Tensor:
            episodes, shots, dim = support.inputs.shape
            size = max(1, _MOST_NUMBERS // (episodes * shots * dim))
            parts = [
                self.layer(query[:, start : start + size].unsqueeze(2), support.inputs.unsqueeze(1))
                for start in range(0, query.shape[1], size)
            ]
            return support.over_shots(paddle.concat(parts, 1), self.shots)

        return classify


class PairHead(nn.Layer):
    """From two embeddings to the log-odds that they are of one class.

    Args:
        dim: D, of the embeddings.
        merge: "absolute_difference"; or "concatenation", where the log-odds are the mean over both orders.
        hidden: outputs of the fully connected layers with ReLU before the last one; none in the paper.
    """

    def __init__(self, dim: int, merge: str, hidden: Sequence[int]) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {"dim": dim, "merge": merge, "hidden": list(hidden)}
        sizes = [dim if merge == "absolute_difference" else 2 * dim, *hidden, 1]
        self.linears = nn.LayerList([nn.Linear(a, b) for a, b in itertools.pairwise(sizes)])

    def forward(self, left: paddle.Tensor, right: paddle.Tensor) -> paddle.Tensor:
        """[..., D] and [..., D], whose other dimensions broadcast -> [...]."""
        if self.arguments["merge"] == "absolute_difference":
            return self._log_odds((left - right).abs())
        left, right = paddle.broadcast_tensors([left, right])
        both = self._log_odds(paddle.concat([left, right], -1)) + self._log_odds(paddle.concat([right, left], -1))
        return both / 2

    def _log_odds(self, merged: paddle.Tensor) -> paddle.Tensor:
        for linear in self.linears[:-1]:
            merged = F.relu(linear(merged))
        return self.linears[-1](merged).squeeze(-1)
