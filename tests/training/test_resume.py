"""A run that was killed and started again equals one that never was: weights bit by bit, log, curves, results."""

import contextlib
import copy
import functools
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import yaml

from ppfsl import pipeline
from ppfsl.backbones.embedder import Embedder
from ppfsl.config import Config
from ppfsl.config_file import parse_config
from ppfsl.training import pretrain, validation
from ppfsl.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

Tree = dict[str, Any]
TRAIN = Path(__file__).parents[2] / "tools" / "train.py"
STAGES: list[Tree] = [
    {
        "objective": {"name": "cross_entropy", "batch_size": 24},
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
    },
]
FROZEN: Tree = {
    "objective": {"name": "triplet", "mining": "random", "classes_per_batch": 3, "images_per_class": 3},
    "epochs": 2,
    "trainable": "projection",
    "optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.1},
}


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def tree(tiny_tree: Callable[[], Tree]) -> Tree:
    return {**tiny_tree(), "pretrain": copy.deepcopy([*STAGES, FROZEN])}


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validates without exporting the embedder, which takes longer than all else here."""

    def embed(embedder: Embedder, images: np.ndarray, rows: np.ndarray, output: str = "embedding") -> np.ndarray:
        embedder.eval()
        pixels = paddle.to_tensor(images[rows].transpose(0, 3, 1, 2).astype(np.float32))
        with paddle.no_grad():
            return (embedder(pixels) if output == "embedding" else embedder.features(pixels)).numpy()

    monkeypatch.setattr(validation, "embed", embed)


@pytest.fixture
def kill_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Call it to have training killed after so many more checkpoints."""
    left = [-1]

    def killing(checkpoint: Checkpoint, path: Path) -> None:
        save_checkpoint(checkpoint, path)
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    monkeypatch.setattr(pretrain, "save_checkpoint", killing)
    return functools.partial(left.__setitem__, 0)


@pytest.fixture
def scenes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], list[Path]]:
    """Gives what a kill before each checkpoint of the run in `whole` would have left: copies of its directory."""
    found: list[Path] = []

    def copying(checkpoint: Checkpoint, path: Path) -> None:
        if path.is_relative_to(tmp_path / "whole"):
            scene = tmp_path / f"killed {len(found)}"
            if (tmp_path / "whole").exists():
                shutil.copytree(tmp_path / "whole", scene)
            (scene / "checkpoints").mkdir(parents=True, exist_ok=True)
            (scene / "checkpoints" / f".{path.name}.abc.tmp").write_bytes(b"half a checkpoint")
            found.append(scene)
        save_checkpoint(checkpoint, path)

    monkeypatch.setattr(pretrain, "save_checkpoint", copying)
    return lambda: found


def configured(tree: Tree, folder: Path) -> Config:
    return parse_config({**tree, "output_dir": str(folder)}, "a test")


def train(tree: Tree, folder: Path) -> dict[str, np.ndarray]:
    """Train in a folder as far as it goes; the embedder's weights."""
    config = configured(tree, folder)
    embedder = pipeline.trained_embedder(config, pipeline.open_data(config), folder)
    return {name: value.numpy() for name, value in embedder.state_dict().items()}


