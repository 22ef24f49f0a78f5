"""Prototypical Networks (Snell, Swersky and Zemel 2017, "Prototypical Networks for Few-shot Learning").

A class's prototype is the mean of its shots' embeddings; p(k | q) = softmax(-d(q, prototype k) / temperature), d the
squared Euclidean distance. The embeddings are not normalised. With the cosine, p(k | q) = softmax(cos / temperature).
"""

from dataclasses import dataclass
from typing import Literal

import paddle

from ppfsl import losses
from ppfsl.distances import cosine, squared_euclidean
from ppfsl.methods.base import Classifier, Support


@dataclass(frozen=True)
class Prototypical:
    """Nearest prototype.

    Attributes:
        metric: of queries and prototypes.
        temperature: divides the negative distances or the cosines. The paper has 1; other libraries divide by the
            dimension or multiply by a scale. It matters for training; the answer of a classifier does not depend on it.
        name: in reports.
    """

    metric: Literal["squared_euclidean", "cosine"] = "squared_euclidean"
    temperature: float = 1.0
    name: str = "prototypical"
    inputs: Literal["projected"] = "projected"
    transductive: bool = False
    layer: None = None

    def adapt(self, support: Support) -> Classifier:
        """Compute the prototypes."""
        prototypes = support.class_means()

        def classify(query: paddle.Tensor) -> paddle.Tensor:
            if self.metric == "cosine":
                return cosine(query, prototypes) / self.temperature
            return -squared_euclidean(query, prototypes) / self.temperature

        return classify

    def loss(self, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        """Cross-entropy."""
        return losses.cross_entropy(logits, labels)
