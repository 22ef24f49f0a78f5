"""Which cases there are, and that each compares like with like."""

from pathlib import Path

import pytest

from benchmarks.compare import ROOT, Case, Options
from benchmarks.plans import BENCHMARKS
from benchmarks.run import estimate

WORK = Path("work")
FULL = Options(WORK, Path("output"), peers="python", data=Path("data"), mobilenet_weights="weights")
QUICK = Options(WORK, Path("output"), quick=True, peers="python", data=Path("data"))


def cases(name: str, options: Options = FULL) -> dict[str, Case]:
    found = BENCHMARKS[name].cases(options)
    assert not isinstance(found, str)
    return {case.name: case for case in found}


def rows(case: Case) -> list[str]:
    return [variant.name for variant in case.variants]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_programs_exist_and_rows_have_names_of_their_own(name: str) -> None:
    for options in (FULL, QUICK):
        for case in cases(name, options).values():
            assert len(set(rows(case))) == len(case.variants)
            for variant in (*case.variants, *case.prepare):
                assert (ROOT / "benchmarks" / "programs" / f"{variant.program}.py").exists()


@pytest.mark.parametrize("name", BENCHMARKS)
def test_what_others_are_compared_with_is_a_row_of_some_case(name: str) -> None:
    every = [row for case in cases(name).values() for row in rows(case)]
    assert set(BENCHMARKS[name].against) <= set(every)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_variants_of_a_case_have_the_same_threads_but_for_paddles_default(name: str) -> None:
    for case in cases(name).values():
        assert len({variant.threads for variant in case.variants} - {None}) <= 1


def test_embeddings_are_compared_at_both_sizes_with_paddle_and_pytorch() -> None:
    found = cases("embedding")
    for pixels, batch in ((84, 64), (224, 8)):
        case = found[f"resnet18, {pixels} px, batches of {batch}"]
        assert rows(case) == ["ppfsl's engine", "Paddle eager, default threads", "PyTorch eager"]
        assert [variant.threads for variant in case.variants] == [1, None, 1]


def test_tasks_of_both_orders_stand_beside_pytorchs_and_paddles_own() -> None:
    one, three = cases("tasks").values()
    assert rows(one) == [
        "order 1",
        "order 1, Paddle's own operators",
        "order 1, twice-differentiable operators",
        "order 1, twice-differentiable operators but Paddle's batch norm",
        "order 2",
        "PyTorch, order 1",
        "PyTorch, order 2",
    ]
    assert rows(three) == ["order 1", "order 2", "PyTorch, order 1", "PyTorch, order 2"]


def test_without_photographs_a_benchmark_says_so() -> None:
    for name in ("article", "photographs"):
        assert "PPFSL_DATA" in BENCHMARKS[name].cases(Options(WORK, WORK))


def test_the_estimate_grows_with_the_rounds() -> None:
    minutes = BENCHMARKS["heads"].minutes
    assert minutes > 0
    assert f"heads {minutes:.1f};" in estimate(["heads"], 5, False)
    assert f"heads {2 * minutes:.1f};" in estimate(["heads"], 10, False)
    assert "heads" not in estimate(["heads"], 5, True)


def test_all_benchmarks_take_little_more_than_half_an_hour() -> None:
    assert sum(benchmark.minutes for benchmark in BENCHMARKS.values()) <= 40
