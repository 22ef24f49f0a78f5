"""What tests/test_distributed.py has two processes do; what each of them finds goes to files of its own.

    python -m paddle.distributed.launch --nproc_per_node 2 tests/distributed_worker.py FOLDER
    python -m paddle.distributed.launch --nproc_per_node 2 tests/distributed_worker.py END CONFIGURATION

FOLDER holds tree.json, a configuration. END says how a run ends before its time. The functions serve the test's own
process, too.
"""

import copy
import hashlib
import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ppfsl.runtime import prepare

prepare(threads=1)

import numpy as np  # noqa: E402
import paddle  # noqa: E402

from ppfsl import cli, pipeline, results  # noqa: E402
from ppfsl.backbones.embedder import build_embedder  # noqa: E402
from ppfsl.config_file import load_config, parse_config  # noqa: E402
from ppfsl.data.class_split import part_images  # noqa: E402
from ppfsl.distributed import ALONE, World, launched, together  # noqa: E402
from ppfsl.errors import UserError  # noqa: E402
from ppfsl.onednn import convolution  # noqa: E402
from ppfsl.training.stage import Stage  # noqa: E402

Tree = dict[str, Any]
EPISODES: Tree = {"way": 3, "shot": 1, "query": 3}


def stages(processes: int) -> dict[str, Tree]:
    """Stages in which as many processes see in a step what one process sees alone."""
    share = 2 // processes
    sgd = {"optimizer": {"name": "sgd", "lr": 0.1}, "epochs": 2}
    return {
        "projection": {
            "objective": {"name": "cross_entropy", "batch_size": 12 * share},
            "trainable": "projection",
            **sgd,
        },
        "maml": {"objective": {"name": "maml", "episodes_per_batch": share, **EPISODES}, "steps_per_epoch": 2, **sgd},
        "reptile": {
            "objective": {"name": "reptile", "episodes_per_batch": share, **EPISODES},
            "steps_per_epoch": 2,
            "clip_norm": 0.5,
            **sgd,
        },
        "relation": {
            "objective": {"name": "relation", "episodes_per_batch": share, **EPISODES},
            "steps_per_epoch": 2,
            "epochs": 2,
        },
        "network": {
            "objective": {"name": "cross_entropy", "batch_size": 9 * share},
            "augmentation": {"crop": "random", "jitter": 0.2},
            "epochs": 2,
        },
    }


def train_stage(tree: Tree, stage: Tree, world: World = ALONE) -> Tree:
    """Train a stage: the places of its batches, digests and losses of every step, digests and weights of the end."""
    config = parse_config({**tree, "pretrain": [stage]}, "a test")
    data = pipeline.open_data(config)
    rows = part_images(data.table, data.split, "base")
    embedder = build_embedder(pipeline.architecture_of(config), 0)
    trained = Stage(config.pretrain[0], embedder, data.table, rows, 5, world)
    layers = [embedder, trained.objective.head]
    places: list[list[int]] = []
    really = trained._batches

    def noting(epoch: int) -> Any:
        for batch in really(epoch):
            places.append(batch.places.tolist())
            yield batch

    trained._batches = noting  # type: ignore[method-assign]
    found: Tree = {"places": places, "steps": [], "losses": [], "ends": [], "images": []}
    for epoch in range(config.pretrain[0].epochs):
        for step in trained.run_epoch(epoch):
            found["steps"].append(digest(layers, statistics=False))
            found["losses"].append(step.terms["loss"])
            found["images"].append(step.images)
        found["ends"].append(digest(layers))
    found["weights"] = {
        f"{number}.{name}": tensor.numpy().tolist()
        for number, layer in enumerate(layers)
        for name, tensor in layer.state_dict().items()
    }
    return found


def digest(layers: list[Any], statistics: bool = True) -> str:
    sha = hashlib.sha256()
    for layer in layers:
        for name, tensor in layer.state_dict().items():
            if statistics or not name.endswith(("._mean", "._variance")):
                sha.update(tensor.numpy().tobytes())
    return sha.hexdigest()


def averages(world: World) -> Tree:
    """Gradients of which some processes have none, and weights."""
    rank = world.rank
    parameters = [paddle.create_parameter([size], "float32") for size in (3, 2, 2, 1)]
    for number, parameter in enumerate(parameters):
        if number == 0 or (number == 1 and rank == 1) or (number == 2 and rank == 0):
            (parameter * (rank + 1.0) * (number + 1)).sum().backward()
    numbers = world.average_gradients(parameters, {"loss": 1.0 + rank, "accuracy": float(rank)})
    gradients = [None if p.grad is None else p.grad.numpy().tolist() for p in parameters]
    layer = paddle.nn.BatchNorm1D(3)
    same = np.asarray([0.1, 1e-30, 3e30], dtype=np.float32)
    layer.weight.set_value(same)
    layer._mean.set_value(np.asarray([1, 2, 3], dtype=np.float32) + rank)
    world.average_weights([layer])
    return {
        "numbers": numbers,
        "gradients": gradients,
        "kept": layer.weight.numpy().tobytes() == same.tobytes(),
        "mean": layer._mean.numpy().tolist(),
    }


