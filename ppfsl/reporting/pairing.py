"""Two evaluations of the same questions: their paired difference."""

import math
from typing import Any

import numpy as np

Evaluation = dict[str, Any]


def same_questions(one: Evaluation, other: Evaluation) -> bool:
    """Whether both evaluations of one data set and split posed the same episodes."""
    return all(one[key] == other[key] for key in ("part", "way", "shot", "query", "episodes", "seed"))


def paired_difference(evaluation: Evaluation, reference: Evaluation) -> tuple[float, float]:
    """Mean difference of accuracy on the same episodes and half its 95 % interval, as fractions."""
    queries = evaluation["way"] * evaluation["query"]
    differences = (np.asarray(evaluation["episode_correct"]) - np.asarray(reference["episode_correct"])) / queries
    return float(differences.mean()), float(1.96 * differences.std() / math.sqrt(len(differences)))
