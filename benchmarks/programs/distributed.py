"""Time work of `tools/train.py` in one process or several: two runs that differ in its amount alone, and subtract."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.programs.common import report

ROOT = Path(__file__).resolve().parent.parent.parent


def configuration(work: str, amount: int, quick: bool) -> dict[str, Any]:
    """A run on drawn blossoms: `amount` epochs of pretraining, or so many episodes of fine-tuned heads."""
    side, classes, images = (16, 12, 20) if quick else (32, 60, 40)
    config: dict[str, Any] = {
        "data": {
            "name": "synthetic",
            "image_size": side,
            "synthetic": {"classes": classes, "images_per_class": images},
        },
        "backbone": {"name": "conv4" if quick else "resnet18"},
        "validation": {"episodes": 10, "query": 5},
        "evaluation": {"way": 2 if quick else 5, "shot": 5, "query": 10, "episodes": 10},
        "adaptations": [{"name": "class_mean"}],
    }
    if work == "pretraining":
        objective = {"name": "cross_entropy", "batch_size": 16 if quick else 64}
        config["pretrain"] = [{"objective": objective, "epochs": amount}]
    else:
        config["adaptations"] = [{"name": "finetune", "steps": 2 if quick else 100}]
        config["evaluation"]["episodes"] = amount
    return config


def run(config: dict[str, Any], folder: Path, cache: Path, nproc: int) -> tuple[float, dict[str, Any]]:
    """Seconds of the whole command, and its result.json."""
    folder.mkdir()
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
    return seconds, json.loads((folder / "run" / "result.json").read_text(encoding="utf-8"))


def main() -> None:
    """Print seconds an epoch, or a thousand episodes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=["pretraining", "evaluation"])
    parser.add_argument("nproc", type=int)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    small, large = {"pretraining": (1, 4), "evaluation": (10, 8010)}[arguments.work]
    if arguments.quick:
        large = small + 1
    seconds, results = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, amount in (("first", small), ("small", small), ("large", large)):  # the first draws the blossoms
            config = configuration(arguments.work, amount, arguments.quick)
            took, result = run(config, Path(folder) / name, arguments.cache, arguments.nproc)
            seconds.append(took)
            results.append(result)
    more = (large - small) / (1000 if arguments.work == "evaluation" and not arguments.quick else 1)
    correct = results[-1]["evaluations"][0]["episode_correct"]
    report(
        seconds=max((seconds[2] - seconds[1]) / more, 1e-9),
        whole_command=seconds[2],
        accuracy=results[-1]["evaluations"][0]["accuracy"],
        peak_gb=None,
        outputs=correct if arguments.work == "evaluation" else None,
    )


if __name__ == "__main__":
    main()