def log_of(folder: Path) -> list[Tree]:
    """The rows of metrics.jsonl; how fast training was is no matter."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{**row, "value": 0} if row["name"].endswith("images_per_second") else row for row in rows]


def checkpoint_facts(checkpoint: Checkpoint) -> Tree:
    """What a checkpoint says, without the length of the log, which depends on the digits of the speed."""
    return {**checkpoint.facts, "progress": {**checkpoint.facts["progress"], "metrics_bytes": 0}}


def assert_same_training(first: Path, second: Path) -> None:
    names = [{path.name for path in (folder / "checkpoints").glob("*.safetensors")} for folder in (first, second)]
    assert names[0] == names[1]
    assert {"last.safetensors", "best.safetensors", "1_cross_entropy.safetensors", "2_cosine.safetensors"} <= names[0]
    for name in sorted(names[0]):
        one, two = (load_checkpoint(folder / "checkpoints" / name) for folder in (first, second))
        for arrays, others in ((one.weights, two.weights), (one.training, two.training)):
            assert set(arrays) == set(others)
            differing = [key for key in arrays if arrays[key].tobytes() != others[key].tobytes()]
            assert not differing, (name, differing)
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


def test_killed_before_any_checkpoint_a_run_ends_like_an_uninterrupted_one(
    tree: Tree, tmp_path: Path, eager: None, scenes: Callable[[], list[Path]]
) -> None:
    tree["pretrain"][0]["patience"] = 1
    weights = train(tree, tmp_path / "whole")
    assert 2 <= len(epochs_of(tmp_path / "whole", "1_cross_entropy")) < 40, "the first stage is to stop early"
    assert len(scenes()) >= 16
    for scene in scenes():
        again = train(tree, scene)
        assert_same_training(tmp_path / "whole", scene)
        assert all(again[name].tobytes() == weights[name].tobytes() for name in weights)


def test_killed_after_each_checkpoint_in_turn_a_run_ends_like_an_uninterrupted_one(
    tree: Tree, tmp_path: Path, eager: None, kill_after: Callable[[int], None]
) -> None:
    weights = train(tree, tmp_path / "whole")
    for kills in range(100):
        kill_after(2 if kills else 1)  # one alone could be the best one again and again
        with contextlib.suppress(Killed):
            again = train(tree, tmp_path / "killed")
            break
    assert kills >= 10
    assert_same_training(tmp_path / "whole", tmp_path / "killed")
    assert_each_step_is_shown_once(tmp_path / "killed")
    assert all(again[name].tobytes() == weights[name].tobytes() for name in weights)


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("steps", [1, 2])
def test_killed_inside_an_epoch_a_run_repeats_that_epoch(
    tree: Tree, tmp_path: Path, eager: None, monkeypatch: pytest.MonkeyPatch, stage: int, steps: int
) -> None:
    tree = {**tree, "pretrain": [{**config, "epochs": 2} for config in tree["pretrain"]]}
    train(tree, tmp_path / "whole")
    really = pretrain.Stage.run_epoch
    name = ("cross_entropy", "cosine", "triplet")[stage]

    def killed(self: Any, epoch: int) -> Iterator[Any]:
        for number, step in enumerate(really(self, epoch)):
            if self.config.objective.name == name and epoch == 1 and number == steps:
                raise Killed
            yield step

    with monkeypatch.context() as patch:
        patch.setattr(pretrain.Stage, "run_epoch", killed)
        with pytest.raises(Killed):
            train(tree, tmp_path / "killed")
    train(tree, tmp_path / "killed")
    assert_same_training(tmp_path / "whole", tmp_path / "killed")
    assert_each_step_is_shown_once(tmp_path / "killed")


def test_the_count_of_epochs_without_a_better_one_survives(
    tree: Tree, tmp_path: Path, eager: None, scenes: Callable[[], list[Path]]
) -> None:
    """One epoch before early stopping is where a forgotten count would add epochs."""
    tree["pretrain"] = STAGES
    train(tree, tmp_path / "whole")
    expected = epochs_of(tmp_path / "whole", "1_cross_entropy")
    for scene in scenes()[2:]:
        progress = load_checkpoint(scene / "checkpoints" / "last.safetensors").facts["progress"]
        if (progress["stage"], progress["epoch"], progress["waited"]) == (0, len(expected) - 1, 1):
            train(tree, scene)
            assert epochs_of(scene, "1_cross_entropy") == expected
            return
    pytest.fail("no checkpoint was written one epoch before early stopping")


def test_every_stage_counts_its_own_epochs_without_a_better_one(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later stages are worse than the first from their start on, and still have their chance."""
    stages = [[0.5, 0.6, 0.55, 0.6], [0.3, 0.4, 0.35, 0.4], [0.2, 0.1, 0.15]]
    scores = [score for stage in stages for score in stage]
    coming = iter(scores)
    monkeypatch.setattr(validation.Validation, "score", lambda *_: next(coming))
    tree["pretrain"] = [{**STAGES[1], "epochs": 9, "patience": 2}] * 3
    train(tree, tmp_path / "run")
    rows = [row for row in log_of(tmp_path / "run") if row["split"] == "validation"]
    assert [row["value"] for row in rows] == scores
    assert [row["name"][0] for row in rows] == list("11112222333")
    best = load_checkpoint(tmp_path / "run" / "checkpoints" / "best.safetensors").facts["progress"]
    assert (best["best"], best["epochs"]) == (0.6, 2)


