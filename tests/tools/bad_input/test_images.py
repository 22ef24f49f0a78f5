"""Images that are corrupt, too few or in a damaged archive: said in one line, and nothing written."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from tests.tools.bad_input.mistaken import assert_one_sentence, overridden, run_tool, start_tool


def test_corrupt_image_is_named_and_can_be_skipped(
    tiny: Path, own_photographs: Path, own_folder: Path, departures: Callable[[Path], list[str]]
) -> None:
    photograph = own_photographs / "class03" / "05.png"
    photograph.rename(photograph.with_suffix(".jpg"))
    photograph.with_suffix(".jpg").write_bytes(b"\xff\xd8\xff\xe0 half a photograph")
    arguments = overridden(tiny, data__folder=own_photographs, output_dir="run")
    status, stdout, stderr = start_tool("train", *arguments, cwd=own_folder)
    assert_one_sentence(status, stderr, "class03/05.jpg", "data.on_corrupt", "skip")
    assert stdout == ""
    assert not (own_folder / "run").exists()

    status, stderr = run_tool("train", *arguments, "-o", "data.on_corrupt=skip")
    assert status == 0, stderr
    assert "warning: 1 corrupt images of folder are left out, class03/05.jpg for one" in stderr
    assert departures(own_folder / "run") == []


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (0, ("holds no class folder", "one folder")),
        (1, ("holds one class folder, class00", "at least two")),
        (2, ("2 classes cannot be divided into 3 parts", "add classes")),
    ],
)
def test_too_few_class_folders(
    tiny: Path, own_photographs: Path, own_folder: Path, classes: int, words: tuple[str, ...]
) -> None:
    for number in range(classes, 12):
        (own_photographs / f"class{number:02d}").rename(own_folder / f"aside{number}")
    arguments = overridden(tiny, data__folder=own_photographs, output_dir="run")
    assert_one_sentence(*run_tool("train", *arguments), *words)
    assert not (own_folder / "run").exists()


def test_empty_class_folder_is_named(tiny: Path, own_photographs: Path, own_folder: Path) -> None:
    (own_photographs / "empty").mkdir()
    arguments = overridden(tiny, data__folder=own_photographs, output_dir="run")
    assert_one_sentence(*run_tool("train", *arguments), "own photographs/empty holds no image")


def test_truncated_archive_is_named_with_its_remedy(tiny: Path, own_folder: Path) -> None:
    root = own_folder / "raw" / "flowers102"
    root.mkdir(parents=True)
    savemat(root / "imagelabels.mat", {"labels": (np.arange(8189) % 102 + 1).astype(np.uint8)})
    ids = np.arange(1, 8190, dtype=np.uint16)
    savemat(root / "setid.mat", {"trnid": ids[:1020], "valid": ids[1020:2040], "tstid": ids[2040:]})
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for number in range(1, 50):
            content = b"P6 1 1 255\n" + np.random.default_rng(number).bytes(3)
            info = tarfile.TarInfo(f"jpg/image_{number:05d}.jpg")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    (root / "102flowers.tgz").write_bytes(stream.getvalue()[:-500])
    arguments = overridden(
        tiny, data__name="flowers102", data__folder="null", data__split="metadataset", data__root="raw",
        output_dir="run",
    )  # fmt: skip
    status, stdout, stderr = start_tool("train", *arguments, cwd=own_folder)
    assert_one_sentence(status, stderr, "raw/flowers102/102flowers.tgz is damaged", "prepare_data.py flowers102")
    assert stdout == ""
    assert not (own_folder / "run").exists()
