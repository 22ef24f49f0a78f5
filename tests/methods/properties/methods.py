"""Every method that works on vectors, and noise to adapt it to."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ppfsl.config import BaselineConfig, FinetuneConfig
from ppfsl.methods.anil import Anil
from ppfsl.methods.baseline import Baseline
from ppfsl.methods.class_mean import ClassMean
from ppfsl.methods.finetune import Finetune
from ppfsl.methods.layers import build_layer
from ppfsl.methods.learned_optimizer import LearnedOptimizerHead
from ppfsl.methods.matching import Matching
from ppfsl.methods.meta_baseline import MetaBaseline
from ppfsl.methods.nearest_shot import NearestShot
from ppfsl.methods.prototypical import Prototypical
from ppfsl.methods.relation import Relation
from ppfsl.methods.siamese import Siamese
from ppfsl.randomness import generator

EPISODES, WAY, SHOT, QUERIES, DIM = 3, 3, 2, 4, 8
LABELS = np.asarray([1, 0, 2, 2, 1, 0])


def layer_of(name: str, **arguments: Any) -> Any:
    layer = build_layer({"name": name, "arguments": arguments}, 0)
    layer.eval()
    return layer


def finetune(**keys: Any) -> Finetune:
    optimizer = {"name": "sgd", "lr": 0.1}
    return Finetune(FinetuneConfig.model_validate({"name": "finetune", "steps": 4, "optimizer": optimizer, **keys}))


def baseline(**keys: Any) -> Baseline:
    """With all of the support set in a batch, so that its order does not matter."""
    return Baseline(BaselineConfig.model_validate({"epochs": 4, "batch_size": 100, "lr": 0.1, **keys}))


def siamese(merge: str, *hidden: int, shots: Any = "mean") -> Siamese:
    return Siamese(layer_of("siamese", dim=DIM, merge=merge, hidden=list(hidden)), shots)


def anil() -> Anil:
    """Of a head that prefers no class, so that their names do not matter."""
    arguments = {"method": "anil", "dim": DIM, "way": WAY, "steps": 3, "lr": 0.2, "batch_norm": "running"}
    layer = layer_of("task", **arguments)
    layer.linear.weight.set_value(layer.linear.weight[:, :1].expand([DIM, WAY]))
    return Anil(layer, 3, 0.2)


METHODS: dict[str, Callable[[], Any]] = {
    "class_mean": ClassMean,
    "finetune": finetune,
    "finetune, transductive": lambda: finetune(entropy="query"),
    "baseline": lambda: baseline(name="baseline"),
    "baseline++": lambda: baseline(name="baseline++"),
    "nearest_shot": NearestShot,
    "nearest_shot, mean": lambda: NearestShot("mean"),
    "prototypical": Prototypical,
    "prototypical, cosine": lambda: Prototypical("cosine", 0.1),
    "matching": Matching,
    "matching, full context": lambda: Matching(layer_of("matching", dim=DIM, steps=3)),
    "relation, mean of maps": lambda: Relation(layer_of("relation", shape=[2, 2, 2], width=6, hidden=5), "mean"),
    "relation, maps": lambda: Relation(layer_of("relation", shape=[2, 2, 2], width=6, hidden=5)),
    "relation, vectors": lambda: Relation(layer_of("relation", shape=[DIM, 1, 1], width=6, hidden=5)),
    "siamese": lambda: siamese("absolute_difference"),
    "siamese, max": lambda: siamese("absolute_difference", 5, shots="max"),
    "siamese, concatenation": lambda: siamese("concatenation", 9, 5),
    "meta_baseline": lambda: MetaBaseline(layer_of("meta_baseline", initial=10.0)),
    "anil": anil,
    "learned_optimizer": lambda: LearnedOptimizerHead(layer_of("learned_optimizer", hidden=6), 3),
}
every = pytest.mark.parametrize("name", METHODS)


def draw(*shape: int, key: str = "x") -> np.ndarray:
    return generator(0, "properties", key, *shape).standard_normal(shape).astype(np.float32)


INPUTS, QUERY = draw(EPISODES, len(LABELS), DIM), draw(EPISODES, QUERIES, DIM, key="query")
