"""Runs with and without oneDNN."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ppfsl import pipeline, results
from ppfsl.onednn import native
from tests.pipeline.runs import Tree, configured


@pytest.mark.parametrize(("wanted", "count"), [(True, 1), (False, 0)])
def test_training_without_onednn_says_so(
    wanted: bool,
    count: int,
    tiny_tree: Callable[[], Tree],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    monkeypatch.setattr(pipeline, "problem", lambda: "this Paddle ships none")
    monkeypatch.setattr("ppfsl.onednn.available", lambda: False)
    pipeline.run(configured({**tiny_tree(), "onednn": wanted}, tmp_path), "tiny")
    said = capsys.readouterr().err
    assert said.count("warning: training goes without oneDNN, more slowly: this Paddle ships none\n") == count


@pytest.mark.parametrize("wanted", [True, False])
def test_training_and_adapting_use_onednn_where_it_is_wanted(
    method_tree: Callable[[str], Tree], tmp_path: Path, wanted: bool, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    here = {"where": "training"}
    own, evaluate = native.convolution, results.evaluate
    monkeypatch.setattr(native, "convolution", lambda *arguments: used.append(here["where"]) or own(*arguments))

    def evaluated(*arguments: Any, **further: Any) -> Any:
        here["where"] = "evaluation"
        return evaluate(*arguments, **further)

    monkeypatch.setattr(results, "evaluate", evaluated)
    pipeline.run(configured({**method_tree("maml, first order"), "onednn": wanted}, tmp_path), "tiny")
    assert set(used) == ({"training", "evaluation"} if wanted else set())
