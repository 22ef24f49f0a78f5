"""Whole runs to test: the tree of one with every part, and looking at what runs leave."""

import copy
import json
from pathlib import Path
from typing import Any

from ppfsl.config import Config
from ppfsl.config_file import parse_config

Tree = dict[str, Any]
STAGES: list[Tree] = [
    {
        "objective": {"name": "cross_entropy", "batch_size": 16},
        "epochs": 2,
        "schedule": {"name": "step", "milestones": [1]},
        "augmentation": {"crop": "random", "flip": True, "jitter": 0.2},
    },
    {"objective": {"name": "cosine", "triples": 4}, "epochs": 2, "optimizer": {"name": "momentum", "lr": 0.01}},
    {
        "objective": {"name": "triplet", "classes_per_batch": 4, "images_per_class": 3},
        "epochs": 2,
        "trainable": "projection",
    },
]
ADAPTATIONS: list[Tree] = [
    {"name": "class_mean"},
    {"name": "finetune", "label": "inductive", "steps": 5, "optimizer": {"lr": 0.05}},
    {"name": "finetune", "label": "transductive", "entropy": "query", "steps": 5, "optimizer": {"lr": 0.05}},
    {
        "name": "finetune",
        "label": "random",
        "initialization": "random",
        "similarity": "inner_product",
        "entropy": "none",
        "steps": 20,
        "optimizer": {"lr": 0.05},
    },
    {"name": "finetune", "label": "everything", "trainable": "all", "steps": 2, "optimizer": {"lr": 0.05}},
]

LABELS = ("class_mean", "inductive", "transductive", "random", "everything")


def configured(tree: Tree, folder: Path) -> Config:
    return parse_config({**tree, "output_dir": str(folder)}, "a test")


def changed(tree: Tree, key: str, value: Any) -> Tree:
    """A copy with one value replaced; the key is dotted, numbers count into lists."""
    tree = copy.deepcopy(tree)
    *path, last = (int(part) if part.isdecimal() else part for part in key.split("."))
    node: Any = tree
    for part in path:
        node = node[part] if isinstance(part, int) else node.setdefault(part, {})
    node[last] = value
    return tree


def result_of(folder: Path) -> Tree:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def timeless(result: Tree) -> Tree:
    """A result without how long it took; files of the checkout may change between two runs, if not their results."""
    return {**result, "git": "", "evaluations": [{**entry, "seconds": 0} for entry in result["evaluations"]]}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
