"""Relation Networks (Sung, Yang, Zhang, Xiang, Torr and Hospedales 2018, "Learning to Compare").

A class's feature map is the sum of its shots' maps. It is concatenated with a query's map, and a convolutional module
scores the pair; training brings the score's sigmoid to 1 for the right class and 0 for the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import paddle
import paddle.nn.functional as F
from paddle import nn

from ppfsl.methods.base import Classifier, Support

_MOST_NUMBERS = 1 << 24  # of pairs' maps at a time: 64 MB, however many classes and queries there are


@dataclass(frozen=True)
class Relation:
    """The class of the highest relation score.

    Attributes:
        layer: the relation module.
        shots: how a class's maps are put together. The paper has the sum, and a module for each number of shots; to a
            module that was trained on one shot, the sum of five is unlike any map it has seen, the mean is not.
        name: in reports.
    """

    layer: "RelationModule"
    shots: Literal["sum", "mean"] = "sum"
    name: str = "relation"
    inputs: Literal["projected"] = "projected"
    transductive: bool = False

    def adapt(self, support: Support) -> Classifier:
        """Put each class's maps together."""
        classes = support.class_sums() if self.shots == "sum" else support.class_means()
        return lambda query: self.layer(classes, query)

    def loss(self, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        """Mean squared error of the scores' sigmoids against 1 for the right class, 0 for the others."""
        return F.mse_loss(F.sigmoid(logits), F.one_hot(labels, logits.shape[-1]).astype(logits.dtype))


class RelationModule(nn.Layer):
    """Two convolutions with batch norm, ReLU and, where the map is large enough, max pooling; two linear layers.

    Args:
        shape: (channels, height, width) of a feature map; vectors are maps of one pixel.
        width: channels of the convolutions, 64 in the paper.
        hidden: outputs of the first linear layer, 8 in the paper.
    """

    def __init__(self, shape: Sequence[int], width: int, hidden: int) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {"shape": list(shape), "width": width, "hidden": hidden}
        channels, side = shape[0], shape[1]
        # A convolution of concatenated maps is the sum of two convolutions, so each map is convolved once.
        self.of_class = nn.Conv2D(channels, width, 3, padding=1, bias_attr=False)
        self.of_query = nn.Conv2D(channels, width, 3, padding=1, bias_attr=False)
        self.second = nn.Conv2D(width, width, 3, padding=1, bias_attr=False)
        self.norms = nn.LayerList([nn.BatchNorm2D(width), nn.BatchNorm2D(width)])
        for _ in range(2):
            side = side // 2 or 1
        self.linears = nn.LayerList([nn.Linear(width * side * side, hidden), nn.Linear(hidden, 1)])

    def forward(self, classes: paddle.Tensor, queries: paddle.Tensor) -> paddle.Tensor:
        """Scores before the sigmoid: maps [E, way, D] and [E, Q, D], flattened -> [E, Q, way].

        In evaluation mode some queries at a time; in training all of them, which batch norm takes together.
        """
        episodes, way, _ = classes.shape
        shape = self.arguments["shape"]
        left = self.of_class(classes.reshape([-1, *shape])).reshape([episodes, 1, way, -1, *shape[1:]])
        if self.training:
            return self._scores(left, queries)
        size = max(1, _MOST_NUMBERS // left.size)
        parts = [self._scores(left, queries[:, start : start + size]) for start in range(0, queries.shape[1], size)]
        return paddle.concat(parts, 1)

    def _scores(self, left: paddle.Tensor, queries: paddle.Tensor) -> paddle.Tensor:
        """Convolved maps of classes [E, 1, way, width, H, W], maps of queries [E, Q, D] -> [E, Q, way]."""
        episodes, _, way, width, *sides = left.shape
        right = self.of_query(queries.reshape([-1, *self.arguments["shape"]]))
        maps = (left + right.reshape([episodes, -1, 1, width, *sides])).reshape([-1, width, *sides])
        maps = _pooled(self.norms[0](maps))
        maps = _pooled(self.norms[1](self.second(maps)))
        scores = self.linears[1](F.relu(self.linears[0](maps.flatten(1))))
        return scores.reshape([episodes, -1, way])


def _pooled(maps: paddle.Tensor) -> paddle.Tensor:
    """ReLU, and max pooling unless the map is one pixel."""
    return F.relu(F.max_pool2d(maps, 2) if maps.shape[-1] > 1 else maps)
