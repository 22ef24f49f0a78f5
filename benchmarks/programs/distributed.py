"""Run `tools/train.py` in one process or in several, and read from its files how long the work took."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.programs.common import report
from benchmarks.settings import NETWORKS, PRETRAINED

ROOT = Path(__file__).resolve().parent.parent.parent
EPOCHS, EPISODES = 2, 600


def configuration(work: str, quick: bool) -> dict[str, Any]:
    """A run on drawn blossoms: some epochs of pretraining, or many episodes of fine-tuned heads."""
    setting = NETWORKS[PRETRAINED]
    trains = work == "pretraining"
    small = quick or not trains
    config: dict[str, Any] = {
        "data": {
            "name": "synthetic",
            "image_size": 32 if small else setting.pixels,
            "synthetic": {"classes": 25, "images_per_class": 16 if quick else 27},
        },
        "backbone": {"name": "conv4" if small else setting.backbone},
        "validation": {"way": 2, "episodes": 10, "query": 5},
        "evaluation": {"way": 4, "shot": 5, "query": 10, "episodes": 10},
        "adaptations": [{"name": "class_mean"}],
    }
    if trains:
        objective = {"name": "cross_entropy", "batch_size": 16 if quick else setting.batch}
        config["pretrain"] = [{"objective": objective, "epochs": EPOCHS}]
    else:
        config["adaptations"] = [{"name": "finetune", "steps": 2 if quick else 100}]
        config["evaluation"]["episodes"] = 20 if quick else EPISODES
    return config


def run(config: dict[str, Any], folder: Path, cache: Path, nproc: int) -> float:
    """Seconds of the whole command; it writes to the folder's `run`."""
    path = folder / "config.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    tool = [str(ROOT / "tools" / "train.py"), "-c", str(path)]
    tool += ["-o", f"output_dir={folder / 'run'}", "-o", f"data.cache_dir={cache}", "-o", "device=cpu"]
    launch = ["-m", "paddle.distributed.launch", "--nproc_per_node", str(nproc), "--backend", "gloo"]
    launch += ["--log_dir", str(folder / "log")]
    command = [sys.executable, *(launch if nproc > 1 else []), *tool]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    seconds = time.perf_counter() - start
    if done.returncode:
        logs = [
            path.read_text(encoding="utf-8", errors="replace") for path in sorted((folder / "log").glob("workerlog*"))
        ]
        raise SystemExit("\n".join([done.stderr[-2000:], *(log[-1500:] for log in logs)]))
    return seconds


def images_per_second(lines: Iterable[str]) -> float:
    """Of the last epoch, from the lines of metrics.jsonl."""
    rows = [json.loads(line) for line in lines]
    return [float(row["value"]) for row in rows if row["name"].endswith("/images_per_second")][-1]


def main() -> None:
    """Print seconds of a thousand images, or of a thousand episodes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=["pretraining", "evaluation"])
    parser.add_argument("nproc", type=int)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = run(configuration(arguments.work, arguments.quick), folder, arguments.cache, arguments.nproc)
        metrics = (folder / "run" / "metrics.jsonl") if arguments.work == "pretraining" else None
        rate = None if metrics is None else images_per_second(metrics.read_text(encoding="utf-8").splitlines())
        evaluation = json.loads((folder / "run" / "result.json").read_text(encoding="utf-8"))["evaluations"][0]
    correct = evaluation["episode_correct"]
    report(
        seconds=1000 * evaluation["seconds"] / len(correct) if rate is None else 1000 / rate,
        whole_command=whole,
        peak_gb=None,
        outputs=correct if rate is None else None,
    )


if __name__ == "__main__":
    main()
