"""What users get wrong: exit status 2, one line on stderr, and nothing written."""

import contextlib
import errno
import importlib.util
import io
import os
import runpy
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.io import savemat

from ppfsl.training.checkpoint import load_checkpoint, save_checkpoint

Tree = dict[str, Any]
Arguments = list[str]
TOOLS = Path(__file__).parents[2] / "tools"


def run_tool(name: str, *arguments: str) -> tuple[int, str]:
    """A tool as if from the command line, without a new process: its exit status and what it says on stderr."""
    stderr = io.StringIO()
    before = sys.argv, list(sys.path)
    sys.argv = [f"{name}.py", *arguments]
    try:
        with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(io.StringIO()):
            runpy.run_path(str(TOOLS / f"{name}.py"), run_name="__main__")
        return 0, stderr.getvalue()
    except SystemExit as leaving:
        return int(leaving.code or 0), stderr.getvalue()
    finally:
        sys.argv, sys.path[:] = before


def start_tool(name: str, *arguments: str, cwd: Path, options: tuple[str, ...] = ()) -> tuple[int, str, str]:
    """A tool in a process of its own: its exit status, stdout and stderr."""
    done = subprocess.run(
        [sys.executable, *options, str(TOOLS / f"{name}.py"), *arguments],
        cwd=cwd, env={**os.environ, "COLUMNS": "100"}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def assert_one_sentence(status: int, stderr: str, *words: str) -> None:
    assert status == 2, stderr
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1, stderr
    assert stderr.endswith("\n")
    for word in words:
        assert word in stderr


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
    }


