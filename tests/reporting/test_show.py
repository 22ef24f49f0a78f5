"""What a run prints when it ends."""

import shlex
from pathlib import Path

import pytest

from ppfsl.reporting.show import curves_command


@pytest.mark.parametrize("folder", ["output/tiny", "output/a b", "output/it's $HOME"])
def test_the_command_for_the_curves_can_be_typed_as_it_is(folder: str) -> None:
    words = ["visualdl", "--logdir", f"{folder}/vdl", "--language", "en", "--disable-telemetry"]
    assert shlex.split(curves_command(Path(folder))) == words
