"""Folders that may not be read: root may read everything, so that the refusal is played."""

import os
from typing import Any

import pytest


def close_folders(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the system refuse to list folders of that name."""
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
