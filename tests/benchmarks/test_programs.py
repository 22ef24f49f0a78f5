"""What programs compute beside running what they time."""

import json
import sys
from typing import Any

import pytest

from benchmarks.plans.runs import slowest_imports
from benchmarks.programs import common
from benchmarks.programs.distributed import configuration, images_per_second
from benchmarks.programs.startup import first_output
from ppfsl.config_file import parse_config


class Clock:
    """Stands for `time`."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def embed(self, images: Any, count: int) -> list[int]:
        """A second to set up, and a tenth for each image, four at a time; the second batch of a call meets a hiccup."""
        self.now += 1
        found: list[int] = []
        for start in range(0, count, 4):
            batch = images[start : start + 4]
            self.now += 0.1 * len(batch) + 5 * (start == 4)
            found += batch
        return found


def test_the_rate_is_that_of_the_median_batch_without_what_a_call_sets_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(common, "time", clock)
    rate, setup, embedded = common.rate_and_setup(clock.embed, list(range(16)), 4)
    assert (rate, setup) == pytest.approx((10.0, 1.0))
    assert embedded == list(range(16))


def test_the_median_of_steps_leaves_out_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, counts = Clock(), iter([1000.0, 1.0, 2.0, 30.0])

    def step() -> None:
        clock.now += next(counts)

    monkeypatch.setattr(common, "time", clock)
    assert common.step_seconds(step, 3) == 2.0


def test_the_median_of_repeats_comes_with_the_last_outcome() -> None:
    told = iter([(5.0, "a"), (1.0, "b"), (2.0, "c")])
    assert common.median_of(lambda: next(told), 3) == (2.0, "c")


def test_the_speed_of_a_run_is_that_of_its_last_epoch() -> None:
    rows = [{"name": "1_cross_entropy/images_per_second", "value": value} for value in (1.0, 20.0, 40.0)]
    rows.insert(1, {"name": "1_cross_entropy/loss", "value": 9.0})
    assert images_per_second(map(json.dumps, rows)) == 40.0


@pytest.mark.parametrize("work", ["pretraining", "evaluation"])
@pytest.mark.parametrize("quick", [True, False])
def test_the_configurations_of_several_processes_are_valid(work: str, quick: bool) -> None:
    config = parse_config(configuration(work, quick), "a benchmark")
    assert bool(config.pretrain) == (work == "pretraining")


def test_imports_are_added_up_by_package() -> None:
    report = "\n".join(
        [
            "import time: self [us] | cumulative | imported package",
            "import time:      2000 |       2000 |   one.inner",
            "import time:      1000 |       3000 | one",
            "import time:      4000 |       4000 | other",
            "import time:        10 |         10 | small",
            "something else",
        ]
    )
    assert slowest_imports(report, 2) == [("other", 4.0), ("one", 3.0)]


def test_a_command_is_timed_to_its_first_output(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import time; time.sleep(0.2); print(1, flush=True); time.sleep(1)"
    assert 0.2 < first_output([sys.executable, "-c", code]) < 1.2


def test_a_command_that_says_nothing_is_refused() -> None:
    with pytest.raises(SystemExit, match="wrote nothing"):
        first_output([sys.executable, "-c", "pass"])
