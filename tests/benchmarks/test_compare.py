"""Rounds, agreement, what is left out, and the table that comes of it."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import compare as module
from benchmarks.compare import (
    Benchmark,
    Case,
    DisagreementError,
    Facts,
    Found,
    Options,
    ProgramError,
    Variant,
    compare,
    program_environment,
    run_program,
    table,
)

OPTIONS = Options(work=Path("work"), output=Path("output"))
ONE, OTHER = Variant("one", "p", ("1",), first=("--more",)), Variant("other", "p", ("2",))
PEER = Variant("peer", "p", peer=True)


def benchmark(*variants: Variant, **settings: Any) -> Benchmark:
    case = Case("case", variants or (ONE, OTHER), settings.pop("prepare", ()), settings.pop("agree", None))
    given = {
        "name": "b",
        "title": "",
        "remark": "",
        "key": "seconds",
        "unit": "seconds",
        "better": "less",
        "minutes": 0,
    }
    return Benchmark(**{**given, "against": ("one",), "cases": lambda _: [case], **settings})


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was run, in order; every program takes a second more than the last."""
    made: list[str] = []

    def run(variant: Variant, options: Options, further: tuple[str, ...] = (), say: object = None) -> Facts:
        made.append(" ".join([variant.name, *further]))
        if variant.name == "broken":
            raise ProgramError(["p"], "Traceback\nOSError: no room\n")
        return {"seconds": float(len(made)), "peak_gb": 0.5, "outputs": variant.name}

    monkeypatch.setattr(module, "run_program", run)
    return made


def quiet(line: str) -> None:
    pass


def test_variants_take_turns_and_preparation_comes_once(calls: list[str]) -> None:
    compare(benchmark(prepare=(Variant("before", "p"),)), OPTIONS, 2, quiet)
    assert calls == ["before", "one --more", "other", "one", "other"]


def test_a_case_may_want_fewer_rounds(calls: list[str]) -> None:
    compare(benchmark(cases=lambda _: [Case("case", (OTHER,), rounds=1)]), OPTIONS, 3, quiet)
    assert calls == ["other"]


def test_every_round_is_kept_and_outputs_are_not(calls: list[str]) -> None:
    runs = compare(benchmark(), OPTIONS, 2, quiet).runs["case"]
    assert [facts["seconds"] for facts in runs["one"]] == [1.0, 3.0]
    assert all("outputs" not in facts for variant in runs.values() for facts in variant)


def test_outputs_of_the_first_round_must_agree(calls: list[str]) -> None:
    seen: list[Any] = []

    def refuse(outputs: Any) -> None:
        seen.append(dict(outputs))
        raise DisagreementError

    with pytest.raises(DisagreementError):
        compare(benchmark(agree=refuse), OPTIONS, 2, quiet)
    assert seen == [{"one": "one", "other": "other"}]
    assert len(calls) == 2


def test_peers_are_left_out_with_a_word_on_it(calls: list[str]) -> None:
    found = compare(benchmark(ONE, PEER), OPTIONS, 1, quiet)
    assert calls == ["one --more"]
    assert found.left_out == ["case: without --peers there is no row for peer."]


def test_peers_run_where_there_are_any(calls: list[str]) -> None:
    found = compare(benchmark(ONE, PEER), Options(Path("w"), Path("o"), peers="python"), 1, quiet)
    assert calls == ["one --more", "peer"]
    assert found.left_out == []


def test_a_variant_that_may_fail_is_left_out_of_all_rounds(calls: list[str]) -> None:
    found = compare(benchmark(Variant("broken", "p", may_fail=True), OTHER), OPTIONS, 2, quiet)
    assert calls == ["broken", "other", "other"]
    assert list(found.runs["case"]) == ["other"]
    assert found.left_out == ["case: broken failed: OSError: no room"]


def test_other_failures_end_the_run(calls: list[str]) -> None:
    with pytest.raises(ProgramError, match="no room"):
        compare(benchmark(Variant("broken", "p"), OTHER), OPTIONS, 2, quiet)


def test_a_benchmark_says_why_it_has_no_cases(calls: list[str]) -> None:
    found = compare(benchmark(cases=lambda _: "no photographs"), OPTIONS, 1, quiet)
    assert (found.runs, found.left_out, calls) == ({}, ["no photographs"], [])


def test_the_table_has_medians_ratios_by_round_and_further_columns() -> None:
    runs: dict[str, dict[str, list[Facts]]] = {
        "case": {
            "one": [{"seconds": 8.0, "peak_gb": 1.0, "timed": "all"}, {"seconds": 4.0, "peak_gb": 2.0}],
            "other": [{"seconds": 2.0}, {"seconds": 2.0}],
        }
    }
    wanted = benchmark(columns=(("timed", "timed"), ("peak_gb", "GB"), ("absent", "absent")))
    assert table(wanted, Found(runs)).splitlines() == [
        "|  |  | seconds | times as fast as one | timed | GB |",
        "|---|---|---|---|---|---|",
        "| case | one | 6.00 (4.00..8.00) | 1 | all | 1.50 |",
        "| case | other | 2.00 | 3.00 (2.00..4.00) |  |  |",
    ]


def test_a_case_without_the_alternative_has_no_ratio() -> None:
    runs: dict[str, dict[str, list[Facts]]] = {
        "first": {"one": [{"seconds": 1.0}]},
        "second": {"other": [{"seconds": 1.0}]},
    }
    assert table(benchmark(), Found(runs)).splitlines()[-1] == "| second | other | 1.00 |  |"


def test_threads_are_set_or_left_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert program_environment(1)["OMP_NUM_THREADS"] == "1"
    assert "OMP_NUM_THREADS" not in program_environment(None)


def test_a_program_that_fails_is_told_with_its_last_line() -> None:
    with pytest.raises(ProgramError) as raised:
        run_program(Variant("none", "no_such_program"), OPTIONS)
    assert "no_such_program" in raised.value.last_line
