"""Stages of training on toy images: their objectives, how they are made and trained, and their weights compared."""

from typing import Any

import numpy as np

from ppfsl.backbones.embedder import Architecture, build_embedder
from ppfsl.backbones.weights import weights_of
from ppfsl.config import StageConfig
from ppfsl.data.table import ImageTable
from ppfsl.training.stage import Stage, Step

SIDE, CLASSES, EACH = 18, 5, 6
ARCHITECTURE = Architecture("conv4", 16, 3, 6, "unit", (("width", 4),))
CROSS_ENTROPY = {"name": "cross_entropy", "batch_size": 8}
TRIPLET = {"name": "triplet", "mining": "random", "classes_per_batch": 3, "images_per_class": 3}
EPISODES = {"way": 3, "shot": 1, "query": 2, "episodes_per_batch": 2}
MEMORY = {"slots": 6, "width": 4, "heads": 2, "episodes_per_batch": 2}
METHODS: dict[str, dict[str, Any]] = {  # with layers of their own
    "relation": {"name": "relation", "width": 4, "hidden": 3, **EPISODES},
    "full context": {"name": "matching", "context": "full", "processing_steps": 2, **EPISODES},
    "siamese": {"name": "siamese", "classes_per_batch": 3, "images_per_class": 3},
    "meta_baseline": {"name": "meta_baseline", **EPISODES},
    "anil": {"name": "anil", **EPISODES},
    "learned_optimizer": {"name": "learned_optimizer", "inner_steps": 2, "hidden": 3, **EPISODES},
    "memory_augmented": {"name": "memory_augmented", "way": 3, "instances": 3, "hidden": 5, **MEMORY},
}
TASKS: dict[str, dict[str, Any]] = {  # whose method adapts all of the network
    "maml": {"name": "maml", "first_order_epochs": 3, **EPISODES},
    "meta_sgd": {"name": "meta_sgd", "batch_norm": "support_statistics", **EPISODES},
    "reptile": {"name": "reptile", "inner_batch": 2, "inner_lr": 0.01, **EPISODES},
    "lstm_meta_learner": {"name": "lstm_meta_learner", "inner_steps": 2, "hidden": 3, **EPISODES},
}
Weights = dict[str, np.ndarray]


def config(**changes: Any) -> StageConfig:
    return StageConfig.model_validate({"objective": CROSS_ENTROPY, "epochs": 4, "steps_per_epoch": 2, **changes})


def stage_of(
    table: ImageTable, rows: np.ndarray, config: StageConfig, seed: int = 0, architecture: Architecture = ARCHITECTURE
) -> Stage:
    return Stage(config, build_embedder(architecture, 0), table, rows, seed)


def train(stage: Stage, epochs: range) -> list[Step]:
    return [step for epoch in epochs for step in stage.run_epoch(epoch)]


def all_weights(stage: Stage) -> Weights:
    head = stage.objective.head
    own = {} if head is None else {f"head.{name}": value.numpy().copy() for name, value in head.state_dict().items()}
    return {**weights_of(stage.embedder), **own}


def changed(before: Weights, after: Weights) -> set[str]:
    return {name for name, value in before.items() if not np.array_equal(value, after[name])}


def same(one: Weights, two: Weights) -> bool:
    return one.keys() == two.keys() and not changed(one, two)
