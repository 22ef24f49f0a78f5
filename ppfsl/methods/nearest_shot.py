"""Nearest shot: the class of the most similar support image, by cosine similarity.

What networks trained on distances (Hadsell et al. 2006, Schroff et al. 2015) are used with: between embeddings of
length one the squared Euclidean distance is 2 - 2 x cosine similarity.
"""

from dataclasses import dataclass
from typing import Literal

from ppfsl.distances import cosine
from ppfsl.methods.base import Classifier, Support


@dataclass(frozen=True)
class NearestShot:
    """The class of the most similar shots.

    Attributes:
        shots: the maximum or the mean of the similarities to a class's shots.
        name: in reports.
    """

    shots: Literal["max", "mean"] = "max"
    name: str = "nearest_shot"
    inputs: Literal["embedding"] = "embedding"
    transductive: bool = False

    def adapt(self, support: Support) -> Classifier:
        """Keep the shots."""
        return lambda query: support.over_shots(cosine(query, support.inputs), self.shots)
