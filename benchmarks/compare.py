"""A comparison: variants that do the same work, each in a process of its own, taking turns."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.summary import Better, Spread, markdown, number, times_as_fast

ROOT = Path(__file__).resolve().parent.parent
Facts = dict[str, Any]
"""What a program printed: figures, and under "outputs" what variants must agree in, which is not kept."""


@dataclass(frozen=True)
class Options:
    """What the command line says.

    Attributes:
        work: a folder for what programs hand one another.
        output: where tables, JSON and, on a quick run, pictures go.
        quick: tiny counts, to see that everything runs; the figures mean nothing.
        peers: the Python of the peers' virtual environment, or None.
        data: the root of the official data sets, or None.
        resnet18_weights, mobilenet_weights: ImageNet weights of ResNet18 and of MobileNetV1 0.75, or None.
        nproc: processes where several are compared with one.
    """

    work: Path
    output: Path
    quick: bool = False
    peers: str | None = None
    data: Path | None = None
    resnet18_weights: str | None = None
    mobilenet_weights: str | None = None
    nproc: int = 2


@dataclass(frozen=True)
class Variant:
    """One way of doing the work.

    Attributes:
        name: of its row.
        program: a module in `benchmarks.programs`.
        arguments: its command line.
        peer: whether it needs the peers' Python.
        threads: of its process; None: whatever its library takes where nobody says.
        first: further arguments in the first round, for what is measured once.
        may_fail: a failure leaves the row out, saying why, and does not end the run.
    """

    name: str
    program: str
    arguments: tuple[str, ...] = ()
    peer: bool = False
    threads: int | None = 1
    first: tuple[str, ...] = ()
    may_fail: bool = False


@dataclass(frozen=True)
class Case:
    """Variants of one size of the work.

    Attributes:
        name: in the table.
        variants: its rows.
        prepare: programs that run once, before the first round.
        agree: raises DisagreementError where the variants' outputs differ.
        rounds: at most so many; None: as many as are asked for.
    """

    name: str
    variants: tuple[Variant, ...]
    prepare: tuple[Variant, ...] = ()
    agree: Callable[[Mapping[str, Any]], None] | None = None
    rounds: int | None = None


@dataclass(frozen=True)
class Benchmark:
    """A table.

    Attributes:
        name: on the command line.
        title: of the table.
        remark: what the work is, in a few sentences.
        key: of the programs' JSON, what is compared.
        unit: the column's title.
        better: whether less or more of it is faster.
        against: rows that all others are compared with.
        columns: further keys of the programs' JSON and their titles.
        cases: made for the options; a string in the place of cases says why there are none.
        minutes: what five rounds take, about, on two quiet cores of 2023 with peers and photographs.
        after: further Markdown below the table, of what `compare` returned.
    """

    name: str
    title: str
    remark: str
    key: str
    unit: str
    better: Better
    against: tuple[str, ...]
    cases: Callable[[Options], list[Case] | str]
    minutes: float = 0.0
    columns: tuple[tuple[str, str], ...] = (("peak_gb", "peak memory, GB"),)
    after: Callable[[Options, "Found"], list[str]] | None = None


class DisagreementError(Exception):
    """Variants do not do the same work."""


@dataclass
class Found:
    """What the rounds of a benchmark found.

    Attributes:
        runs: case -> variant -> what it printed in each round.
        left_out: sentences on the variants that there are no figures of.
        notes: further Markdown.
    """

    runs: dict[str, dict[str, list[Facts]]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def compare(benchmark: Benchmark, options: Options, rounds: int, say: Callable[[str], None]) -> Found:
    """Run all cases of a benchmark.

    Raises:
        DisagreementError: when variants do not do the same work.
        ProgramError: when a program fails.
    """
    found = Found()
    cases = benchmark.cases(options)
    if isinstance(cases, str):
        found.left_out.append(cases)
        return found
    for case in cases:
        for step in case.prepare:
            run_program(step, options, say=say)
        most = rounds if case.rounds is None else min(rounds, case.rounds)
        found.runs[case.name] = _rounds(case, options, most, say, found.left_out)
    if benchmark.after is not None:
        found.notes += benchmark.after(options, found)
    return found


def _rounds(
    case: Case, options: Options, rounds: int, say: Callable[[str], None], left_out: list[str]
) -> dict[str, list[Facts]]:
    variants = [variant for variant in case.variants if options.peers or not variant.peer]
    absent = [variant.name for variant in case.variants if variant not in variants]
    if absent:
        left_out.append(f"{case.name}: without --peers there is no row for {', '.join(absent)}.")
    runs: dict[str, list[Facts]] = {variant.name: [] for variant in variants}
    for turn in range(rounds):
        for variant in list(variants):
            say(f"{case.name}, round {turn + 1} of {rounds}: {variant.name}")
            try:
                runs[variant.name].append(run_program(variant, options, variant.first if turn == 0 else (), say))
            except ProgramError as error:
                if not variant.may_fail:
                    raise
                left_out.append(f"{case.name}: {variant.name} failed: {error.last_line}")
                variants.remove(variant)
                del runs[variant.name]
        if turn == 0 and case.agree is not None:
            case.agree({name: facts[0].get("outputs") for name, facts in runs.items()})
        for facts in runs.values():
            facts[-1].pop("outputs", None)
    return runs


class ProgramError(Exception):
    """A program failed."""

    def __init__(self, command: list[str], stderr: str) -> None:
        super().__init__(f"{' '.join(command)} failed:\n{stderr[-4000:]}")
        lines = [line for line in stderr.splitlines() if line.strip()]
        self.last_line = lines[-1].strip() if lines else "it said nothing"


def run_program(
    variant: Variant, options: Options, further: tuple[str, ...] = (), say: Callable[[str], None] = lambda _: None
) -> Facts:
    """What a program prints in its last line.

    Raises:
        ProgramError: when it fails or prints something else.
    """
    python = options.peers if variant.peer and options.peers else sys.executable
    command = [python, "-m", f"benchmarks.programs.{variant.program}", *variant.arguments, *further]
    environment = program_environment(variant.threads)
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    try:
        if done.returncode == 0:
            return dict(json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError):
        pass
    raise ProgramError(command, done.stderr or done.stdout)


def program_environment(threads: int | None) -> dict[str, str]:
    """The environment of a process with so many threads; None: its library's own choice."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(ROOT)}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        environment.pop(name, None)
        if threads is not None:
            environment[name] = str(threads)
    return environment


