"""The benchmarks by name: what each compares, and what its variants must agree in."""

from benchmarks.compare import Benchmark
from benchmarks.plans.episodes import CLASS_MEANS, HEADS
from benchmarks.plans.networks import EMBEDDING, TASKS, TRAINING
from benchmarks.plans.runs import PHOTOGRAPHS, PROCESSES, PROTOCOL, STARTUP
from benchmarks.plans.scaling import SCALING

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        EMBEDDING,
        PROTOCOL,
        CLASS_MEANS,
        HEADS,
        PHOTOGRAPHS,
        TRAINING,
        TASKS,
        STARTUP,
        PROCESSES,
        SCALING,
    )
}
