"""A configuration that works, its run, and a folder of a test's own."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.tools.bad_input.mistaken import Tree, run_tool


@pytest.fixture(scope="session")
def tiny(tiny_tree: Callable[[], Tree], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration file that works."""
    path = tmp_path_factory.mktemp("configuration") / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_tree()), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def finished(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run of it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    status, stderr = run_tool("train", "-c", str(tiny), "-o", f"output_dir={folder}")
    assert status == 0, stderr
    return folder


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where relative paths lead, so that a test sees whatever is written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PPFSL_DATA", raising=False)
    return tmp_path
