"""Training as a run has it."""

from collections.abc import Iterator

import pytest

from ppfsl.onednn import operators


@pytest.fixture
def as_in_a_run() -> Iterator[None]:
    """Networks run on oneDNN."""
    with operators(wanted=True):
        yield
