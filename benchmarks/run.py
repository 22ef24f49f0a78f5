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


def measured(python: str, network: str, way: str) -> float:
    """Images per second of one process."""
    module = "benchmarks.step_torch" if way == "torch" else "benchmarks.step_paddle"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [python, "-m", module, network, way], capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )
    if done.returncode:
        raise SystemExit(f"{module} {network} {way} failed:\n{done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["images_per_second"])


def compared(network: str, rounds: int, peers: str | None) -> dict[str, float]:
    """The best images per second of every way, the ways taking turns."""
    ways = [way for way in WAYS if way != "torch" or peers]
    best = dict.fromkeys(ways, 0.0)
    for _ in range(rounds):
        for way in ways:
            python = peers if way == "torch" and peers else sys.executable
            best[way] = max(best[way], measured(python, network, way))
    return best


def main() -> None:
    """Print a Markdown table of images per second and ratios to Paddle eager; write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="the Python that has PyTorch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results.json")
    arguments = parser.parse_args()
    found = {network: compared(network, arguments.rounds, arguments.peers) for network in arguments.networks}
    ways = [way for way in WAYS if way in next(iter(found.values()))]
    print("| network, pixels, batch | " + " | ".join(WAYS[way] for way in ways) + " |")
    print("|---" * (len(ways) + 1) + "|")
    for network, best in found.items():
        setting = NETWORKS[network]
        cells = (f"{best[way]:.0f} ({best[way] / best['plain']:.2f})" for way in ways)
        print(f"| {setting.backbone}, {setting.pixels}, {setting.batch} | " + " | ".join(cells) + " |")
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    arguments.output.write_text(json.dumps({"machine": machine, "images_per_second": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
