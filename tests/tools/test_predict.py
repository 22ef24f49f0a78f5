"""tools/predict.py: labels for pictures."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ppfsl.backbones.embedder import Architecture, build_embedder
from ppfsl.backbones.weights import weights_of
from ppfsl.classifier.build import build_classifier
from ppfsl.classifier.model import save_classifier
from ppfsl.config_file import parse_config
from ppfsl.inference import engine
from ppfsl.training.checkpoint import Checkpoint, save_checkpoint
from tests.tools.calling import TOOLS, start, tool


@pytest.fixture(scope="module")
def place(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the classifier `m.safetensors` and six `pictures`; to be read only."""
    folder = tmp_path_factory.mktemp("predict")
    architecture = Architecture("conv4", 16, options=(("width", 4),))
    weights = folder / "weights.safetensors"
    save_checkpoint(Checkpoint(architecture, weights_of(build_embedder(architecture, seed=0))), weights)
    for source, name in (("class00", "rose"), ("class01", "向日葵"), ("class02", "tulip")):
        (folder / "support" / name).mkdir(parents=True)
        for file in sorted((photographs / source).iterdir())[:3]:
            shutil.copy(file, folder / "support" / name)
    config = parse_config(
        {
            "data": {"image_size": 16},
            "device": "cpu",
            "backbone": {"name": "conv4", "width": 4, "projection": "none", "pretrained": str(weights)},
            "adaptations": [{"name": "class_mean"}],
        },
        "test",
    )
    save_classifier(build_classifier(config, folder / "support").classifier, folder / "m.safetensors")
    (folder / "pictures").mkdir()
    for number, file in enumerate(sorted(photographs.rglob("*.png"))[5:100:18]):
        shutil.copy(file, folder / "pictures" / f"图 {number}.png")
    return folder


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PPFSL_CACHE", str(tmp_path / "cache"))


MODEL = ("--model", "m.safetensors", "--device", "cpu")


