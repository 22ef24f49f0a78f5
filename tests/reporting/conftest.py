"""A run directory as training and evaluation leave it, with made-up numbers that agree with one another."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppfsl.files import write_json, write_text
from ppfsl.randomness import generator
from ppfsl.reporting.metrics import MetricLog

NAMES = (
    "english marigold",
    "tiger lily",
    "globe-flower",
    "purple coneflower",
    "poinsettia",
    "prince of wales feathers",
    "向日葵",
    "_water lily",
)
CONFIG = """seed: 0
data:
  name: flowers102
  split: metadataset # <novel> & others
backbone:
  name: mobilenet_v1
  pretrained: imagenet
"""


def make_evaluation(
    names: Sequence[str] = NAMES,
    way: int = 5,
    shot: int = 1,
    query: int = 15,
    episodes: int = 100,
    adaptation: str = "class_mean",
    transductive: bool = False,
    skill: float = 0.7,
    **extra: Any,
) -> dict[str, Any]:
    """An evaluation whose per-class counts, confusion matrix and accuracy agree."""
    k = len(names)
    draw = generator(0, "evaluation", adaptation, shot)
    totals = draw.multinomial(episodes * way * query, np.full(k, 1 / k))
    confusion = np.zeros((k, k), dtype=np.int64)
    for i, total in enumerate(totals):
        right = min(0.98, skill + 0.25 * (i / max(1, k - 1) - 0.5))
        confusion[i] = draw.multinomial(total, [right if i == j else (1 - right) / (k - 1) for j in range(k)])
    correct = np.diag(confusion)
    per_class = [
        {"label": 5 + i, "name": name, "correct": int(c), "total": int(t), "accuracy": float(c / t) if t else 0.0}
        for i, (name, c, t) in enumerate(zip(names, correct, totals, strict=True))
    ]
    return {
        "way": way,
        "shot": shot,
        "query": query,
        "episodes": episodes,
        "seed": 0,
        "support_set": episodes == 1,
        "adaptation": adaptation,
        "transductive": transductive,
        "batch_norm": "eval",
        "accuracy": float(correct.sum() / totals.sum()),
        "ci95": 0.0 if episodes == 1 else 0.0062,
        "seconds": 3.25,
        "per_class": per_class,
        "confusion": confusion.tolist(),
        **extra,
    }


def make_result(evaluations: Sequence[dict[str, Any]], **extra: Any) -> dict[str, Any]:
    """A result.json with these evaluations."""
    return {
        "schema": 1,
        "name": "flowers102/baseline",
        "dataset": "flowers102",
        "split": "metadataset",
        "backbone": "mobilenet_v1",
        "method": "baseline",
        "pretrained": "imagenet",
        "git": "0123abc",
        "seed": 0,
        "versions": {"paddle": "3.3.1", "ppfsl": "0.1.0"},
        "evaluations": list(evaluations),
        **extra,
    }


def log_training(run: Path) -> None:
    """Two stages: forty steps of cross-entropy with a step in the learning rate, twenty of cosine."""
    noise = generator(0, "noise")
    with MetricLog(run, visualdl=False) as log:
        for step in range(1, 61):
            stage = "1_cross_entropy" if step <= 40 else "2_cosine"
            log.log(step, step // 10, "base", f"{stage}/loss", 4 * np.exp(-step / 25) + 0.1 * noise.random())
            log.log(step, step // 10, "base", f"{stage}/learning_rate", 0.1 if step <= 30 else 0.001)
            if step % 10 == 0:
                for shot in (1, 5):
                    value = 0.4 + 0.1 * (shot == 5) + step / 200
                    log.log(step, step // 10, "validation", f"{stage}/accuracy_5way_{shot}shot", value)


def make_pictures(count: int, size: int = 32, channels: int = 3) -> np.ndarray:
    """Made-up pictures: uint8 [count, size, size, channels]."""
    return generator(0, "support").integers(0, 256, (count, size, size, channels)).astype(np.uint8)


@pytest.fixture
def evaluation() -> Callable[..., dict[str, Any]]:
    """Builds an evaluation."""
    return make_evaluation


@pytest.fixture
def result() -> Callable[..., dict[str, Any]]:
    """Builds a result.json."""
    return make_result


@pytest.fixture
def pictures() -> Callable[..., np.ndarray]:
    """Builds made-up pictures."""
    return make_pictures


@pytest.fixture
def fake_run(tmp_path: Path) -> Callable[..., Path]:
    """Builds a run directory and returns its path."""

    def build(evaluations: Sequence[dict[str, Any]] | None = None, trained: bool = True, shot: int = 2) -> Path:
        run = tmp_path / "run"
        evaluations = [make_evaluation()] if evaluations is None else evaluations
        classes = [{"label": c["label"], "name": c["name"]} for c in evaluations[0]["per_class"]]
        files = [
            {"file": f"jpg/image_{c['label']:03}{n:02}.jpg", "label": c["label"]} for c in classes for n in range(9)
        ]
        write_text(run / "config.yaml", CONFIG)
        write_json(run / "result.json", make_result(evaluations))
        write_json(
            run / "support_set.json",
            {
                **{"schema": 1, "dataset": "flowers102", "split": "metadataset", "part": "novel", "seed": 0},
                **{"way": len(classes), "shot": shot, "classes": classes},
                "support": [item for i, item in enumerate(files) if i % 9 < shot],
                "query": [item for i, item in enumerate(files) if i % 9 >= shot],
            },
        )
        if trained:
            log_training(run)
        else:
            write_text(run / "metrics.jsonl", "")
        return run

    return build
