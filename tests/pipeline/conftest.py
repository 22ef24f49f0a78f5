"""A whole run on a network of a few hundred weights, and what keeps others short or counts their work."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ppfsl import pipeline, results
from ppfsl.training import pretrain
from tests.pipeline.runs import ADAPTATIONS, STAGES, Tree, configured


@pytest.fixture(scope="session")
def whole_tree(tiny_tree: Callable[[], Tree]) -> Tree:
    return {**tiny_tree(), "pretrain": STAGES, "adaptations": ADAPTATIONS}


@pytest.fixture(scope="session")
def finished(whole_tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a whole run; to be read only."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert pipeline.run(configured(whole_tree, folder), "tiny") == folder
    return folder


@pytest.fixture
def run_again(finished: Path, tmp_path: Path, quiet: None) -> Path:
    """A copy of that directory, for a test to run in again; without pictures, which take seconds."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without tables, pictures and report."""
    monkeypatch.setattr(pipeline, "show_run", lambda *_: None)


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a stage is trained")

    monkeypatch.setattr(pretrain, "_run_stage", fail)


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The titles of the evaluations that are really carried out, as they are."""
    titles: list[str] = []
    really = results.evaluate

    def counted(method: Any, gather: Any, episodes: Any, classes: Any, title: str, **further: Any) -> Any:
        titles.append(title)
        return really(method, gather, episodes, classes, title, **further)

    monkeypatch.setattr(results, "evaluate", counted)
    return titles
