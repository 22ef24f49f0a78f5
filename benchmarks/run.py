"""Run benchmarks: each variant in processes of its own, in turn, several rounds; medians, spreads and ratios by round.

    python -m benchmarks.run --peers PYTHON
    python -m benchmarks.run embedding episodes --rounds 5
    python -m benchmarks.run --quick

PYTHON is that of a virtual environment made from benchmarks/requirements.txt; without it PyTorch and easyfsl are left
out. PPFSL_DATA names the folder of the official data sets; without it photographs are left out. Every process has one
thread unless its row says otherwise. Tables go to benchmarks/results.md, figures to results.json beside it, where
benchmarks that are not run again keep theirs.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.compare import ROOT, DisagreementError, Options, ProgramError, compare, table
from benchmarks.machine import in_words, machine
from benchmarks.plans import BENCHMARKS


def main() -> None:
    """Run, print and write."""
    arguments = _arguments()
    chosen = list(dict.fromkeys(arguments.benchmarks)) or list(BENCHMARKS)
    with tempfile.TemporaryDirectory(prefix="ppfsl-benchmarks-") as temporary:
        options = _options(arguments, Path(temporary))
        options.output.mkdir(parents=True, exist_ok=True)
        options.work.mkdir(parents=True, exist_ok=True)
        rounds = 1 if arguments.quick else arguments.rounds
        print(estimate(chosen, rounds, options.quick), file=sys.stderr, flush=True)
        for name in chosen:
            try:
                section = _section(name, options, rounds)
            except (DisagreementError, ProgramError) as error:
                raise SystemExit(f"{name}: {error}") from None
            print(section["markdown"], flush=True)
            write(options.output, name, section)
    print(f"written: {options.output / 'results.md'}, {options.output / 'results.json'}", file=sys.stderr)


def estimate(chosen: list[str], rounds: int, quick: bool) -> str:
    """How long the chosen benchmarks take, in words."""
    if quick:
        return "a quick run: a minute or two for each benchmark"
    minutes = {name: BENCHMARKS[name].minutes * rounds / 5 for name in chosen}
    parts = ", ".join(f"{name} {one:.1f}" for name, one in minutes.items())
    return f"minutes on two quiet cores: {parts}; together {sum(minutes.values()):.0f}"


def _section(name: str, options: Options, rounds: int) -> dict[str, Any]:
    """A benchmark's figures and its part of the page."""
    benchmark = BENCHMARKS[name]
    on = machine(options.peers)
    began = time.time()
    found = compare(benchmark, options, rounds, lambda line: print(f"{name}: {line}", file=sys.stderr, flush=True))
    date = time.strftime("%Y-%m-%d", time.gmtime(began))
    minutes = (time.time() - began) / 60
    foot = f"{in_words(on)}; {rounds} round{'s' * (rounds > 1)}, {minutes:.1f} minutes, {date}."
    if options.quick:
        foot = f"A quick run with tiny counts: these figures mean nothing. {foot}"
    parts = [f"## {benchmark.title} (`{name}`)\n", f"{benchmark.remark}\n"]
    if found.runs:
        parts.append(table(benchmark, found))
    parts += [f"{sentence}\n" for sentence in [*found.left_out, *found.notes]]
    parts.append(f"{foot}\n")
    figures = {"machine": on, "date": date, "rounds": rounds, "quick": options.quick, "unit": benchmark.unit}
    return {
        **figures,
        "key": benchmark.key,
        "left_out": found.left_out,
        "runs": found.runs,
        "markdown": "\n".join(parts),
    }


def write(folder: Path, name: str, section: dict[str, Any]) -> None:
    """Put a benchmark's section into results.json and results.md; the others stay as they are."""
    path = folder / "results.json"
    sections = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    sections = {key: value for key, value in {**sections, name: section}.items() if key in BENCHMARKS}
    path.write_text(json.dumps(sections, indent=1) + "\n", encoding="utf-8")
    head = (
        "# Measurements\n\nWritten by `python -m benchmarks.run`. Medians over rounds in which the variants take "
        "turns, a process each, with the least and the greatest; ratios are taken round by round. One thread unless "
        "a row says otherwise.\n"
    )
    parts = [sections[key]["markdown"] for key in BENCHMARKS if key in sections]
    (folder / "results.md").write_text("\n".join([head, *parts]), encoding="utf-8")


def _options(arguments: argparse.Namespace, temporary: Path) -> Options:
    output = arguments.output
    if output is None:  # a quick run must not replace real figures
        output = Path(tempfile.mkdtemp(prefix="ppfsl-quick-")) if arguments.quick else ROOT / "benchmarks"
    data = os.environ.get("PPFSL_DATA")
    return Options(
        work=(arguments.work or temporary).resolve(),
        output=output.resolve(),
        quick=arguments.quick,
        peers=arguments.peers,
        data=Path(data).resolve() if data else None,
        resnet18_weights=arguments.resnet18_weights,
        mobilenet_weights=arguments.mobilenet_weights,
        nproc=arguments.nproc,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join(BENCHMARKS)
    parser.add_argument("benchmarks", nargs="*", metavar="NAME", help=f"which, of {names}; none: all")
    parser.add_argument("--peers", metavar="PYTHON", help="the Python that has PyTorch and easyfsl")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round with tiny counts, to see that everything runs")
    parser.add_argument("--nproc", type=int, default=2, help="processes to compare with one (default 2)")
    parser.add_argument("--resnet18-weights", metavar="FILE", help="ImageNet weights for the article, or imagenet")
    parser.add_argument("--mobilenet-weights", metavar="FILE", help="those of MobileNetV1 0.75: a second network there")
    parser.add_argument("--output", type=Path, help="folder of results.md and results.json (default benchmarks/)")
    parser.add_argument("--work", type=Path, help="folder for tables and weights, kept; default: one that goes")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.benchmarks if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {names}")
    if arguments.rounds < 1 or arguments.nproc < 2:
        parser.error("--rounds must be 1 or more, --nproc 2 or more")
    return arguments


if __name__ == "__main__":
    main()
