"""Where data sets and caches lie on disk."""

import os
from pathlib import Path


def data_root(root: str | None) -> Path:
    """The folder that holds a folder per data set: `root`, else the variable PPFSL_DATA, else ~/.cache/ppfsl."""
    return _first(root, "PPFSL_DATA", "~/.cache/ppfsl")


def cache_root(cache_dir: str | None) -> Path:
    """The folder for decoded images: `cache_dir`, else the variable PPFSL_CACHE, else ~/.cache/ppfsl/cache."""
    return _first(cache_dir, "PPFSL_CACHE", "~/.cache/ppfsl/cache")


def _first(argument: str | None, variable: str, default: str) -> Path:
    # Path's own would fail for ~ of nobody, and take ./~x for ~x.
    return Path(os.path.expanduser(argument or os.environ.get(variable) or default))  # noqa: PTH111
