"""Profile a run of tools/train.py: which functions its time goes into, as short Markdown tables.

    python -m benchmarks.profile_quickstart
    python -m benchmarks.profile_quickstart -c configs/flowers102/article.yaml -o data.split=article --top 20

The run's folder is a temporary one; decoded images are cached as usual. Profiling makes Python code slower than it is.
"""

import argparse
import cProfile
import os
import pstats
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.summary import markdown, number

ROOT = Path(__file__).resolve().parent.parent


def top(statistics: pstats.Stats, order: str, count: int) -> list[list[str]]:
    """The functions of most `tottime` (their own) or `cumtime` (what they call included): name, calls, seconds."""
    place = {"tottime": 2, "cumtime": 3}[order]
    entries: dict[Any, Any] = statistics.stats  # type: ignore[attr-defined]
    rows = sorted(entries.items(), key=lambda item: -item[1][place])
    if order == "cumtime":  # of callers, only ours say something
        rows = [row for row in rows if _inside(row[0][0], "ppfsl")]
    return [[_name(where), str(values[1]), number(values[2]), number(values[3])] for where, values in rows[:count]]


def by_package(statistics: pstats.Stats, count: int) -> list[list[str]]:
    """Seconds of functions' own time, by package or room of ppfsl; compiled functions by themselves."""
    own: dict[str, float] = {}
    entries: dict[Any, Any] = statistics.stats  # type: ignore[attr-defined]
    for (file, _, _), values in entries.items():
        own[_package(file)] = own.get(_package(file), 0.0) + values[2]
    total = sum(own.values())
    rows = sorted(own.items(), key=lambda item: -item[1])[:count]
    return [[name, number(seconds), f"{seconds / total:.0%}"] for name, seconds in rows]


def _inside(file: str, package: str) -> bool:
    return str(ROOT / package) in file


def _package(file: str) -> str:
    if file == "~" or file.startswith("<"):
        return "compiled functions"
    path = Path(file)
    if _inside(file, "ppfsl"):
        return str(path.relative_to(ROOT).parent)
    parts = path.parts
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1].removesuffix(".py")
    return "standard library and others"


def _name(where: tuple[str, int, str]) -> str:
    file, line, function = where
    if file == "~":
        return f"`{function}`"
    path = Path(file)
    short = path.relative_to(ROOT) if path.is_relative_to(ROOT) else Path(*path.parts[-2:])
    return f"`{short}:{line} {function}`"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--config", type=Path, default=ROOT / "configs" / "quickstart.yaml")
    parser.add_argument("-o", "--override", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--top", type=int, default=12)
    arguments = parser.parse_args()
    from ppfsl.config_file import config_name, load_config
    from ppfsl.runtime import prepare
    from ppfsl.threads import choose_threads

    with tempfile.TemporaryDirectory(prefix="ppfsl-profile-") as folder:
        config = load_config(arguments.config, [*arguments.override, f"output_dir={folder}/run"])
        profiler = cProfile.Profile()
        start, processor = time.perf_counter(), os.times()
        profiler.enable()
        prepare(choose_threads(config.threads))
        from ppfsl import pipeline

        pipeline.run(config, config_name(arguments.config))
        profiler.disable()
        seconds, after = time.perf_counter() - start, os.times()
    used = after.user + after.system - processor.user - processor.system
    statistics = pstats.Stats(profiler)
    print(f"{arguments.config.stem}: {seconds:.1f} s, {used:.1f} s of processor time, import of Paddle included\n")
    print(markdown(["package", "own time, s", "share"], by_package(statistics, arguments.top)))
    header = ["function", "calls", "own time, s", "with what it calls, s"]
    print(markdown(header, top(statistics, "tottime", arguments.top)))
    print(markdown(header, top(statistics, "cumtime", arguments.top)))


if __name__ == "__main__":
    main()
