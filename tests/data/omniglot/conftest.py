"""A folder of the miniature files, which the reader takes for the whole."""

import zipfile
from pathlib import Path

import pytest

from ppfsl.data import omniglot
from tests.data.omniglot.files import ARCHIVES, BACKGROUND, DRAWINGS, EVALUATION, members, pack


@pytest.fixture(autouse=True)
def few_characters(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real" not in request.fixturenames and "real_table" not in request.fixturenames:
        monkeypatch.setattr(omniglot, "CHARACTERS", 5)
        monkeypatch.setattr(omniglot, "DRAWINGS", DRAWINGS)
        monkeypatch.setattr(omniglot, "_LISTS", {"background": (2, 3), "evaluation": (2, 2)})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A complete folder of files, with members in them that are none of ours and in an order of no meaning."""
    folder = tmp_path / "data root" / "omniglot"
    folder.mkdir(parents=True)
    decoys = {
        "images_background/": b"",
        "images_background/N_Ko/character01/": b"",
        "__MACOSX/images_background/N_Ko/character01/._0902_01.png": b"not ours",
        "images_background/N_Ko/character01/.DS_Store": b"not ours",
        "images_background/../N_Ko/character02/0902_01.png": b"outside",
        "images_evaluation/N_Ko/character03/0902_01.png": b"the other file's folder",
        "images_background/N_Ko/character٠٤/0902_01.png": b"digits, but not ours",
        "images_background/N_Ko/character01/O902_01.png": b"a letter",
        "images_background/N_Ko/character01/0902_01_png": b"another ending",
    }
    background = members("images_background", BACKGROUND)
    pack(folder / ARCHIVES[0], {**decoys, **dict(reversed(background.items()))}, zipfile.ZIP_DEFLATED)
    pack(folder / ARCHIVES[1], members("images_evaluation", EVALUATION))
    return folder
