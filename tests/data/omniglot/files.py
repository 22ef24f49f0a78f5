"""A miniature of the official Omniglot files, with fewer characters, and what the reader finds in it."""

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from ppfsl.data.source import Source

ARCHIVES = ["images_background.zip", "images_evaluation.zip"]
# The alphabets of the two files interleave, as the real ones do.
BACKGROUND = ["Burmese_(Myanmar)/character01", "Burmese_(Myanmar)/character02", "N_Ko/character01"]
EVALUATION = ["Aurek-Besh/character01", "Keble/character01"]
SORTED = [EVALUATION[0], BACKGROUND[0], BACKGROUND[1], EVALUATION[1], BACKGROUND[2]]
DRAWINGS = 3


def strokes(character: str, drawing: int) -> np.ndarray:
    """True where the paper is, [7, 7]; another picture for every drawing, and no two of its rotations are equal."""
    paper = np.random.default_rng([*character.encode(), drawing]).random((7, 7)) > 0.4
    paper[0, 0], paper[0, -1], paper[-1, 0], paper[-1, -1] = False, True, True, True
    return paper


def png(paper: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(paper).save(buffer, "PNG")
    return buffer.getvalue()


def members(folder: str, characters: Iterable[str], drawings: int = DRAWINGS) -> dict[str, bytes]:
    return {
        f"{folder}/{character}/{900 + k:04d}_{d:02d}.png": png(strokes(character, d))
        for k, character in enumerate(characters)
        for d in range(1, drawings + 1)
    }


def pack(path: Path, content: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def pixels(source: Source) -> np.ndarray:
    """All rows by their index, [N, 7, 7]."""
    out: dict[int, np.ndarray] = {}
    for row, load in source.images():
        assert row not in out, "the index came twice"
        out[row] = np.asarray(load())
    return np.stack([out[row] for row in range(len(source.files))])


UPRIGHT = np.stack([strokes(character, d) for character in SORTED for d in (1, 2, 3)])
