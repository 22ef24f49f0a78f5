"""requirements.txt says what pyproject.toml says."""

import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = None

ROOT = Path(__file__).parents[1]


def test_requirements_file_lists_the_packages_dependencies() -> None:
    if tomllib is None:
        pytest.skip("this Python cannot read pyproject.toml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    expected = [*project["dependencies"], *project["optional-dependencies"]["visualdl"]]
    lines = [line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    assert [line for line in lines if line] == expected
    assert all(re.fullmatch(r"[a-z0-9-]+>=[\d.]+", line) for line in expected)
