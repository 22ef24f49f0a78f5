"""Two gloo processes on a CPU, started by Paddle's launcher, against one process."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ppfsl import pipeline
from ppfsl.config_file import parse_config
from ppfsl.training.checkpoint import load_checkpoint
from tests.distributed_worker import digest, stages, train_stage

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Paddle's gloo is for Linux alone")

Tree = dict[str, Any]
WORKER = Path(__file__).with_name("distributed_worker.py")
TRAIN = Path(__file__).parents[1] / "tools" / "train.py"
EPOCHS = 8


@pytest.fixture(scope="module")
def tree(tiny_tree: Callable[[], Tree], tmp_path_factory: pytest.TempPathFactory) -> Tree:
    tree = tiny_tree()
    tree["output_dir"] = str(tmp_path_factory.mktemp("runs"))
    tree["pretrain"][0] |= {"epochs": EPOCHS, "augmentation": {"crop": "random", "flip": True}}
    tree["evaluation"]["episodes"] = 450  # three batches
    tree["adaptations"] = [{"name": "class_mean"}, {"name": "finetune", "steps": 5}]
    return {**tree, "verification": {"pairs": 60}}


def launch(logs: Path, *command: str | Path, old_launcher: bool = False) -> int:
    """Two processes' exit status; the launcher that `--backend` selects is Paddle's old one."""
    launcher = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", str(logs)]
    launcher += ["--backend", "gloo"] if old_launcher else []
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PADDLE_")}
    mark = f"PPFSL_TEST={uuid.uuid4()}"
    environment |= {"OMP_NUM_THREADS": "1", **dict([mark.split("=")])}
    try:
        done = subprocess.run(
            [*launcher, *map(str, command)], env=environment, capture_output=True, text=True, timeout=1200
        )
    finally:
        kill_all(mark)
    print(done.stdout, done.stderr, *(log(logs, rank) for rank in (0, 1)), sep="\n---\n")
    return done.returncode


def kill_all(mark: str) -> None:
    """Kill what carries a mark in its environment: the launcher puts its processes into sessions of their own."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)


def log(logs: Path, rank: int) -> str:
    return (logs / f"workerlog.{rank}").read_text(encoding="utf-8")


def configuration(tree: Tree, folder: Path, place: Path) -> Path:
    """A file that has a run write to a folder."""
    file = place / "tiny.yaml"  # which names the run
    file.write_text(yaml.safe_dump({**tree, "output_dir": str(folder)}), encoding="utf-8")
    return file


def train(tree: Tree, folder: Path, logs: Path, **keywords: bool) -> int:
    return launch(logs, TRAIN, "-c", configuration(tree, folder, logs.parent), **keywords)


