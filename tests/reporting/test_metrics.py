import json
from pathlib import Path

import numpy as np
import pytest

from ppfsl.errors import UserError
from ppfsl.reporting.metrics import MetricLog, read_metrics


def fill(log: MetricLog, steps: range) -> None:
    for step in steps:
        log.log(step, step // 5, "base", "1_cross_entropy/loss", 1 / (1 + step))
        log.log(step, step // 5, "base", "1_cross_entropy/learning_rate", 0.1)
        if step % 5 == 0:
            log.log(step, step // 5, "validation", "1_cross_entropy/accuracy_5way_1shot", step / 100)


def curves(run: Path) -> list[tuple[str, int, float]]:
    """Every scalar in the VisualDL log of a run: (tag, step, value), sorted."""
    visualdl = pytest.importorskip("visualdl")
    (file,) = (run / "vdl").glob("vdlrecords.*")
    reader = visualdl.LogReader(file_path=str(file))
    tags = reader.get_tags().get("scalar", [])
    return sorted((tag.replace("%", "/"), p.id, p.value) for tag in tags for p in reader.get_data("scalar", tag))


def as_curves(rows: list[dict]) -> list[tuple[str, int, float]]:
    return sorted((f"{r['split']}/{r['name']}", r["step"], pytest.approx(r["value"])) for r in rows)


def test_each_row_is_one_json_line_with_exactly_the_five_keys(tmp_path: Path) -> None:
    with MetricLog(tmp_path / "run", visualdl=False) as log:
        log.log(np.int64(3), 1, "base", "1_cross_entropy/loss", np.float32(0.5))
        log.log(4, 1, "novel", "2_cosine/accuracy_5way_1shot", 1)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 3, "epoch": 1, "split": "base", "name": "1_cross_entropy/loss", "value": 0.5},
        {"step": 4, "epoch": 1, "split": "novel", "name": "2_cosine/accuracy_5way_1shot", "value": 1.0},
    ]
    assert read_metrics(tmp_path / "run") == [json.loads(line) for line in lines]


def test_a_row_is_on_disk_whole_as_soon_as_it_is_logged(tmp_path: Path) -> None:
    with MetricLog(tmp_path, visualdl=False) as log:
        for step in range(3):
            log.log(step, 0, "base", "loss", 1.0)
            assert (tmp_path / "metrics.jsonl").read_bytes().count(b"\n") == step + 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_json_cannot_hold_is_refused_and_leaves_no_trace(tmp_path: Path, value: float) -> None:
    with MetricLog(tmp_path, visualdl=False) as log, pytest.raises(ValueError, match=r"base/loss is .* at step 7"):
        log.log(7, 0, "base", "loss", value)
    assert (tmp_path / "metrics.jsonl").read_bytes() == b""


def test_sync_returns_the_size_of_the_file(tmp_path: Path) -> None:
    with MetricLog(tmp_path, visualdl=False) as log:
        assert log.sync() == 0
        fill(log, range(4))
        assert log.sync() == (tmp_path / "metrics.jsonl").stat().st_size > 0


def test_an_interrupted_and_resumed_log_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    with MetricLog(tmp_path / "whole") as log:
        fill(log, range(20))

    log = MetricLog(tmp_path / "cut")
    fill(log, range(10))
    checkpoint = log.sync()
    fill(log, range(10, 13))  # seen by no checkpoint
    log.close()
    with (tmp_path / "cut" / "metrics.jsonl").open("ab") as stream:
        stream.write(b'{"step": 13, "epo')  # killed in the middle of a line
    with MetricLog(tmp_path / "cut", keep_bytes=checkpoint) as log:
        fill(log, range(10, 15))
        checkpoint = log.sync()
        fill(log, range(15, 16))
    with MetricLog(tmp_path / "cut", keep_bytes=checkpoint) as log:
        fill(log, range(15, 20))

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert (cut / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert curves(cut) == curves(whole) == as_curves(read_metrics(whole))
    assert len(curves(cut)) == 20 + 20 + 4


@pytest.mark.parametrize("keep_bytes", [None, 0])
def test_a_fresh_log_forgets_the_old_one(tmp_path: Path, keep_bytes: int | None) -> None:
    with MetricLog(tmp_path) as log:
        fill(log, range(3))
    with MetricLog(tmp_path, keep_bytes=keep_bytes) as log:
        log.log(0, 0, "base", "loss", 2.0)
    assert [row["value"] for row in read_metrics(tmp_path)] == [2.0]
    assert curves(tmp_path) == [("base/loss", 0, 2.0)]


def test_a_torn_last_line_is_ignored(tmp_path: Path) -> None:
    with MetricLog(tmp_path, visualdl=False) as log:
        fill(log, range(2))
    rows = read_metrics(tmp_path)
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    for torn in (b"", b'{"step": 2', b"\x00\x00\x00"):
        path.write_bytes(whole + torn)
        assert read_metrics(tmp_path) == rows
    path.write_bytes(whole[:-1])
    assert read_metrics(tmp_path) == rows[:-1]


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(UserError, match="line 1"):
        read_metrics(tmp_path)


def test_a_run_without_a_log_has_no_rows(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []


@pytest.mark.parametrize("keep_bytes", [10, 10_000])
def test_resuming_onto_another_log_is_refused_and_the_log_stays(tmp_path: Path, keep_bytes: int) -> None:
    with MetricLog(tmp_path, visualdl=False) as log:
        fill(log, range(2))
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match=r"metrics\.jsonl is not the log"):
        MetricLog(tmp_path, keep_bytes=keep_bytes, visualdl=False)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    log = MetricLog(tmp_path)
    log.close()
    log.close()
