"""Exported models give ppfsl's numbers, and run where ppfsl is not."""

import errno
import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn
from PIL import Image

from ppfsl.backbones.embedder import Architecture, build_embedder
from ppfsl.classifier import export as module
from ppfsl.classifier.export import LabellingNetwork, export
from ppfsl.classifier.model import Classifier
from ppfsl.classifier.predict import Answer, Labeller
from ppfsl.errors import UserError

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("paddle2onnx", "onnxruntime"))
onnx = pytest.mark.skipif(not HAS_ONNX, reason="paddle2onnx or onnxruntime is not installed")
NARROW = Architecture("conv4", 16, options=(("width", 4),))
FORMATS = ["paddle", pytest.param("onnx", marks=onnx)]


def classifier(architecture: Architecture = NARROW) -> Classifier:
    embedder, rng = build_embedder(architecture, 0), np.random.default_rng(0)
    embedder.eval()
    channels = architecture.channels
    return Classifier(
        embedder=embedder,
        resize=20,
        class_names=("rose", "睡莲", "tulip"),
        weight=20 * rng.normal(size=(embedder.dim, 3)).astype(np.float32),
        bias=rng.normal(size=3).astype(np.float32),
        embeddings=rng.normal(size=(3, embedder.dim)).astype(np.float32),
        labels=np.arange(3),
        thumbnails=np.zeros((3, 8, 8, channels), dtype=np.uint8),
        files=("a.png", "b.png", "c.png"),
        rejection=None,
        adaptation="class_mean",
        origin="nowhere",
    )


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Wide, tall, square, grey, one that lies on its side by its orientation tag, 16 bits deep, transparent."""
    rng, files = np.random.default_rng(1), []
    for number, shape in enumerate([(24, 41, 3), (47, 25, 3), (20, 20, 3), (30, 31), (33, 50, 3)]):
        image = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
        exif = Image.Exif()
        if number == 4:
            exif[274] = 6
        files.append(tmp_path / f"picture {number}.png")
        image.save(files[-1], exif=exif)
    deep = Image.fromarray(rng.integers(0, 1 << 16, (30, 30), dtype=np.uint16))
    pixels = rng.integers(0, 256, (30, 30, 4), dtype=np.uint8)
    clear = [Image.fromarray(pixels, "RGBA"), Image.fromarray(pixels[:, :, :2].copy(), "LA")]
    for name, image in zip(("deep", "clear", "clear grey"), (deep, *clear), strict=True):
        files.append(tmp_path / f"{name}.png")
        image.save(files[-1])
    palette = Image.fromarray(pixels[:, :, :3].copy()).quantize(8)
    files.append(tmp_path / "clear palette.png")
    palette.save(files[-1], transparency=3)
    return files


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("channels", [3, 1])
def test_the_example_labels_pictures_as_ppfsl_does(
    form: Any, channels: int, pictures: list[Path], tmp_path: Path
) -> None:
    built = classifier(Architecture("conv4", 16, channels, options=(("width", 4),)))
    export(built, built.resize, tmp_path / "exported", [form])
    done = run_example(form, tmp_path / "exported", *map(str, pictures))
    assert done.returncode == 0, done.stderr
    assert "Running PIR pass" not in done.stderr
    expected = []
    for answer in Labeller(built).label(pictures):
        assert isinstance(answer, Answer)
        expected.append(f"{answer.name} {answer.label} {answer.probability:.1%}")
    assert done.stdout.splitlines() == expected


def _without_ppfsl() -> dict[str, str]:
    return {**os.environ, "PYTHONIOENCODING": "utf-8"}


@pytest.mark.parametrize(
    ("form", "files"),
    [("paddle", ["model.json", "model.pdiparams"]), pytest.param("onnx", ["model.onnx"], marks=onnx)],
)
def test_the_files_of_a_format(form: Any, files: list[str], tmp_path: Path) -> None:
    written = export(classifier(), 20, tmp_path / "out", [form])
    assert [path.name for path in written] == [*files, "about.json", f"run_{form}.py", "exported.py"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in written)
    about = json.loads((tmp_path / "out" / "about.json").read_text(encoding="utf-8"))
    assert about["classes"] == ["rose", "睡莲", "tulip"]
    assert (about["resize"], about["image_size"], about["channels"]) == (20, 16, 3)


def run_example(form: str, folder: Path, *pictures: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, f"run_{form}.py", *pictures]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=_without_ppfsl())


@pytest.mark.parametrize("form", FORMATS)
def test_mistakes_with_the_example_are_one_sentence_each(form: Any, pictures: list[Path], tmp_path: Path) -> None:
    export(classifier(), 20, tmp_path, [form])
    expected = f"error: name pictures: python run_{form}.py picture.jpg ...\n"
    for arguments in ((), ("--help",)):
        done = run_example(form, tmp_path, *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)
    (tmp_path / "empty.png").write_bytes(b"")
    Image.fromarray(np.zeros((20, 20), np.float32)).save(tmp_path / "floating.tiff")
    Image.fromarray(np.zeros((20, 20), np.int32)).save(tmp_path / "integers.tiff")
    done = run_example(form, tmp_path, "empty.png", "floating.tiff", "integers.tiff", pictures[0].name)
    assert done.returncode == 2
    assert done.stdout.startswith("picture 0.png ") and done.stdout.count("\n") == 1
    *_, first, second, third = done.stderr.splitlines()
    assert first == "error: empty.png is not a readable picture (cannot identify image file 'empty.png')"
    assert second.startswith("error: floating.tiff is not a readable picture (floating-point grey; convert it")
    assert third.startswith("error: integers.tiff is not a readable picture (32-bit or signed grey; convert it")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends programs in other ways")
def test_the_example_ends_without_a_traceback(pictures: list[Path], tmp_path: Path) -> None:
    export(classifier(), 20, tmp_path, ["paddle"])
    interrupted = "import signal\nfrom exported import main\n"
    interrupted += "main(lambda: signal.raise_signal(signal.SIGINT))\n"
    (tmp_path / "run_paddle.py").rename(tmp_path / "run_whole.py")
    (tmp_path / "run_paddle.py").write_text(interrupted, encoding="utf-8")
    done = run_example("paddle", tmp_path, "a.png")
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "run_whole.py", *(picture.name for picture in pictures)]
    with open(writing, "w") as output:  # noqa: PTH123, a descriptor
        left = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert left.returncode == -signal.SIGPIPE
    assert "Traceback" not in left.stderr


def test_the_example_names_an_absent_package(tmp_path: Path) -> None:
    export(classifier(), 20, tmp_path, ["paddle"])
    (tmp_path / "paddle.py").write_text("raise ImportError(\"No module named 'paddle'\")", encoding="utf-8")
    done = run_example("paddle", tmp_path, "a.png")
    assert done.stderr == "error: No module named 'paddle'; the first line of run_paddle.py says what to install\n"
    assert (done.returncode, done.stdout) == (2, "")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def other_classifier() -> Classifier:
    return classifier(replace(NARROW, options=(("width", 5),)))


@pytest.mark.parametrize("renamed", [3, 4])
def test_a_mixture_of_two_exports_is_refused(renamed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kill between two renames leaves."""
    export(classifier(), 20, tmp_path, ["paddle"])
    before, really, left = contents(tmp_path), Path.replace, [renamed + 1]  # one for about.json in its first place

    def killed(self: Path, target: Path) -> Path:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return really(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        export(other_classifier(), 20, tmp_path, ["paddle"])
    now = contents(tmp_path)
    assert now.keys() == before.keys() and now["about.json"] != before["about.json"]
    done = run_example("paddle", tmp_path, "picture.png")
    expected = f"error: model.json and about.json in {tmp_path} are of two exports; export again\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)


def test_an_export_that_fails_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(classifier(), 20, tmp_path, ["paddle"])
    before, really = contents(tmp_path), module.shutil.copyfile

    def full(source: Path, target: Path) -> None:
        if source.suffix == ".json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        really(source, target)

    monkeypatch.setattr(module.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left on device"):
        export(other_classifier(), 20, tmp_path, ["paddle"])
    assert contents(tmp_path) == before


def test_exports_without_digests_still_answer(pictures: list[Path], tmp_path: Path) -> None:
    export(classifier(), 20, tmp_path, ["paddle"])
    about = json.loads((tmp_path / "about.json").read_text(encoding="utf-8"))
    del about["digests"]
    (tmp_path / "about.json").write_text(json.dumps(about), encoding="utf-8")
    done = run_example("paddle", tmp_path, pictures[0].name)
    assert done.returncode == 0, done.stderr
    assert "picture 0.png " in done.stdout


def test_scripts_of_an_earlier_export_are_brought_up_to_date(tmp_path: Path) -> None:
    """One from before there were digests would give the old model's answers the new classes' names."""
    export(classifier(), 20, tmp_path, ["paddle"])
    (tmp_path / "run_onnx.py").write_text("print('sunflower')")
    export(other_classifier(), 20, tmp_path, ["paddle"])
    assert "check_files" in (tmp_path / "exported.py").read_text(encoding="utf-8")
    assert "from exported import" in (tmp_path / "run_onnx.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["model.json", "exported.py"])
def test_files_that_are_of_no_export_are_not_replaced(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError) as caught:
        export(classifier(), 20, tmp_path, ["paddle"])
    assert str(caught.value) == (
        f"cannot write {tmp_path / name}: it exists, and is of no export; choose another folder"
    )
    assert contents(tmp_path) == {name: b"mine"}


def test_a_folder_that_was_not_copied_whole_is_said_in_a_sentence(pictures: list[Path], tmp_path: Path) -> None:
    export(classifier(), 20, tmp_path, ["paddle"])
    (tmp_path / "model.pdiparams").unlink()
    done = run_example("paddle", tmp_path, pictures[0].name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: the model cannot be read (") and done.stderr.count("\n") == 1


def test_formats_of_one_network_may_be_exported_one_after_another(tmp_path: Path) -> None:
    about = tmp_path / "about.json"
    export(classifier(), 20, tmp_path, ["paddle"])
    written = json.loads(about.read_text(encoding="utf-8"))
    assert written["digests"].keys() == {"model.json", "model.pdiparams"}
    written["digests"]["model.onnx"] = "0"
    for source, kept in ((classifier(), True), (other_classifier(), False)):
        about.write_text(json.dumps(written), encoding="utf-8")
        export(source, 20, tmp_path, ["paddle"])
        digests = json.loads(about.read_text(encoding="utf-8"))["digests"]
        assert ("model.onnx" in digests) == kept
        assert digests["model.pdiparams"] == hashlib.sha256((tmp_path / "model.pdiparams").read_bytes()).hexdigest()


def test_other_files_called_about_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "about.json").write_text('{"author": "me"}')
    with pytest.raises(
        UserError, match=r"^cannot write \S+/about\.json: it exists and is no description of an exported "
    ):
        export(classifier(), 20, tmp_path, ["paddle"])
    assert contents(tmp_path) == {"about.json": b'{"author": "me"}'}


def test_probabilities_are_those_of_the_head() -> None:
    built = classifier()
    images = np.random.default_rng(2).uniform(0, 255, (4, 3, 16, 16)).astype(np.float32)
    with paddle.no_grad():
        embeddings = built.embedder(paddle.to_tensor(images)).numpy()
        found = LabellingNetwork(built)(paddle.to_tensor(images)).numpy()
    logits = np.exp(built.logits(embeddings))
    np.testing.assert_allclose(found, logits / logits.sum(1, keepdims=True), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("backbone", ["resnet12", "resnet18", "mobilenet_v1"])
def test_every_backbone_is_checked_against_eager_mode(form: Any, backbone: str, tmp_path: Path) -> None:
    options = (("scale", 0.25),) if backbone == "mobilenet_v1" else ()
    embedder = build_embedder(Architecture(backbone, 32, 3, 6, options=options), 0)
    before = nn.functional.leaky_relu
    assert (tmp_path / "out" / "about.json") in export(embedder, 32, tmp_path / "out", [form])
    assert nn.functional.leaky_relu is before
    assert json.loads((tmp_path / "out" / "about.json").read_text())["classes"] is None


def test_a_model_that_differs_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    really = module._paddle

    def wrong(model: Path) -> Any:
        paths, run = really(model)
        return paths, lambda images: run(images) + 1e-3

    monkeypatch.setattr(module, "_paddle", wrong)
    with pytest.raises(
        UserError, match=r"^the exported paddle model differs from ppfsl's by 1\.0e-03, more than 1e-04; "
    ):
        export(classifier(), 20, tmp_path / "out", ["paddle"])
    assert list((tmp_path / "out").iterdir()) == []


def test_absent_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "paddle2onnx", None)
    with pytest.raises(UserError, match=r"^ONNX needs two more packages .*pip install paddle2onnx onnxruntime, or"):
        export(classifier(), 20, tmp_path / "out", ["onnx"])


@onnx
def test_what_cannot_be_converted_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import paddle2onnx

    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(paddle2onnx, "export", failing)
    with pytest.raises(UserError, match=r"^Paddle2ONNX cannot convert this network \(no such operator\)"):
        export(classifier(), 20, tmp_path / "out", ["onnx"])


@pytest.mark.parametrize("form", FORMATS)
def test_finished_embedders_are_exported(form: Any, tmp_path: Path) -> None:
    """Mirror images, roots of numbers of both signs, a vector and a matrix."""
    architecture = replace(NARROW, projection=6, mirror=True, power=0.5, centered=True, whitened=True)
    embedder, rng = build_embedder(architecture, 0), np.random.default_rng(0)
    embedder.center.set_value(rng.normal(size=6).astype(np.float32) / 10)
    embedder.whitening.set_value(rng.normal(size=(6, 6)).astype(np.float32))
    embedder.eval()
    export(embedder, 20, tmp_path, [form])  # which compares with eager mode
    assert json.loads((tmp_path / "about.json").read_text(encoding="utf-8"))["image_size"] == 16
