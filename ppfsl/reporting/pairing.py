"""Two evaluations of the same questions: their paired difference."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ppfsl.data.class_split import PartName, load_split, shipped_splits

Evaluation = dict[str, Any]

QUESTIONS = ("part", "way", "shot", "query", "episodes", "seed")
"""What determines every episode on given pictures."""


def same_pictures(result: Mapping[str, Any], other: Mapping[str, Any], part: PartName) -> bool:
    """Whether the episodes of two results are drawn from the same pictures of the same classes.

    Results of older versions do not say which pictures these were: of such, whether data set and split are the same, or
    two shipped splits whose part is.

    Args:
        result, other: what their result.json holds.
        part: the part of the split that both were evaluated on.
    """
    if "pictures" in result and "pictures" in other:
        return bool(result["pictures"] == other["pictures"])
    dataset, splits = result["dataset"], {result["split"], other["split"]}
    if other["dataset"] != dataset:
        return False
    if len(splits) == 1:
        return True
    return (
        splits <= set(shipped_splits(dataset)) and len({load_split(dataset, name).part(part) for name in splits}) == 1
    )


def same_questions(one: Evaluation, other: Evaluation) -> bool:
    """Whether two evaluations on the same pictures posed the same episodes."""
    return all(one[key] == other[key] for key in QUESTIONS)


def paired_difference(evaluation: Evaluation, reference: Evaluation) -> tuple[float, float]:
    """Mean difference of accuracy on the same episodes and half its 95 % interval, as fractions."""
    queries = evaluation["way"] * evaluation["query"]
    differences = (np.asarray(evaluation["episode_correct"]) - np.asarray(reference["episode_correct"])) / queries
    return float(differences.mean()), float(1.96 * differences.std() / math.sqrt(len(differences)))
