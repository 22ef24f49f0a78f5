"""Run `tools/train.py -c configs/flowers102/article.yaml` as a user does; prints its seconds and accuracies."""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.programs.common import report

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIG = ROOT / "configs" / "flowers102" / "article.yaml"


def main() -> None:
    """The run's folder is new each time, and its cache too unless another way is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument(
        "cache",
        choices=["new", "decoded", "kept"],
        help="decoded: the photographs are decoded, nothing else is cached; kept: all that an earlier run cached",
    )
    parser.add_argument("--episodes", type=int, required=True, help="the first ones, whose accuracy is given")
    parser.add_argument("--option", action="append", default=[])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        cache = Path(folder) / "cache"
        if arguments.cache != "new":
            kept = arguments.work / "article-cache"
            if not kept.exists():  # links to the tables that flowers_prepare has made
                shutil.copytree(arguments.work / "cache", kept, copy_function=os.link)
            cache = kept if arguments.cache == "kept" else cache
            if arguments.cache == "decoded":
                shutil.copytree(arguments.work / "cache", cache, copy_function=os.link)
        output = Path(folder) / "run"
        options = [f"data.root={arguments.data}", f"data.cache_dir={cache}", f"output_dir={output}"]
        command = [sys.executable, str(ROOT / "tools" / "train.py"), "-c", str(CONFIG)]
        for option in [*options, *arguments.option]:
            command += ["-o", option]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        result = json.loads((output / "result.json").read_text(encoding="utf-8"))
    found = {row["support_set"]: row for row in result["evaluations"] if row["adaptation"] == "finetune"}
    episodes, one = found[False], found[True]
    asked = episodes["way"] * episodes["query"]
    first = episodes["episode_correct"][: arguments.episodes]
    right = sum(one["episode_correct"])
    report(
        seconds=seconds,
        peak_gb=resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9,
        timed="all of it, 600 episodes of two methods and the report included",
        accuracy=sum(first) / (len(first) * asked),
        support_set=f"{right} of {one['way'] * one['query']}",
    )


if __name__ == "__main__":
    main()