@pytest.fixture(scope="module")
def tiny(tiny_tree: Callable[[], Tree], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration file that works."""
    path = tmp_path_factory.mktemp("configuration") / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_tree()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run of it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    status, stderr = run_tool("train", "-c", str(tiny), "-o", f"output_dir={folder}")
    assert status == 0, stderr
    return folder


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where relative paths lead, so that a test sees whatever is written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PPFSL_DATA", raising=False)
    return tmp_path


FLOWERS = ["data.name=flowers102", "data.folder=null", "data.split=metadataset", "data.root=raw"]

MISTAKES: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "unknown key": (["pretrain.0.epocs=3"], ("unknown key 'pretrain.0.epocs'", "did you mean 'pretrain.0.epochs'?")),
    "unknown group": (["evaluaton.way=3"], ("unknown key 'evaluaton'", "'evaluation'")),
    "no such key at all": (["data.zzz=1"], ("unknown key 'data.zzz'", "known: name, root")),
    "wrong type": (["evaluation.episodes=many"], ("evaluation.episodes", "'many'")),
    "fraction for a count": (["evaluation.way=2.5"], ("evaluation.way", "2.5")),
    "out of range": (["pretrain.0.optimizer.lr=0"], ("pretrain.0.optimizer.lr", "0")),
    "unknown choice": (["backbone.name=resnet99"], ("backbone.name", "resnet18", "resnet99")),
    "unknown objective": (["pretrain.0.objective.name=magic"], ("pretrain.0.objective.name", "cross_entropy")),
    "contradiction": (["backbone.name=resnet12"], ("width belongs to conv4",)),
    "override without value": (["seed"], ("-o seed", "key.sub=value")),
    "override below a number": (["seed.x=1"], ("tiny.yaml: seed: ", "{'x': 1}")),
    "override outside a list": (["pretrain.7.epochs=1"], ("-o pretrain.7.epochs=1", "'7'")),
    "override that is no YAML": (["seed=[1"], ("-o seed=[1",)),
    "missing folder of images": (["data.folder=absent", "data.root=raw"], ("raw/absent does not exist",)),
    "missing official files": (FLOWERS, ("imagelabels.mat is missing", "tools/prepare_data.py flowers102")),
    "unknown split": (["data.split=metadatset"], ("data.split", "metadatset")),
    "missing split file": (["data.split=absent.json"], ("there is no file absent.json",)),
    "more ways than classes": (["evaluation.way=4"], ("4-way episodes need 4 classes", "there are 3")),
    "more shots than images": (["evaluation.shot=9"], ("12 images", "9 shots", "lower evaluation.shot")),
    "support set of unknown class": (["evaluation.support_set.classes=[1,5,99]"], ("class 99 is not among the novel",)),
    "support set of repeated class": (["evaluation.support_set.classes=[1,1,5]"], ("support_set.classes",)),
    "missing weights": (["backbone.pretrained=absent.safetensors"], ("there is no weights file absent.safetensors",)),
    "no weights to be had": (["backbone.pretrained=imagenet"], ("conv4", "backbone.pretrained")),
    "image too small": (["backbone.name=resnet12", "backbone.width=null", "data.image_size=8"], ("image_size",)),
    "patience for no validation": (
        ["data.split_ratio=[0.75,0,0.25]", "pretrain.0.patience=1"],
        ("pretrain.0.patience", "no validation classes", "leave patience out"),
    ),
    "unknown device": (["device=tpu"], ("device", "tpu")),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_the_configuration(tiny: Path, finished: Path, own_folder: Path, mistake: str) -> None:
    overrides, words = MISTAKES[mistake]
    arguments = [part for override in overrides for part in ("-o", override)]
    status, stderr = run_tool("train", "-c", str(tiny), *arguments)
    assert_one_sentence(status, stderr, *words)
    assert list(own_folder.iterdir()) == []

    before = contents(finished)
    status, stderr = run_tool("train", "-c", str(tiny), *arguments, "-o", f"output_dir={finished}")
    assert_one_sentence(status, stderr)  # which may be that the folder holds another run
    assert contents(finished) == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, ("there is no configuration file tiny.yaml",)),
        ("seed: [1", ("tiny.yaml", "not valid YAML")),
        ("just words", ("tiny.yaml", "must hold keys and values")),
        ("_base_: absent.yaml", ("there is no configuration file absent.yaml",)),
        ("_base_: tiny.yaml", ("tiny.yaml inherits from itself",)),
        ("data: {name: folder}", ("tiny.yaml: data", "folder")),
        ("seed: 1\n\tdevice: cpu", ("tiny.yaml, line 2",)),
        ("evaluation: 3", ("tiny.yaml: evaluation",)),
    ],
)
def test_mistakes_in_the_configuration_file(own_folder: Path, text: str | None, words: tuple[str, ...]) -> None:
    if text is not None:
        (own_folder / "tiny.yaml").write_text(text, encoding="utf-8")
    before = contents(own_folder)
    assert_one_sentence(*run_tool("train", "-c", "tiny.yaml"), *words)
    assert contents(own_folder) == before


@pytest.mark.parametrize("tool", ["train", "eval", "build_support_set"])
def test_missing_and_unknown_arguments(tool: str, own_folder: Path) -> None:
    assert_one_sentence(*run_tool(tool), "-c/--config", f"{tool}.py --help")
    assert_one_sentence(*run_tool(tool, "-c", "x.yaml", "--checkpoint", "c", "--output", "o", "--magic"), "--")
    assert list(own_folder.iterdir()) == []


def overridden(tiny: Path, **values: object) -> Arguments:
    """Arguments of a tool; the keys of the configuration are written with __ for their dots."""
    arguments = ["-c", str(tiny)]
    for key, value in {"data__cache_dir": "cache", **values}.items():
        arguments += ["-o", f"{key.replace('__', '.')}={value}"]
    return arguments


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


def test_unwritable_output_folder(tiny: Path, own_folder: Path) -> None:
    (own_folder / "file").write_text("not a folder", encoding="utf-8")
    arguments = overridden(tiny, output_dir="file/run")
    assert_one_sentence(*run_tool("train", *arguments), "file/run", "choose another")
    assert (own_folder / "file").read_text(encoding="utf-8") == "not a folder"


def test_unwritable_cache(tiny: Path, own_folder: Path) -> None:
    (own_folder / "cache").write_text("not a folder", encoding="utf-8")
    assert_one_sentence(*run_tool("train", *overridden(tiny, output_dir="run")), "cache")
    assert not (own_folder / "run").exists()


def test_no_gpu_to_be_had(tiny: Path, own_folder: Path) -> None:
    import paddle

    if paddle.is_compiled_with_cuda():
        pytest.skip("this Paddle may use GPUs")
    for device in ("gpu", "gpu:1"):
        words = (f"device: {device} needs a GPU build of PaddlePaddle", "set device to cpu")
        assert_one_sentence(*run_tool("train", *overridden(tiny, output_dir="run", device=device)), *words)
    assert list(own_folder.iterdir()) == []


def test_weights_of_another_architecture(tiny: Path, finished: Path, own_folder: Path) -> None:
    best = finished / "checkpoints" / "best.safetensors"
    arguments = overridden(tiny, output_dir="run", backbone__pretrained=best, backbone__width=5)
    assert_one_sentence(*run_tool("train", *arguments), str(best), "shape", "another architecture")
    arguments += ["-o", "backbone.name=resnet12", "-o", "backbone.width=null"]
    assert_one_sentence(*run_tool("train", *arguments), str(best), "another architecture")
    assert not (own_folder / "run").exists()


def test_checkpoints_that_cannot_be_read(tiny: Path, finished: Path, own_folder: Path) -> None:
    content = (finished / "checkpoints" / "best.safetensors").read_bytes()
    (own_folder / "damaged.safetensors").write_bytes(content[: len(content) // 2])
    (own_folder / "words.safetensors").write_text("just words", encoding="utf-8")
    (own_folder / "empty.safetensors").write_bytes(b"")
    (own_folder / "folder.safetensors").mkdir()
    before = contents(own_folder)
    arguments = overridden(tiny, output_dir="run")
    for name in ("damaged", "words", "empty", "folder", "absent"):
        path = f"{name}.safetensors"
        assert_one_sentence(*run_tool("eval", *arguments, "--checkpoint", path), path)
    assert contents(own_folder) == before, "a checkpoint is looked at before anything is decoded or written"


def test_a_file_of_weights_is_no_checkpoint(tiny: Path, own_folder: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3, np.float32)}, own_folder / "weights.safetensors")
    status, stderr = run_tool("eval", *overridden(tiny, output_dir="run"), "--checkpoint", "weights.safetensors")
    assert_one_sentence(status, stderr, "weights.safetensors is not a checkpoint of ppfsl")


@pytest.mark.parametrize("key", ["image_size", "channels"])
def test_checkpoint_for_other_images(tiny: Path, finished: Path, own_folder: Path, key: str) -> None:
    arguments = overridden(tiny, output_dir="run", **{f"data__{key}": {"image_size": 20, "channels": 1}[key]})
    best = finished / "checkpoints" / "best.safetensors"
    status, stderr = run_tool("eval", *arguments, "--checkpoint", str(best))
    remedy = {"image_size": "-o data.image_size=16", "channels": "-o data.channels=3"}[key]
    assert_one_sentence(status, stderr, str(best), f"data.{key}", remedy)
    assert not (own_folder / "run").exists()
    status, stderr = run_tool("eval", *arguments, *remedy.split(), "--checkpoint", str(best))
    assert status == 0, stderr


def test_checkpoint_whose_weights_do_not_fit_what_it_says(tiny: Path, finished: Path, own_folder: Path) -> None:
    checkpoint = load_checkpoint(finished / "checkpoints" / "best.safetensors")
    checkpoint.weights.pop("projection.bias")  # type: ignore[attr-defined]
    save_checkpoint(checkpoint, own_folder / "lacking.safetensors")
    status, stderr = run_tool("eval", *overridden(tiny, output_dir="run"), "--checkpoint", "lacking.safetensors")
    assert_one_sentence(status, stderr, "lacking.safetensors lacks weight 'projection.bias'")


def test_loss_that_is_not_finite(tiny: Path, own_folder: Path) -> None:
    """The remedy works: the same command with another rate ends well."""
    arguments = overridden(tiny, output_dir="run")
    wrong = [*arguments, "-o", "pretrain.0.steps_per_epoch=1", "-o", "pretrain.0.optimizer={name: sgd, lr: 1.0e+30}"]
    status, stderr = run_tool("train", *wrong)
    assert status == 2
    *_, line = stderr.splitlines()
    assert line.startswith("error: 1_cross_entropy: the loss is not finite at step 1 of epoch 2; ")
    assert "the last good checkpoint is run/checkpoints/last.safetensors" in line
    assert "Traceback" not in stderr
    for name in ("last", "best"):
        checkpoint = load_checkpoint(own_folder / "run" / "checkpoints" / f"{name}.safetensors")
        assert checkpoint.facts["progress"]["epochs"] == 1
        for arrays in (checkpoint.weights, checkpoint.training):
            assert all(np.isfinite(array).all() for array in arrays.values())
    for row in (own_folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        assert "NaN" not in row
        assert "Infinity" not in row
    assert not (own_folder / "run" / "result.json").exists()

    again = run_tool("train", *wrong)
    assert again[0] == 2, "a run that diverged does so again"
    assert again[1].splitlines()[-1] == line


def test_full_disk(tiny: Path, own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two epochs; once there is room again the run goes on."""
    arguments = overridden(tiny, output_dir="run")
    really, left = Path.write_bytes, [4]

    def full(self: Path, content: bytes) -> int:
        left[0] -= self.suffix == ".tmp"
        if left[0] == 0:
            really(self, content[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return really(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    status, stderr = run_tool("train", *arguments)
    assert status == 2
    assert stderr.splitlines()[-1].startswith("error: No space left on device; make room")
    assert "Traceback" not in stderr
    assert not list((own_folder / "run").rglob("*.tmp"))
    assert load_checkpoint(own_folder / "run" / "checkpoints" / "last.safetensors").facts["progress"]["epochs"] == 0
    status, stderr = run_tool("train", *arguments)
    assert status == 0, stderr


def test_a_process_says_no_more_than_the_sentence(tiny: Path, own_folder: Path) -> None:
    status, stdout, stderr = start_tool("train", "-c", str(tiny), "-o", "evaluation.ways=3", cwd=own_folder)
    assert_one_sentence(status, stderr, "did you mean 'evaluation.way'?")
    assert stdout == ""
    assert list(own_folder.iterdir()) == []


@pytest.mark.parametrize("tool", sorted(path.stem for path in TOOLS.glob("*.py")))
def test_help_fits_a_screen_and_needs_no_paddle(tool: str, own_folder: Path) -> None:
    status, stdout, stderr = start_tool(tool, "--help", cwd=own_folder, options=("-X", "importtime"))
    assert status == 0
    assert stdout.startswith("usage: ")
    assert len(stdout.splitlines()) <= 30
    assert max(map(len, stdout.splitlines())) <= 100
    loaded = {line.rsplit("|", 1)[1].strip() for line in stderr.splitlines() if "|" in line}
    assert "argparse" in loaded
    assert not loaded & {"paddle", "scipy", "matplotlib", "visualdl", "pydantic"}
    assert importlib.util.find_spec("paddle") is not None, "else this test says nothing"
