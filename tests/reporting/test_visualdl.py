import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppfsl.reporting import visualdl as module
from ppfsl.reporting.visualdl import VisualDL


def read(folder: Path) -> Any:
    visualdl = pytest.importorskip("visualdl")
    (file,) = folder.glob("vdlrecords.*")
    return visualdl.LogReader(file_path=str(file))


def test_everything_written_can_be_read_back(tmp_path: Path) -> None:
    picture = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    with VisualDL(tmp_path, "pictures") as log:
        log.scalar("loss", 0.5, 7)
        log.image("support set", picture)
        log.histogram("embeddings", np.asarray([[0.0, 1.0], [1.0, 1.0]]), 3)
        log.embeddings("novel", np.eye(2, 3), ["rose", "向日葵"])
    reader = read(tmp_path / "vdl" / "pictures")
    (scalar,) = reader.get_data("scalar", "loss")
    assert (scalar.id, scalar.value) == (7, 0.5)
    (image,) = reader.get_data("image", "support set")
    assert np.array_equal(decode(image.image.encoded_image_string), picture)
    (histogram,) = reader.get_data("histogram", "embeddings")
    assert sum(histogram.histogram.hist) == 4
    (embeddings,) = reader.get_data("embeddings", "novel")
    assert [list(e.label) for e in embeddings.embeddings.embeddings] == [["rose"], ["向日葵"]]
    assert [list(e.vectors) for e in embeddings.embeddings.embeddings] == [[1, 0, 0], [0, 1, 0]]
    assert not embeddings.embeddings.label_meta  # the page counts a single column's header as one more label


def decode(png: bytes) -> np.ndarray:
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png)))


@pytest.mark.parametrize("level", [0, 1, 255])
def test_a_grey_picture_keeps_its_brightness_and_is_not_changed_in_place(tmp_path: Path, level: int) -> None:
    picture = np.full((3, 3, 1), level, dtype=np.uint8)
    picture.flags.writeable = False
    with VisualDL(tmp_path) as log:
        log.image("drawing", picture)
    (image,) = read(tmp_path / "vdl").get_data("image", "drawing")
    shown = decode(image.image.encoded_image_string).astype(int)
    assert shown.shape == (3, 3, 3)
    assert np.abs(shown - level).max() <= 1


def test_opening_a_log_again_replaces_it_and_leaves_the_other_alone(tmp_path: Path) -> None:
    with VisualDL(tmp_path, "pictures") as log:
        log.scalar("kept", 1.0, 1)
    for value in (1.0, 2.0):
        with VisualDL(tmp_path) as log:
            log.scalar("loss", value, 1)
    assert [point.value for point in read(tmp_path / "vdl").get_data("scalar", "loss")] == [2.0]
    assert len(read(tmp_path / "vdl" / "pictures").get_data("scalar", "kept")) == 1


def test_class_names_may_hold_what_visualdl_refuses(tmp_path: Path) -> None:
    with VisualDL(tmp_path) as log:
        log.image("support set/100% \udcff", np.full((2, 2, 3), 9, np.uint8))
        log.embeddings("novel", np.eye(2), ["100%", "\udcff"])
    reader = read(tmp_path / "vdl")
    assert len(reader.get_data("image", "support set/100_ \ufffd")) == 1
    (embeddings,) = reader.get_data("embeddings", "novel")
    assert [list(e.label) for e in embeddings.embeddings.embeddings] == [["100%"], ["\ufffd"]]


def test_labels_must_match_the_embeddings(tmp_path: Path) -> None:
    with VisualDL(tmp_path) as log, pytest.raises(ValueError, match="2 embeddings, but 1 labels"):
        log.embeddings("novel", np.eye(2), ["rose"])


def test_without_visualdl_there_is_one_warning_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "visualdl", None)
    module._log_writer.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                with VisualDL(tmp_path) as log:
                    log.scalar("loss", 1.0, 1)
                    log.image("picture", np.zeros((2, 2, 3), np.uint8))
                    log.histogram("values", np.zeros(3))
                    log.embeddings("novel", np.eye(2), ["a", "b"])
                    log.flush()
    finally:
        module._log_writer.cache_clear()
    assert len(caplog.records) == 1
    assert "pip install visualdl" in caplog.records[0].getMessage()
    assert (tmp_path / "vdl").is_dir()
    assert not list((tmp_path / "vdl").iterdir())


def test_logging_prints_nothing_and_imports_no_paddle(tmp_path: Path) -> None:
    pytest.importorskip("visualdl")
    code = (
        "import sys; from pathlib import Path; from ppfsl.reporting.metrics import MetricLog\n"
        "assert not {'visualdl', 'matplotlib', 'jinja2', 'rich'} & set(sys.modules)\n"
        "with MetricLog(Path(sys.argv[1])) as log: log.log(1, 1, 'base', 'loss', 1.0)\n"
        "with MetricLog(Path(sys.argv[1])) as log: log.log(1, 1, 'base', 'loss', 1.0)\n"
        "assert 'paddle' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