@pytest.fixture(scope="module")
def found(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> list[Tree]:
    """What the two processes found; the whole run that they made is in `output_dir`/whole 0."""
    folder = tmp_path_factory.mktemp("worker")
    (folder / "tree.json").write_text(json.dumps(tree), encoding="utf-8")
    assert launch(folder / "log", WORKER, folder) == 0
    return [json.loads((folder / f"found{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]


@pytest.fixture(scope="module")
def whole(tree: Tree, found: list[Tree]) -> Path:
    return Path(tree["output_dir"]) / "whole 0"


def test_each_process_knows_its_place_and_hears_the_others(found: list[Tree]) -> None:
    assert [one["world"] for one in found] == [[0, 2, 0, True], [1, 2, 1, False]]
    assert all(one["exchanged"] == [{"rank": 0}, {"rank": 1}] for one in found)
    assert found[0]["main"] == found[1]["main"]
    assert found[0]["main"][0] == 0


def test_process_0_has_the_first_turn(found: list[Tree]) -> None:
    assert [one["turns"] for one in found] == [[], ["turn0"]]


def test_gradients_and_weights_are_averaged(found: list[Tree]) -> None:
    for one in found:
        assert one["averages"] == {
            "numbers": {"loss": 1.5, "accuracy": 0.5},
            "gradients": [[1.5] * 3, [2.0] * 2, [1.5] * 2, None],
            "kept": True,
            "mean": [1.5, 2.5, 3.5],
        }


@pytest.mark.parametrize(("name", "steps"), [("projection", 6), ("maml", 4), ("reptile", 4)])
def test_two_processes_train_like_one_with_twice_the_batch(
    tree: Tree, found: list[Tree], name: str, steps: int
) -> None:
    """Nothing in these stages depends on how a step's images are divided among batches."""
    alone = train_stage(tree, stages(1)[name])
    two = [one["stages"][name] for one in found]
    assert [first + second for first, second in zip(two[0]["places"], two[1]["places"], strict=True)] == alone["places"]
    assert two[0]["images"] == alone["images"]
    for one in two:
        np.testing.assert_allclose(one["losses"], alone["losses"], rtol=1e-5)
        for key, value in alone["weights"].items():
            if not key.endswith(("._mean", "._variance")):
                np.testing.assert_allclose(one["weights"][key], value, rtol=1e-4, atol=1e-6, err_msg=key)
    assert len(set(alone["steps"])) == len(alone["steps"]) == steps


def test_weights_are_the_same_after_every_step_and_statistics_after_every_epoch(found: list[Tree]) -> None:
    for name in stages(2):
        one, two = (process["stages"][name] for process in found)
        assert one["steps"] == two["steps"]
        assert one["ends"] == two["ends"]
        assert one["losses"] == two["losses"]
        assert len(set(one["steps"])) == len(one["steps"])


def test_batches_do_not_overlap_and_an_epoch_shows_every_image_once(found: list[Tree]) -> None:
    one, two = (np.asarray(process["stages"]["network"]["places"]) for process in found)
    assert one.shape == two.shape == (8, 9)  # two epochs of 72 images, 18 a step
    for epoch in (slice(0, 4), slice(4, 8)):
        assert sorted([*one[epoch].ravel(), *two[epoch].ravel()]) == list(range(72))


def test_evaluation_is_that_of_one_process(tree: Tree, whole: Path, tmp_path: Path) -> None:
    config = parse_config({**tree, "output_dir": str(tmp_path / "alone")}, "a test")
    pipeline.run(config, "tiny", whole / "checkpoints" / "best.safetensors")
    alone, two = (result(folder) for folder in (tmp_path / "alone", whole))
    assert alone.pop("checkpoint")["file"] == f"{whole.name}/checkpoints/best.safetensors"
    assert alone.pop("processes") == {"training": [2], "evaluation": 1}
    assert two.pop("processes") == {"training": [2], "evaluation": 2}
    assert alone == two
    assert len(two["evaluations"]) == 6
    assert two["verification"]["pairs"] == 60


def result(folder: Path) -> Tree:
    """Of a run, without seconds and the state of the checkout, which others may be changing."""
    found = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return {**found, "git": "", "evaluations": [{**entry, "seconds": 0} for entry in found["evaluations"]]}


def test_process_0_alone_writes(tree: Tree, whole: Path, departures: Callable[[Path], list[str]]) -> None:
    assert departures(whole) == []
    assert not whole.with_name("whole 1").exists()
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [row for row in rows if row["name"] == "1_cross_entropy/loss"]
    assert [row["step"] for row in losses] == [2 * epoch for epoch in range(1, EPOCHS + 1)]  # 72 images, 32 a step


def test_mistakes_of_one_process_end_all_with_one_sentence(found: list[Tree]) -> None:
    first, second = (process["mistakes"] for process in found)
    assert first["process 1"] == ["ReasonError", "process 1: mend this"]
    assert second["process 1"] == ["ToldError", "mend this"]
    assert first["process 0"] == ["UserError", "mend this"]
    assert second["process 0"] == ["ToldError", "mend this"]
    assert first["differ"][0] == "UserError"
    assert "process 1 has host = 1, process 0 has 0; give every host the same" in first["differ"][1]
    assert second["differ"] == ["ToldError", first["differ"][1]]
    assert first["loss"][0] == "UserError"
    assert "the loss is not finite at step 1 of epoch 1" in first["loss"][1]
    assert second["loss"][0] == "ToldError"


@pytest.fixture(scope="module")
def killed(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with a run whose process 1 was killed in its fourth epoch, and its logs."""
    place = tmp_path_factory.mktemp("killed")
    assert launch(place / "log", WORKER, "killed", configuration(tree, place / "run", place)) != 0
    assert progress(place / "run")["epochs"] == 3
    return place


LOST = "error: process 1 of this run has ended or cannot be reached"


def said(logs: Path, rank: int) -> list[str]:
    """What a process said at last, without its epochs and the state of Paddle's C++ side."""
    return [line for line in log(logs, rank).splitlines() if not line.startswith("1_cross_entropy ")]


@pytest.mark.slow
def test_a_killed_process_ends_the_run_with_one_sentence(killed: Path) -> None:
    (sentence,) = said(killed / "log", 0)
    assert sentence.startswith(LOST)
    assert sentence.endswith("the same command goes on from here")
    assert said(killed / "log", 1) == []


@pytest.mark.slow
def test_it_resumes_to_the_same_bits(tree: Tree, whole: Path, killed: Path, tmp_path: Path) -> None:
    folder, logs = tmp_path / "run", tmp_path / "log"
    shutil.copytree(killed / "run", folder)
    assert train(tree, folder, logs, old_launcher=True) == 0
    assert "resuming 1_cross_entropy after 3 epochs" in log(logs, 0)
    assert log(logs, 1) == ""
    assert result(folder) == result(whole)
    for path in (whole / "checkpoints").iterdir():
        one, two = load_checkpoint(path), load_checkpoint(folder / "checkpoints" / path.name)
        for kind in ("weights", "training"):
            arrays, others = getattr(one, kind), getattr(two, kind)
            assert arrays.keys() == others.keys()
            assert all(arrays[name].tobytes() == others[name].tobytes() for name in arrays), path.name


@pytest.mark.slow
def test_another_number_of_processes_may_go_on(tree: Tree, killed: Path, tmp_path: Path) -> None:
    shutil.copytree(killed / "run", tmp_path / "run")
    pipeline.run(parse_config({**tree, "output_dir": str(tmp_path / "run")}, "a test"), "tiny")
    assert result(tmp_path / "run")["processes"] == {"training": [2, 1], "evaluation": 1}
    assert progress(tmp_path / "run")["epochs"] == EPOCHS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "sentence"),
    [
        ("busy", LOST),
        ("backward", LOST),
        ("interrupted", r"(error: process 1 of this run was )?interrupted; the same command goes on from here"),
    ],
    ids=["a killed one", "a killed one in a backward pass", "Ctrl-C"],
)
def test_processes_at_work_end_with_one_sentence_too(tree: Tree, tmp_path: Path, end: str, sentence: str) -> None:
    """The launcher ends them, of which Paddle alone would say that a signal has been detected."""
    assert launch(tmp_path / "log", WORKER, end, configuration(tree, tmp_path / "run", tmp_path)) != 0
    (line,) = said(tmp_path / "log", 0)
    assert re.match(sentence, line)
    assert said(tmp_path / "log", 1) == []
    assert progress(tmp_path / "run")["epochs"] == 3


def progress(folder: Path) -> Tree:
    return dict(load_checkpoint(folder / "checkpoints" / "last.safetensors").facts["progress"])


def test_a_refused_run_says_why_once_and_exits_with_2(tree: Tree, whole: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    logs = tmp_path / "log"
    assert train({**tree, "seed": 1}, whole, logs) == 2
    assert [log(logs, rank).count("error: ") for rank in (0, 1)] == [1, 0]
    assert f"error: {whole} holds a run with seed = 0, this one has 1" in log(logs, 0)
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_a_refused_configuration_too(tree: Tree, tmp_path: Path) -> None:
    logs = tmp_path / "log"
    assert train({**tree, "sede": 1}, tmp_path / "run", logs) == 2
    assert [log(logs, rank).count("error: ") for rank in (0, 1)] == [1, 0]
    assert "sede" in log(logs, 0)


def test_digests_tell_weights_apart() -> None:
    """Else the tests above could not fail."""
    import paddle

    one, two = paddle.nn.Linear(2, 2), paddle.nn.Linear(2, 2)
    assert digest([one]) != digest([two])
