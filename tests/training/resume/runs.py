"""Training runs to kill: their stages, and whether two of them are the same bit by bit."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppfsl import pipeline
from ppfsl.config import Config
from ppfsl.config_file import parse_config
from ppfsl.training import pretrain
from ppfsl.training.checkpoint import Checkpoint, load_checkpoint

Tree = dict[str, Any]

STAGES: list[Tree] = [
    {
        "objective": {"name": "cross_entropy", "batch_size": 24, "rotation_weight": 0.5},
        "epochs": 40,  # patience ends it much earlier
        "patience": 2,
        "optimizer": {"name": "adam", "lr": 0.003, "weight_decay": 1e-4},
        "schedule": {"name": "cosine", "warmup_epochs": 2},
        "augmentation": {"crop": "random", "flip": True, "jitter": 0.3},
    },
    {
        "objective": {"name": "cosine", "triples": 8},
        "epochs": 3,
        "optimizer": {"name": "momentum", "lr": 0.05},
        "schedule": {"name": "constant"},
        "augmentation": {"crop": "resized", "flip": True},
        "clip_norm": 1.0,
        "keep_start": 0.4,
    },
]
FROZEN: Tree = {
    "objective": {"name": "triplet", "mining": "random", "classes_per_batch": 3, "images_per_class": 3},
    "epochs": 2,
    "trainable": "projection",
    "optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.1},
}

EPISODES: Tree = {"way": 3, "shot": 1, "query": 3}
METHODS: list[Tree] = [  # with layers of their own; the relation module's has batch norm
    {
        "objective": {"name": "siamese", "hidden": [5], "classes_per_batch": 3, "images_per_class": 4},
        "epochs": 2,
        "steps_per_epoch": 2,
        "optimizer": {"name": "adam", "lr": 0.01, "weight_decay": 1e-3},
    },
    {
        "objective": {"name": "matching", "context": "full", "processing_steps": 2, **EPISODES},
        "epochs": 2,
        "steps_per_epoch": 2,
        "optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.1},
        "augmentation": {"crop": "random"},
        "clip_norm": 1.0,
    },
    {
        "objective": {"name": "relation", "width": 4, "episodes_per_batch": 2, **EPISODES},
        "epochs": 3,
        "steps_per_epoch": 2,
        "optimizer": {"name": "momentum", "lr": 0.1},
    },
]
TASKS: list[Tree] = [  # whose methods adapt networks by gradient
    {
        "objective": {"name": "maml", "first_order_epochs": 1, "episodes_per_batch": 2, **EPISODES},
        "epochs": 2,
        "steps_per_epoch": 2,
        "augmentation": {"crop": "random", "flip": True},
    },
    {
        "objective": {"name": "anil", "inner_steps": 2, **EPISODES},
        "epochs": 2,
        "steps_per_epoch": 2,
        "optimizer": {"name": "momentum", "lr": 0.1},
    },
    {
        "objective": {"name": "reptile", "inner_batch": 2, "inner_lr": 0.01, **EPISODES},
        "epochs": 2,
        "steps_per_epoch": 2,
        "optimizer": {"name": "sgd", "lr": 0.5},
    },
    {
        "objective": {"name": "meta_sgd", "batch_norm": "support_statistics", **EPISODES},
        "epochs": 2,
        "steps_per_epoch": 2,
        "optimizer": {"name": "adam", "lr": 0.01, "weight_decay": 1e-3},
    },
]
RECURRENT: list[Tree] = [  # whose layers are recurrent networks
    {
        "objective": {"name": "lstm_meta_learner", "inner_steps": 2, "hidden": 3, **EPISODES},
        "epochs": 2,
        "steps_per_epoch": 2,
    },
    {
        "objective": {"name": "learned_optimizer", "inner_steps": 2, "hidden": 3, **EPISODES},
        "epochs": 2,
        "steps_per_epoch": 2,
        "augmentation": {"crop": "random"},
    },
    {
        "objective": {"name": "memory_augmented", "way": 3, "instances": 3, "hidden": 5, "slots": 6, "width": 4},
        "epochs": 2,
        "steps_per_epoch": 2,
        "clip_norm": 1.0,
    },
]


class Killed(BaseException):
    """Stands for the end of the process."""


@contextlib.contextmanager
def killing_inside_an_epoch(objective: str, steps: int) -> Iterator[None]:
    """Meanwhile a stage with that objective ends the process after so many steps of its second epoch."""
    really = pretrain.Stage.run_epoch

    def killed(self: Any, epoch: int) -> Iterator[Any]:
        for number, step in enumerate(really(self, epoch)):
            if self.config.objective.name == objective and (epoch, number) == (1, steps):
                raise Killed
            yield step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain.Stage, "run_epoch", killed)
        yield


def configured(tree: Tree, folder: Path) -> Config:
    return parse_config({**tree, "output_dir": str(folder)}, "a test")


def train(tree: Tree, folder: Path) -> dict[str, np.ndarray]:
    """Train in a folder as far as it goes; the weights of the embedder and of what the method learned beside it."""
    config = configured(tree, folder)
    job, embedder = pipeline.prepared_training(config, pipeline.open_data(config), folder)
    layer = pretrain.pretrain(job, embedder)
    own = {} if layer is None else {f"layer.{name}": value.numpy() for name, value in layer.state_dict().items()}
    return {**{name: value.numpy() for name, value in embedder.state_dict().items()}, **own}


def log_of(folder: Path) -> list[Tree]:
    """The rows of metrics.jsonl; how fast training was is no matter."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{**row, "value": 0} if row["name"].endswith(("per_second", "waiting")) else row for row in rows]


