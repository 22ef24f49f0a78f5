"""Soft k-means: class means refined by the unlabelled queries, which is transductive.

Ren, Triantafillou, Ravi, Snell, Swersky, Tenenbaum, Larochelle and Zemel 2018 ("Meta-Learning for Semi-Supervised
Few-Shot Classification"): every query belongs to class k with weight softmax(-d(query, m_k)), and m_k becomes the
weighted mean of the class's shots, whose weight is 1, and of the queries; here with cosine similarities and as many
rounds as one likes. `balanced` brings the weights to equal sums over the classes first, as the optimal transport of Hu,
Gripon and Pateux 2021 ("Leveraging the Feature Distribution in Transfer-Based Few-Shot Learning") does: right where
every class has equally many queries, as in benchmarks, and wrong elsewhere.
"""

from dataclasses import dataclass
from typing import Literal

import paddle
import paddle.nn.functional as F

from ppfsl.methods.base import Classifier, Support

_BALANCING_ROUNDS = 20  # after which the sums of a benchmark's episodes are equal to about one part in a thousand


@dataclass(frozen=True)
class SoftKMeans:
    """Class means that the queries pull to where they lie.

    Attributes:
        scale: of the cosine similarities whose softmax weighs the queries, and of the logits.
        steps: rounds of refinement.
        balanced: whether every class is taken to have equally many queries.
        name: in reports.
    """

    scale: float = 10.0
    steps: int = 10
    balanced: bool = False
    name: str = "soft_kmeans"
    inputs: Literal["embedding"] = "embedding"
    transductive: bool = True

    def adapt(self, support: Support) -> Classifier:
        """Refine the means; queries are then labelled by the nearest one.

        Raises:
            ValueError: without the unlabelled queries.
        """
        if support.unlabelled is None:
            raise ValueError("soft k-means needs the unlabelled queries")
        queries = F.normalize(support.unlabelled, axis=-1)
        sums = support.class_sums()
        means = F.normalize(sums, axis=-1)
        for _ in range(self.steps):
            weights = self._weights(queries, means)
            means = F.normalize(sums + paddle.matmul(weights, queries, transpose_x=True), axis=-1)
        return lambda query: self.scale * paddle.matmul(F.normalize(query, axis=-1), means, transpose_y=True)

    def _weights(self, queries: paddle.Tensor, means: paddle.Tensor) -> paddle.Tensor:
        """How far each query belongs to each class: [E, Q, D], [E, way, D] -> [E, Q, way], rows that sum to 1."""
        weights = F.softmax(self.scale * paddle.matmul(queries, means, transpose_y=True), axis=-1)
        if self.balanced:  # Sinkhorn and Knopp: columns and rows by turns
            for _ in range(_BALANCING_ROUNDS):
                weights = weights / weights.sum(1, keepdim=True).clip(1e-30)
                weights = weights / weights.sum(2, keepdim=True)
        return weights