def turns(world: World, folder: Path) -> list[str]:
    """What was there when this process had its turn."""

    def act() -> list[str]:
        time.sleep(0.2 * (world.size - world.rank))  # whoever does not wait is seen
        seen = sorted(path.name for path in folder.glob("turn*"))
        (folder / f"turn{world.rank}").touch()
        return seen

    return world.in_turns(act)


def mistakes(tree: Tree) -> Tree:
    """What the processes hear of mistakes: one of process 1, one of process 0, differing facts, a loss of one."""
    heard = {}
    for culprit in (1, 0):
        try:
            with together() as world:
                if world.rank == culprit:
                    raise UserError("mend this")
                world.exchange(None)
        except UserError as error:
            heard[f"process {culprit}"] = [type(error).__name__, str(error)]
    try:
        with together() as world:
            world.check_same({"seed": 1, "host": world.rank})
    except UserError as error:
        heard["differ"] = [type(error).__name__, str(error)]
    really = Stage._accumulate
    if launched().rank == 1:
        Stage._accumulate = lambda *_: (float("nan"), {"accuracy": 0.0})  # type: ignore[method-assign]
    try:
        run_in(tree, "not finite")
    except UserError as error:
        heard["loss"] = [type(error).__name__, str(error)]
    Stage._accumulate = really  # type: ignore[method-assign]
    return heard


def run_in(tree: Tree, name: str) -> None:
    """A run whose processes would write to folders of their own."""
    folder = Path(tree["output_dir"]) / f"{name} {launched().rank}"
    pipeline.run(parse_config({**tree, "output_dir": str(folder)}, "a test"), "tiny")


def main(folder: Path) -> None:
    tree = json.loads((folder / "tree.json").read_text(encoding="utf-8"))
    found: Tree = {}
    with together() as world:
        found["world"] = [world.rank, world.size, world.local, world.main]
        found["exchanged"] = world.exchange({"rank": world.rank})
        found["main"] = world.on_main(lambda: [world.rank, os.getpid()])
        found["turns"] = turns(world, folder)
        found["averages"] = averages(world)
        found["stages"] = {name: train_stage(tree, stage, world) for name, stage in stages(2).items()}
    run_in(copy.deepcopy(tree), "whole")
    really = results._evaluated_on
    if launched().rank == 1:  # as if its processor gave other last bits, it repeats the finished run
        results._evaluated_on = lambda *_: "others"
    run_in(copy.deepcopy(tree), "whole")
    results._evaluated_on = really
    found["mistakes"] = mistakes(tree)
    (folder / f"found{launched().rank}.json").write_text(json.dumps(found), encoding="utf-8")


def end_early(end: str, configuration: Path) -> None:
    """Train in the way of tools/train.py, until something happens in the middle of the fourth epoch's second step.

    Args:
        end: "killed": process 1 kills itself, for which process 0 waits; "busy": the same, while process 0 is at work
            on something long; "backward": that is a backward pass, of which Paddle's C++ side would tell at length;
            "interrupted": both are at work when the launcher gets Ctrl-C.
        configuration: with two steps an epoch.
    """
    met, really, rank = itertools.count(), World._means, launched().rank
    gradient, second = convolution._gradient_of_weight, False

    def slow(geometry: Any) -> Any:
        if second and end == "backward":
            if rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(3600)
        return gradient(geometry)

    def means(*arguments: Any) -> Any:
        nonlocal second
        time_has_come, second = second, next(met) == 3 * 3  # two steps and an end of every epoch
        if time_has_come:
            if rank == 1 and end in ("killed", "busy"):
                os.kill(os.getpid(), signal.SIGKILL)
            if rank == 0 and end == "interrupted":
                os.kill(os.getppid(), signal.SIGINT)
            if end in ("busy", "interrupted"):
                time.sleep(3600)
        return really(*arguments)

    World._means = means  # type: ignore[method-assign]
    convolution._gradient_of_weight = slow
    cli.run(lambda: (None, pipeline.run(load_config(configuration, []), "tiny"))[0], several=True, resumes=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        end_early(sys.argv[1], Path(sys.argv[2]))
    else:
        main(Path(sys.argv[1]))
