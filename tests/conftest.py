"""A data set of a moment, a configuration that trains on it in seconds, and the contract of a run directory."""

import copy
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ppfsl.runtime import prepare

prepare(threads=1)  # before any test imports Paddle
# Their assertions show values as those of tests do.
pytest.register_assert_rewrite(
    "tests.classifier.model.files",
    "tests.data.omniglot.files",
    "tests.data.table.drawings",
    "tests.losses.loops",
    "tests.tools.bad_input.mistaken",
    "tests.training.resume.runs",
)

CLASSES, IMAGES, SIDE = 12, 12, 20

_TINY: dict[str, Any] = {
    "data": {"name": "folder", "image_size": 16, "split_ratio": [0.5, 0.25, 0.25]},
    "backbone": {"name": "conv4", "width": 4, "projection": 6},
    "pretrain": [{"objective": {"name": "cross_entropy", "batch_size": 16}, "epochs": 2}],
    "validation": {"way": 3, "query": 4, "episodes": 10},
    "adaptations": [{"name": "class_mean"}],
    "evaluation": {"way": 3, "shot": [1, 5], "query": 4, "episodes": 10},
}


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_the_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tools keep goes into a folder of the tests', unless PPFSL_CACHE names one."""
    with pytest.MonkeyPatch.context() as patch:
        if "PPFSL_CACHE" not in os.environ:
            patch.setenv("PPFSL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def draw_photographs(folder: Path) -> None:
    """12 classes of 12 noisy pictures of 20 px, each class around a shade of its own: learnable, not easy."""
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        (folder / f"class{label:02d}").mkdir(parents=True)
        colour = rng.integers(100, 156, 3)
        for number in range(IMAGES):
            pixels = (rng.normal(0, 60, (SIDE, SIDE, 3)) + colour).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"class{label:02d}" / f"{number:02d}.png")


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with a folder per class; to be read only."""
    folder = tmp_path_factory.mktemp("data") / "photographs"
    draw_photographs(folder)
    return folder


@pytest.fixture(scope="session")
def image_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def own_photographs(tmp_path: Path) -> Path:
    """The same tree for one test, which may spoil it."""
    draw_photographs(tmp_path / "own photographs")
    return tmp_path / "own photographs"


@pytest.fixture(scope="session")
def tiny_tree(photographs: Path, image_cache: Path) -> Callable[[], dict[str, Any]]:
    """Gives the tree of a configuration that runs in a second or two, to be changed at will."""

    def tree() -> dict[str, Any]:
        tree = copy.deepcopy(_TINY)
        tree["data"] |= {"folder": str(photographs), "cache_dir": str(image_cache)}
        return tree

    return tree


@pytest.fixture(scope="session")
def departures() -> Callable[[Path], list[str]]:
    """Gives what departs from the contract in a run directory, a sentence each."""
    return lambda run: list(_departures(run))


_FILES = ("config.yaml", "metrics.jsonl", "support_set.json", "result.json", "report.html")
_CHECKPOINTS = ("last.safetensors", "best.safetensors")
_TEXT_OR_NONE = (str, type(None))
_RESULT = {
    "schema": int,
    "name": str,
    "dataset": str,
    "split": _TEXT_OR_NONE,
    "backbone": str,
    "method": str,
    "pretrained": _TEXT_OR_NONE,
    "git": _TEXT_OR_NONE,
    "seed": int,
    "versions": dict,
    "evaluations": list,
}
_EVALUATION = {
    "way": int,
    "shot": int,
    "query": int,
    "episodes": int,
    "seed": int,
    "adaptation": str,
    "transductive": bool,
    "batch_norm": str,
    "accuracy": float,
    "ci95": float,
    "seconds": (int, float),
    "per_class": list,
    "confusion": list,
}
_CLASS = {"label": int, "name": str, "correct": int, "total": int, "accuracy": float}


def _departures(run: Path) -> Iterator[str]:
    for name in (*_FILES, *(f"checkpoints/{name}" for name in _CHECKPOINTS)):
        if not (run / name).is_file():
            yield f"no {name}"
    if not any((run / "vdl").glob("vdlrecords.*.log")):
        yield "no curves in vdl"
    for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line, parse_constant=lambda constant: f"not JSON: {constant}")
        if set(row) != {"step", "epoch", "split", "name", "value"} or not isinstance(row["value"], int | float):
            yield f"metrics.jsonl: {line}"
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    yield from _ill_typed("result.json", result, _RESULT)
    if not result["evaluations"]:
        yield "no evaluations"
    for number, evaluation in enumerate(result["evaluations"]):
        yield from _evaluation_departures(f"evaluation {number}", evaluation)


def _evaluation_departures(where: str, evaluation: dict[str, Any]) -> Iterator[str]:
    yield from _ill_typed(where, evaluation, _EVALUATION)
    per_class, confusion = evaluation["per_class"], np.asarray(evaluation["confusion"])
    for row in per_class:
        yield from _ill_typed(f"{where}, class {row.get('label')}", row, _CLASS)
        if not math.isclose(row["correct"] / row["total"], row["accuracy"], abs_tol=1e-6):
            yield f"{where}, class {row['label']}: accuracy is not correct / total"
    total, correct = (sum(row[key] for row in per_class) for key in ("total", "correct"))
    if total != evaluation["episodes"] * evaluation["way"] * evaluation["query"]:
        yield f"{where}: {total} queries"
    if not math.isclose(correct / total, evaluation["accuracy"], abs_tol=1e-4):
        yield f"{where}: accuracy {evaluation['accuracy']}, but {correct} of {total}"
    if confusion.sum(1).tolist() != [row["total"] for row in per_class]:
        yield f"{where}: the rows of the confusion matrix are not the classes' totals"
    if np.diag(confusion).tolist() != [row["correct"] for row in per_class]:
        yield f"{where}: the diagonal of the confusion matrix is not what was correct"


def _ill_typed(where: str, value: dict[str, Any], shape: dict[str, Any]) -> Iterator[str]:
    for key, kind in shape.items():
        if key not in value:
            yield f"{where}: no {key}"
        elif not isinstance(value[key], kind) or (isinstance(value[key], bool) and kind is int):
            yield f"{where}: {key} is {value[key]!r}"