def checkpoint_facts(checkpoint: Checkpoint) -> Tree:
    """What a checkpoint says, without the length of the log, which depends on the digits of the speed."""
    return {**checkpoint.facts, "progress": {**checkpoint.facts["progress"], "metrics_bytes": 0}}


def assert_same_training(first: Path, second: Path) -> None:
    names = [{path.name for path in (folder / "checkpoints").glob("*.safetensors")} for folder in (first, second)]
    assert names[0] == names[1]
    stages = [name for name in names[0] if name[0].isdecimal()]
    assert len(stages) >= 2
    assert names[0] == {"last.safetensors", "best.safetensors", *stages}
    for name in sorted(names[0]):
        one, two = (load_checkpoint(folder / "checkpoints" / name) for folder in (first, second))
        for kind in ("weights", "layer_weights", "training"):
            arrays, others = getattr(one, kind), getattr(two, kind)
            assert set(arrays) == set(others)
            differing = [key for key in arrays if arrays[key].tobytes() != others[key].tobytes()]
            assert not differing, (name, differing)
        assert one.layer == two.layer
        assert checkpoint_facts(one) == checkpoint_facts(two)
    assert log_of(first) == log_of(second)


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> steps and values of what VisualDL shows."""
    visualdl = pytest.importorskip("visualdl")
    (file,) = (folder / "vdl").glob("vdlrecords.*")
    reader = visualdl.LogReader(file_path=str(file))
    return {tag: [(p.id, p.value) for p in reader.get_data("scalar", tag)] for tag in reader.get_tags()["scalar"]}


def assert_each_step_is_shown_once(folder: Path) -> None:
    expected: dict[str, list[tuple[int, float]]] = {}
    for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        value = float(np.float32(row["value"]))
        expected.setdefault(f"{row['split']}/{row['name']}", []).append((row["step"], value))
    assert curves(folder) == expected
    assert all(len({step for step, _ in points}) == len(points) for points in expected.values())


def epochs_of(folder: Path, stage: str) -> list[int]:
    return sorted({row["epoch"] for row in log_of(folder) if row["name"].startswith(f"{stage}/")})