def predict(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return tool("predict", cwd, *MODEL, *arguments)


def objects(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    def strict(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return [json.loads(line, parse_constant=strict) for line in done.stdout.splitlines()]


@pytest.fixture
def spoiled(place: Path, tmp_path: Path) -> Path:
    """The same with a truncated JPEG and an empty file among the good pictures; to be changed at will."""
    shutil.copytree(place, tmp_path / "place")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    stream = io.BytesIO()
    noise.save(stream, "JPEG")
    pictures = tmp_path / "place" / "pictures"
    (pictures / "图 1b.jpg").write_bytes(stream.getvalue()[:1500])
    (pictures / "图 3b.png").write_bytes(b"")
    return tmp_path / "place"


def test_the_three_forms_agree(place: Path) -> None:
    table, as_json, as_csv = (predict(place, "pictures", *form) for form in ((), ("--json",), ("--csv",)))
    for done in (table, as_json, as_csv):
        assert (done.returncode, done.stderr) == (0, "")
    found = objects(as_json)
    names = [f"pictures/图 {number}.png" for number in range(6)]
    assert [row["picture"] for row in found] == names
    assert {row["label"] for row in found} <= {"rose", "向日葵", "tulip"}
    for row, plain, line in zip(
        csv.DictReader(io.StringIO(as_csv.stdout)), found, table.stdout.splitlines()[1:], strict=True
    ):
        assert (row["picture"], row["label"]) == (plain["picture"], plain["label"])
        assert float(row["probability"]) == plain["probability"] == max(plain["probabilities"].values())
        assert (row["unlike"], row["error"], row["nearest"]) == (str(plain["unlike"]), "", "")
        assert plain["picture"] in line and plain["label"] in line
        assert f"{100 * plain['probability']:.1f} %" in line and f"{plain['similarity']:.3f}" in line
        assert ("none of these?" in line) == plain["unlike"]


def test_a_folder_that_cannot_be_read_is_named_and_the_others_are_labelled(
    spoiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 3):
        next((spoiled / "pictures").glob(f"* {number}b.*")).unlink()
    (spoiled / "pictures" / "closed").mkdir()
    scandir = os.scandir

    def refuse(path: Any) -> Any:  # root may read everything, so the refusal is played
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    done = predict(spoiled, "pictures", "--json")
    assert done.returncode == 2
    assert done.stderr == (
        "error: 1 of 7 pictures could not be read (pictures/closed: the folder cannot be read: Permission denied); "
        "all others are labelled\n"
    )
    rows = objects(done)
    assert rows[0] == {"picture": "pictures/closed", "error": "the folder cannot be read: Permission denied"}
    assert len(rows) == 7 and all("label" in row for row in rows[1:])


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is exported, as it is."""
    found: list[Any] = []
    really = engine._export

    def recorded(*given: Any) -> Any:
        found.append(given)
        return really(*given)

    monkeypatch.setattr(engine, "_export", recorded)
    monkeypatch.setattr(engine, "_kept", {})
    return found


@pytest.mark.parametrize("few", [6, 5])
def test_nothing_is_exported_for_a_few_pictures(
    few: int, place: Path, exported: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "FEW", few)
    done = predict(place, "pictures", "--json")
    assert (done.returncode, len(objects(done)), len(exported)) == (0, 6, int(few < 6))


def test_embeddings_are_kept_for_another_time_unless_told_otherwise(
    place: Path, exported: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(engine, "FEW", 0)
    kept = tmp_path / "cache" / "embeddings"
    first = predict(place, "pictures", "--json", "--no-cache")
    assert len(exported) == 1 and not kept.exists()
    predict(place, "pictures", "--json")
    (file,) = kept.iterdir()
    assert np.load(file).shape == (6, 4)
    exported.clear()
    monkeypatch.setattr(engine, "_kept", {})
    again = predict(place, "pictures", "--json")
    assert (again.stdout, again.returncode, exported) == (first.stdout, 0, [])


def test_pictures_folders_and_neighbours(place: Path) -> None:
    rose = "support/rose/01.png"
    found = objects(predict(place, rose, "pictures", rose, "--json", "--nearest", "2"))
    assert len(found) == 8
    assert found[0] == found[-1]
    assert found[0]["nearest"][0]["file"] == "rose/01.png"
    assert [len(row["nearest"]) for row in found] == [2] * 8
    table = predict(place, "support/rose/01.png", "--nearest", "1")
    assert "nearest support pictures" in table.stdout and "rose/01.png (1.00)" in table.stdout


@pytest.mark.parametrize("form", ["--json", "--csv", None])
def test_bad_pictures_are_named_and_the_others_labelled(spoiled: Path, form: str | None) -> None:
    done = start("predict", spoiled, *MODEL, "pictures", *([form] if form else []))
    assert done.returncode == 2
    assert done.stderr.startswith("error: 2 of 8 pictures could not be read (the first is pictures/图 1b.jpg: ")
    assert done.stderr.endswith("; all others are labelled\n") and done.stderr.count("\n") == 1
    if form == "--json":
        wrong = {row["picture"]: row["error"] for row in objects(done) if "error" in row}
        assert sum("label" in row for row in objects(done)) == 6
    elif form == "--csv":
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        wrong = {row["picture"]: row["error"] for row in rows if row["error"]}
        assert sum(bool(row["label"]) for row in rows) == 6
    else:
        assert done.stdout.count("not readable") == 2 and done.stdout.count(" %") == 6
        return
    assert list(wrong) == ["pictures/图 1b.jpg", "pictures/图 3b.png"]
    assert "truncated" in wrong["pictures/图 1b.jpg"] and "none of JPEG" in wrong["pictures/图 3b.png"]


def test_huge_pictures_are_refused_by_name_in_silence(spoiled: Path) -> None:
    Image.new("1", (100_000, 1000)).save(spoiled / "huge.png")
    done = start("predict", spoiled, *MODEL, "huge.png", "--json")
    assert done.returncode == 2
    assert objects(done) == [{"picture": "huge.png", "error": "100000 x 1000 pixels, more than 89000000"}]
    assert done.stderr.count("\n") == 1, "no remark of Pillow's"


def test_one_bad_picture_of_one(spoiled: Path) -> None:
    done = predict(spoiled, "pictures/图 3b.png")
    assert done.returncode == 2
    assert done.stderr.startswith("error: 1 of 1 picture could not be read (pictures/图 3b.png: it is none of JPEG")
    assert "others" not in done.stderr


@pytest.mark.parametrize("form", ["--json", "--csv", None])
def test_output_that_lacks_the_letters(place: Path, form: str | None) -> None:
    done = start("predict", place, *MODEL, "pictures", *([form] if form else []), PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    if form == "--json":
        assert objects(done)[0]["picture"] == "pictures/图 0.png"
    elif form == "--csv":
        assert next(csv.DictReader(io.StringIO(done.stdout)))["picture"] == r"pictures/\u56fe 0.png"


@pytest.mark.skipif(sys.platform != "linux", reason="file systems elsewhere refuse such names")
@pytest.mark.parametrize("form", ["--json", "--csv", None])
def test_odd_names(place: Path, tmp_path: Path, form: str | None) -> None:
    source = (place / "pictures" / "图 0.png").read_bytes()
    names = (b"\xff.png", b"a\nb.png", b"\x1b[31m.png", b"-x.png", b"[red]\",'.png")
    for name in names:
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(source)  # noqa: PTH118
    done = start("predict", place, *MODEL, os.fsencode(tmp_path), *([form] if form else []))
    assert (done.returncode, done.stderr) == (0, "")
    if form == "--json":
        found = objects(done)
        assert len(found) == 5 and all(row["probability"] == found[0]["probability"] for row in found)
    elif form == "--csv":
        assert len(list(csv.DictReader(io.StringIO(done.stdout)))) == 5
    else:
        assert "\x1b" not in done.stdout and done.stdout.count(" %") == 5


@pytest.mark.parametrize("form", ["--json", "--csv", None])
def test_reader_that_leaves_gets_no_traceback(place: Path, form: str | None) -> None:
    arguments = ["--model", "m.safetensors", "pictures", *([form] if form else [])]
    command = [sys.executable, str(TOOLS / "predict.py"), *arguments]
    tool = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert tool.stdout is not None and tool.stderr is not None
    tool.stdout.close()
    assert (tool.stderr.read(), tool.wait(timeout=600)) == (b"", 141)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere.png",), "nowhere.png does not exist; name a picture or a folder of pictures"),
        (("pictures", "nowhere"), "nowhere does not exist"),
        (
            ("support/rose", "--model", "nowhere.safetensors"),
            "nowhere.safetensors does not exist; name a file that tools/finetune.py has written",
        ),
        (("pictures", "--model", "weights.safetensors"), "weights.safetensors is a checkpoint of a run; build"),
        (("pictures", "--model", "support/rose/00.png"), "00.png is no .safetensors file; build a classifier"),
        (("pictures", "--nearest", "-1"), "--nearest -1 is negative"),
        (
            ("pictures", "--html", "pictures/图 0.png"),
            "--html pictures/图 0.png must end with .html or .htm; predict.py",
        ),
        (("pictures", "--nearest", "x"), "--nearest: invalid int value: 'x'"),
        (("pictures", "--json", "--csv"), "not allowed with argument"),
        (("pictures", "--device", "gpu:99"), "device: gpu:99"),
        (("pictures", "--device", "tpu"), "--device: must be auto, cpu, gpu, or gpu:1 and the like, not 'tpu'"),
        ((), "PICTURE"),
    ],
)
def test_mistakes_are_one_sentence(place: Path, arguments: tuple[str, ...], words: str) -> None:
    done = predict(place, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert words in done.stderr


def test_folders_without_pictures_are_named(place: Path, tmp_path: Path) -> None:
    done = predict(place, str(tmp_path))
    assert done.returncode == 2
    assert "holds no picture (.bmp, " in done.stderr


def test_hostile_classifiers_are_refused(place: Path, tmp_path: Path) -> None:
    content = (place / "m.safetensors").read_bytes()
    damage: dict[str, Callable[[], bytes]] = {
        "truncated": lambda: content[:-100],
        "pickle": lambda: b"\x80\x04cposix\nsystem\n(S'touch ran'\ntR.",
        "huge resize": lambda: content.replace(b'\\"resize\\": 16', b'\\"resize\\": 1e'),
        "wrong size": lambda: content.replace(b'\\"image_size\\": 16', b'\\"image_size\\": 99'),
    }
    for name, make in damage.items():
        assert make() != content, name
        (tmp_path / "m.safetensors").write_bytes(make())
        done = predict(tmp_path, str(place / "pictures"))
        assert (done.returncode, done.stdout) == (2, ""), name
        assert done.stderr.startswith("error: m.safetensors is ") and done.stderr.count("\n") == 1, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_help_shows_examples(place: Path) -> None:
    done = predict(place, "--help")
    assert done.returncode == 0
    for words in ("holidays/ --csv > labels.csv", "--nearest", "the exit status is"):
        assert words in done.stdout


def test_page_beside_the_table(place: Path, tmp_path: Path) -> None:
    page = tmp_path / "new" / "answers.html"
    done = predict(place, "pictures", "--html", str(page))
    assert done.returncode == 0, done.stderr
    assert f"page: {page}" in done.stderr
    text = page.read_text(encoding="utf-8")
    count = len(list((place / "pictures").iterdir()))
    assert text.count("</li>") == count and text.count("<img") == 4 * count
    (tmp_path / "folder.html").mkdir()
    done = predict(place, "pictures", "--html", str(tmp_path / "folder.html"), "--csv")
    assert done.returncode == 2 and "folder.html: it is a folder; choose another name" in done.stderr
    assert done.stdout == "", "it is said before the work"
