"""Meta-Baseline (Chen, Liu, Xu, Darrell and Wang 2020, "A New Meta-Baseline for Few-Shot Learning").

After pretraining a classifier, the nearest-centroid classifier itself is trained on episodes: p(k | q) =
softmax(scale x cos(q, mean of class k's shots)), with a learned scale. The means are of embeddings that are not
normalised.
"""

from dataclasses import dataclass
from typing import Any, Literal

import paddle
from paddle import nn

from ppfsl import losses
from ppfsl.distances import cosine
from ppfsl.methods.base import Classifier, Support


@dataclass(frozen=True)
class MetaBaseline:
    """Cosine nearest centroid.

    Attributes:
        layer: the learned scale.
        name: in reports.
    """

    layer: "LearnedScale"
    name: str = "meta_baseline"
    inputs: Literal["projected"] = "projected"
    transductive: bool = False

    def adapt(self, support: Support) -> Classifier:
        """Compute the centroids."""
        centroids = support.class_means()
        return lambda query: self.layer(cosine(query, centroids))

    def loss(self, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        """Cross-entropy."""
        return losses.cross_entropy(logits, labels)


class LearnedScale(nn.Layer):
    """A factor.

    Args:
        initial: what it starts at; 10 in the paper.
    """

    def __init__(self, initial: float) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {"initial": initial}
        self.scale = self.create_parameter([1], default_initializer=nn.initializer.Constant(initial))

    def forward(self, similarities: paddle.Tensor) -> paddle.Tensor:
        """The similarities times the scale."""
        return self.scale * similarities
