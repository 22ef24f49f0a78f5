"""A classifier's file."""

from pathlib import Path

import pytest

from ppfsl.classifier.build import Built
from ppfsl.classifier.model import save_classifier


@pytest.fixture
def file(built: Built, tmp_path: Path) -> Path:
    path = tmp_path / "模型.safetensors"
    save_classifier(built.classifier, path)
    return path
