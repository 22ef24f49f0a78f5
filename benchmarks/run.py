"""Run the benchmarks: each variant in processes of its own, in turn, several times; the fastest of each counts.

    python -m benchmarks.run
    python -m benchmarks.run --peers ~/venvs/torch/bin/python --rounds 5 --output benchmarks/results.json

One thread each. Without --peers (the Python of a virtual environment made from benchmarks/requirements.txt) Paddle is
compared with itself alone.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from benchmarks.settings import NETWORKS

ROOT = Path(__file__).resolve().parent.parent
WAYS = {
    "plain": "Paddle eager",
    "kept": "with freed memory kept",
    "onednn": "with oneDNN as well",
    "torch": "PyTorch eager",
}


TASK_VARIANTS = {
    "order 1, Paddle's operators": ("benchmarks.task_paddle", "1", "--plain"),
    "order 1": ("benchmarks.task_paddle", "1"),
    "order 2": ("benchmarks.task_paddle", "2"),
    "PyTorch, order 1": ("benchmarks.task_torch", "1"),
    "PyTorch, order 2": ("benchmarks.task_torch", "2"),
}
INNER_STEPS = (1, 3)


def measured(python: str, module: str, *arguments: str) -> dict[str, float]:
    """What one process prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [python, "-m", module, *arguments], capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )
    if done.returncode:
        raise SystemExit(f"{module} {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compared(network: str, rounds: int, peers: str | None) -> dict[str, float]:
    """The best images per second of every way, the ways taking turns."""
    ways = [way for way in WAYS if way != "torch" or peers]
    best = dict.fromkeys(ways, 0.0)
    for _ in range(rounds):
        for way in ways:
            python = peers if way == "torch" and peers else sys.executable
            module = "benchmarks.step_torch" if way == "torch" else "benchmarks.step_paddle"
            best[way] = max(best[way], measured(python, module, network, way)["images_per_second"])
    return best


def compared_tasks(steps: int, rounds: int, peers: str | None) -> dict[str, dict[str, float]]:
    """The fewest seconds a task, and the peak memory, of every variant, the variants taking turns."""
    variants = {name: what for name, what in TASK_VARIANTS.items() if peers or "PyTorch" not in name}
    best: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for name, (module, order, *options) in variants.items():
            python = peers if "PyTorch" in name and peers else sys.executable
            found = measured(python, module, order, str(steps), *options)
            best[name] = min(best.get(name, found), found, key=lambda one: one["seconds"])
    return best


def print_networks(found: dict[str, dict[str, float]]) -> None:
    """A Markdown table: images per second, and the ratio to Paddle eager."""
    ways = [way for way in WAYS if way in next(iter(found.values()))]
    print("| network, pixels, batch | " + " | ".join(WAYS[way] for way in ways) + " |")
    print("|---" * (len(ways) + 1) + "|")
    for network, best in found.items():
        setting = NETWORKS[network]
        cells = (f"{best[way]:.0f} ({best[way] / best['plain']:.2f})" for way in ways)
        print(f"| {setting.backbone}, {setting.pixels}, {setting.batch} | " + " | ".join(cells) + " |")


def print_tasks(found: dict[int, dict[str, dict[str, float]]]) -> None:
    """A Markdown table: milliseconds a MAML task, the ratio to order 1, and the peak memory of the process."""
    print("\n| inner steps | variant | milliseconds a task | against order 1 | peak memory, GB |")
    print("|---|---|---|---|---|")
    for steps, best in found.items():
        for name, one in best.items():
            ratio = one["seconds"] / best["order 1"]["seconds"]
            print(f"| {steps} | {name} | {1000 * one['seconds']:.1f} | {ratio:.2f} | {one['peak_gb']:.2f} |")


def main() -> None:
    """Print a Markdown table of images per second and ratios to Paddle eager; write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="the Python that has PyTorch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results.json")
    arguments = parser.parse_args()
    found = {network: compared(network, arguments.rounds, arguments.peers) for network in arguments.networks}
    print_networks(found)
    tasks = {steps: compared_tasks(steps, arguments.rounds, arguments.peers) for steps in INNER_STEPS}
    print_tasks(tasks)
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    arguments.output.write_text(
        json.dumps({"machine": machine, "images_per_second": found, "maml_task": tasks}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