def test_without_validation_the_last_weights_are_the_best_after_a_kill_too(
    tree: Tree, tmp_path: Path, scenes: Callable[[], list[Path]]
) -> None:
    tree["pretrain"] = [{**stage, "epochs": 2, "patience": None} for stage in STAGES[:2]]
    tree["data"]["split_ratio"] = [0.75, 0, 0.25]
    train(tree, tmp_path / "whole")
    assert load_checkpoint(tmp_path / "whole" / "checkpoints" / "best.safetensors").facts["progress"]["epochs"] == 4
    for scene in scenes():
        train(tree, scene)
        assert_same_training(tmp_path / "whole", scene)


def test_a_run_without_stages_survives_a_kill_between_its_two_checkpoints(
    tree: Tree, tmp_path: Path, kill_after: Callable[[int], None]
) -> None:
    tree["pretrain"] = []
    kill_after(1)
    with pytest.raises(Killed):
        train(tree, tmp_path / "killed")
    killed, whole = train(tree, tmp_path / "killed"), train(tree, tmp_path / "whole")
    assert all(killed[name].tobytes() == whole[name].tobytes() for name in whole)


@pytest.mark.slow
def test_killed_processes_end_like_an_uninterrupted_one(tree: Tree, tmp_path: Path) -> None:
    """`tools/train.py`, six times killed without warning, then left to end."""
    seed = int(time.time())
    chance = random.Random(seed)
    moments = chance.sample(["write", "write", "row", "epoch"], 4)
    print(f"random seed {seed}: {moments}")  # pytest shows it when the test fails
    tree = {**tree, "pretrain": STAGES, "adaptations": [{"name": "class_mean"}, {"name": "finetune", "steps": 20}]}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert finish(tree, whole) == 0
    for moment in moments:
        kill_at(moment, chance.randint(1, 6), chance.uniform(0, 0.03), tree, killed)
    kill_at("stage", 1, chance.uniform(0, 0.5), tree, killed)
    kill_at("result", 1, chance.uniform(0, 0.1), tree, killed)
    assert finish(tree, killed) == 0
    assert_same_training(whole, killed)
    assert_each_step_is_shown_once(killed)
    first, second = (timeless(folder / "result.json") for folder in (whole, killed))
    assert first == second
    assert (whole / "support_set.json").read_bytes() == (killed / "support_set.json").read_bytes()
    assert (killed / "report.html").is_file()


def timeless(path: Path) -> Tree:
    result = json.loads(path.read_text(encoding="utf-8"))
    # Files of the checkout may change between two runs, if not their results.
    return {**result, "git": "", "evaluations": [{**entry, "seconds": 0} for entry in result["evaluations"]]}


def start(tree: Tree, folder: Path) -> "subprocess.Popen[bytes]":
    config = folder.with_name("tiny.yaml")
    config.write_text(yaml.safe_dump(tree), encoding="utf-8")
    command = [sys.executable, str(TRAIN), "-c", str(config), "-o", f"output_dir={folder}"]
    with folder.with_name(f"{folder.name}.stderr").open("ab") as stream:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stream)


def finish(tree: Tree, folder: Path) -> int:
    status = start(tree, folder).wait(timeout=600)
    print(folder.with_name(f"{folder.name}.stderr").read_text(encoding="utf-8"))
    return status


def kill_at(moment: str, times: int, delay: float, tree: Tree, folder: Path) -> None:
    """Start the tool, wait for some changes in its folder, kill it; it may have ended before."""
    before = seen(moment, folder)
    process = start(tree, folder)
    try:
        while process.poll() is None and times:
            time.sleep(0.0005)
            if (now := seen(moment, folder)) != before:
                before, times = now, times - 1
        if moment != "write":  # a write lasts a few milliseconds only
            time.sleep(delay)
    finally:
        process.kill()
        status = process.wait()
    print(f"{moment}, {times} more, {delay:.3f} s: {'killed' if status == -signal.SIGKILL else f'ended with {status}'}")
    assert status in (0, -signal.SIGKILL)


def seen(moment: str, folder: Path) -> Any:
    """What changes at the moment: temporary files of checkpoints, the log, or a file that is written then."""
    try:
        if moment == "write":
            return sorted(path.name for path in (folder / "checkpoints").glob(".*.tmp"))
        name = {
            "row": "metrics.jsonl",
            "epoch": "checkpoints/last.safetensors",
            "stage": "checkpoints/1_cross_entropy.safetensors",
            "result": "result.json",
        }[moment]
        found = (folder / name).stat()
        return found.st_mtime_ns, found.st_size
    except OSError:
        return None if moment != "write" else []