def table(benchmark: Benchmark, found: Found) -> str:
    """The benchmark's rows as Markdown: median (least..greatest) over the rounds, and ratios by round."""
    every = [facts for variants in found.runs.values() for runs in variants.values() for facts in runs]
    columns = [column for column in benchmark.columns if any(facts.get(column[0]) is not None for facts in every)]
    present = [name for name in benchmark.against if any(name in variants for variants in found.runs.values())]
    header = ["", "", benchmark.unit, *(f"times as fast as {name}" for name in present), *(t for _, t in columns)]
    rows = []
    for case, variants in found.runs.items():
        for name, runs in variants.items():
            own = [float(facts[benchmark.key]) for facts in runs]
            ratios = [_ratio(benchmark, name, own, other, variants.get(other)) for other in present]
            rows.append([case, name, Spread.of(own).text(), *ratios, *(_cell(runs, key) for key, _ in columns)])
    return markdown(header, rows)


def _ratio(benchmark: Benchmark, name: str, own: list[float], other: str, runs: list[Facts] | None) -> str:
    if runs is None or other == name:
        return "1" if other == name else ""
    return times_as_fast(own, [float(facts[benchmark.key]) for facts in runs], benchmark.better).text()


def _cell(runs: list[Facts], key: str) -> str:
    """The median over the rounds of a number, or the first text; empty where there is none."""
    values = [facts[key] for facts in runs if facts.get(key) is not None]
    if not values:
        return ""
    return values[0] if isinstance(values[0], str) else number(Spread.of(values).median)
