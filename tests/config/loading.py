"""Loading configurations that a test writes down as trees, and what is said of their mistakes."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ppfsl.config import Config
from ppfsl.config_file import load_config
from ppfsl.errors import UserError


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value), encoding="utf-8")
    return path


def load(tmp_path: Path, value: Any, *overrides: str) -> Config:
    return load_config(write(tmp_path / "c.yaml", value), overrides)


def mistake(tmp_path: Path, value: Any, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load(tmp_path, value, *overrides)
    text = " ".join(str(caught.value).split())  # as the command line prints it
    return text.replace(f"{tmp_path}/", "")


STAGE = {"objective": {"name": "cross_entropy"}}


def stage(**changes: Any) -> dict[str, Any]:
    return {"pretrain": [{**STAGE, **changes}]}


def objective(name: str, **changes: Any) -> dict[str, Any]:
    return stage(objective={"name": name, **changes})


def adaptation(name: str, **changes: Any) -> dict[str, Any]:
    return {"adaptations": [{"name": name, **changes}]}
