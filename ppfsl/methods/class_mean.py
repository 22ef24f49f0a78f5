"""Class means: the nearest normalised mean of the shots' embeddings, by cosine similarity.

The nearest-centroid classifier of Chen et al. 2020 ("A New Meta-Baseline for Few-Shot Learning"):
m_k = mean of class k's shots, normalised; p(k | q) = softmax(scale * m_k . q).
"""

from dataclasses import dataclass
from typing import Literal

import paddle
import paddle.nn.functional as F

from ppfsl.methods.base import Classifier, Support


@dataclass(frozen=True)
class ClassMean:
    """Nearest class mean.

    Attributes:
        name: in reports.
        scale: of the logits; it does not change the answer, only the probabilities.
    """

    name: str = "class_mean"
    scale: float = 10.0
    inputs: Literal["embedding"] = "embedding"
    transductive: bool = False

    def adapt(self, support: Support) -> Classifier:
        """Compute the means."""
        means = class_means(support.inputs, support.labels, support.way)

        def classify(query: paddle.Tensor) -> paddle.Tensor:
            # F.normalize(query) takes longer than all the rest on a CPU.
            length = (query * query).sum(-1, keepdim=True).sqrt().clip(1e-12)
            return self.scale * (query @ means) / length

        return classify


def class_means(embeddings: paddle.Tensor, labels: paddle.Tensor, way: int) -> paddle.Tensor:
    """The normalised mean of each class's embeddings, as columns.

    Args:
        embeddings: [E, S, D].
        labels: int64 [S], 0..way - 1, every class at least once.
        way: number of classes.

    Returns:
        [E, D, way].
    """
    membership = F.one_hot(labels, way).astype(embeddings.dtype)
    sums = paddle.matmul(membership, embeddings, transpose_x=True)
    return F.normalize(sums / membership.sum(0).unsqueeze(-1), axis=-1).transpose([0, 2, 1])
