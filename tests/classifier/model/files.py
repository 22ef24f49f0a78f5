"""A classifier's file rewritten, and how it is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ppfsl.classifier.model import load_classifier
from ppfsl.errors import UserError

Tree = dict[str, Any]
KEY = "ppfsl_classifier"


def header_of(path: Path) -> Tree:
    content = path.read_bytes()
    metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    header: Tree = json.loads(metadata[KEY])
    return header


def rewrite(path: Path, change: Callable[[Tree, dict[str, np.ndarray]], Any]) -> None:
    """Change a file's header and arrays in place; what `change` returns, if anything, takes the header's place."""
    header, arrays = header_of(path), load_file(path)
    found = change(header, arrays)
    text = found if isinstance(found, str) else json.dumps(header)
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(arrays, path, metadata={KEY: text})


def refused(path: Path, *words: str) -> None:
    with pytest.raises(UserError) as caught:
        load_classifier(path)
    text = str(caught.value)
    assert path.name in text
    assert len(text) < 500
    for word in words:
        assert word in text
