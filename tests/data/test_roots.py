"""Where data and caches are looked for."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ppfsl.data.roots import cache_root, data_root


@pytest.mark.parametrize(
    ("function", "variable", "default"),
    [(data_root, "PPFSL_DATA", ".cache/ppfsl"), (cache_root, "PPFSL_CACHE", ".cache/ppfsl/cache")],
)
def test_argument_beats_variable_beats_home(
    function: Callable[[str | None], Path], variable: str, default: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("PPFSL_DATA", "/wrong")
    monkeypatch.setenv("PPFSL_CACHE", "/wrong")
    monkeypatch.setenv(variable, "~/from variable")
    assert function("given") == Path("given")
    assert function("~/given") == Path("/home/somebody/given")
    assert function("./~given") == Path("~given")
    assert function(None) == Path("/home/somebody/from variable")
    monkeypatch.setenv(variable, "")
    assert function(None) == Path("/home/somebody") / default
    monkeypatch.delenv(variable)
    assert function(None) == Path("/home/somebody") / default
