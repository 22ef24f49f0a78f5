"""tools/finetune.py: from a folder of pictures to a classifier's file."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ppfsl.backbones.embedder import Architecture, build_embedder
from ppfsl.backbones.weights import weights_of
from ppfsl.classifier.model import load_classifier
from ppfsl.training.checkpoint import Checkpoint, save_checkpoint
from tests.tools.calling import start, tool

OPTIONS = ("backbone.name=conv4", "backbone.width=4", "data.image_size=16")


@pytest.fixture
def place(photographs: Path, tmp_path: Path) -> Path:
    """A folder with `flowers`, three classes of three pictures, and `weights.safetensors`."""
    for source, name in (("class00", "rose"), ("class01", "向日葵"), ("class02", "[bold]tulip")):
        (tmp_path / "flowers" / name).mkdir(parents=True)
        for file in sorted((photographs / source).iterdir())[:3]:
            shutil.copy(file, tmp_path / "flowers" / name)
    architecture = Architecture("conv4", 16, options=(("width", 4),))
    checkpoint = Checkpoint(architecture, weights_of(build_embedder(architecture, seed=0)))
    save_checkpoint(checkpoint, tmp_path / "weights.safetensors")
    return tmp_path


def finetune(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return tool("finetune", place, *words(*arguments))


def words(*arguments: str) -> list[str]:
    """A whole command line, some of whose arguments are other than usual."""
    embedder = () if "--checkpoint" in arguments else (*OPTIONS, "backbone.pretrained=weights.safetensors")
    options = [word for option in ("device=cpu", *embedder) for word in ("-o", option)]
    given = {"--support": "flowers", "--model": "my.safetensors"}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    return [*(word for pair in given.items() for word in pair), *options]


def refused(done: subprocess.CompletedProcess[str], *sayings: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    for saying in sayings:
        assert saying in done.stderr


def test_folder_to_classifier(place: Path) -> None:
    done = start("finetune", place, *words())
    assert (done.returncode, done.stderr) == (0, "")
    first, classes, left_out, threshold = done.stdout.splitlines()
    assert first == "my.safetensors: 3 classes, 3 each, embedder conv4, weights weights.safetensors"
    assert classes == "classes: [bold]tulip; rose; 向日葵"
    assert "of 9 right" in left_out
    assert "chosen on the support set" in threshold
    assert load_classifier(place / "my.safetensors").class_names == ("[bold]tulip", "rose", "向日葵")


def test_the_file_needs_nothing_else(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert finetune(place).returncode == 0
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.move(place / "my.safetensors", elsewhere / "its.safetensors")
    picture = shutil.copy(place / "flowers" / "rose" / "00.png", elsewhere / "p.png")
    for gone in (place / "flowers", place / "weights.safetensors"):
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    done = tool("predict", elsewhere, "--model", "its.safetensors", "p.png", "--nearest", "1")
    assert (done.returncode, done.stderr) == (0, ""), picture
    assert "rose/00.png (1.00)" in done.stdout


def test_lists_and_checkpoints(place: Path) -> None:
    rows = "file,label\nflowers/rose/00.png,红\nflowers/向日葵/00.png,黄\n"
    (place / "list.csv").write_text(rows, encoding="utf-8-sig")
    done = finetune(place, "--support", "list.csv", "--checkpoint", "weights.safetensors")
    assert done.returncode == 0, done.stderr
    assert "2 classes, 1 each, embedder weights.safetensors" in done.stdout
    assert "no rejection threshold" in done.stdout
    assert load_classifier(place / "my.safetensors").class_names == ("红", "黄")


def test_output_that_lacks_the_letters(place: Path) -> None:
    done = start("finetune", place, *words(), PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "classes: [bold]tulip; rose; ???" in done.stdout


def test_mistakes_leave_the_old_classifier(place: Path) -> None:
    assert finetune(place).returncode == 0
    content = (place / "my.safetensors").read_bytes()
    (place / "flowers" / "rose" / "01.png").write_bytes(b"<html>")
    before = sorted(place.rglob("*"))
    refused(finetune(place), "flowers/rose/01.png is not a readable picture (it is none of JPEG", "leave it out")
    assert (place / "my.safetensors").read_bytes() == content
    assert sorted(place.rglob("*")) == before


def _of_one_class(place: Path) -> None:
    for name in ("rose", "向日葵"):
        shutil.rmtree(place / "flowers" / name)


def _of_huge_pictures(place: Path) -> None:
    Image.new("1", (100_000, 1000)).save(place / "flowers" / "rose" / "huge.png")


@pytest.mark.parametrize(
    ("change", "arguments", "saying"),
    [
        (None, ("--model", "my.onnx"), "--model my.onnx must end with .safetensors"),
        (None, ("--support", "nowhere"), "nowhere does not exist; give a folder"),
        (None, ("--support", "weights.safetensors"), "is neither a folder nor a .json or .csv list"),
        (None, ("--checkpoint", "nowhere"), "there is no weights file nowhere"),
        (None, ("--checkpoint", "flowers"), "flowers holds no trained embedder"),
        (None, ("-c", "nowhere.yaml"), "nowhere.yaml"),
        (_of_one_class, (), "holds one class folder, [bold]tulip, and at least two are needed"),
        (_of_huge_pictures, (), "huge.png is not a readable picture (100000 x 1000 pixels, more than"),
    ],
)
def test_mistakes_are_one_sentence(
    place: Path, change: Callable[[Path], Any] | None, arguments: tuple[str, ...], saying: str
) -> None:
    if change is not None:
        change(place)
    refused(finetune(place, *arguments), saying)
    assert not (place / "my.safetensors").exists()


@pytest.mark.parametrize(
    ("option", "key"),
    [
        ("data.image_size=64", "data.image_size"),
        ("data={embedding_cache: 0, image_size: 64}", "data.image_size"),
        ("backbone.name=conv4", "backbone.name"),
        ("pretrain=[]", "pretrain"),
    ],
)
@pytest.mark.parametrize("name", ["finetune", "serve"])
def test_keys_that_a_checkpoint_leaves_unread_are_refused(place: Path, name: str, option: str, key: str) -> None:
    if name == "serve":
        pytest.importorskip("uvicorn", reason="needs requirements-serve.txt", exc_type=ImportError)
    own = {"finetune": ("--support", "flowers", "--model", "my.safetensors"), "serve": ("--port", "0")}[name]
    done = tool(name, place, *own, "--checkpoint", "weights.safetensors", "-o", "seed=1", "-o", option)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: -o {option}: nothing reads {key} where --checkpoint is given; leave it out\n"
    assert not (place / "my.safetensors").exists()


def test_keys_that_are_read_beside_a_checkpoint_are_taken(place: Path) -> None:
    options = ("seed=1", "threads=1", "adaptations=[{name: class_mean}]", "data.embedding_cache=0", "onednn=false")
    words = [word for option in options for word in ("-o", option)]
    done = tool(
        "finetune", place, "--support", "flowers", "--model", "my.safetensors", "--checkpoint", "weights.safetensors",
        *words,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_places_that_cannot_be_written_are_named(place: Path) -> None:
    (place / "folder.safetensors").mkdir()
    refused(finetune(place, "--model", "folder.safetensors"), "cannot write folder.safetensors: it is a folder")
    refused(finetune(place, "--model", "weights.safetensors/m.safetensors"), "cannot create the folder")


def test_files_of_other_kinds_are_not_replaced_and_classifiers_are(place: Path) -> None:
    content = (place / "weights.safetensors").read_bytes()
    refused(
        finetune(place, "--model", "weights.safetensors"),
        "error: cannot write weights.safetensors: it exists and is no classifier of ppfsl; choose another name\n",
    )
    assert (place / "weights.safetensors").read_bytes() == content
    for _ in range(2):
        assert finetune(place).returncode == 0
    (place / "link.safetensors").symlink_to(place / "weights.safetensors")
    refused(finetune(place, "--model", "link.safetensors"), "link.safetensors: it exists and is no classifier")


def test_help_answers_at_once_and_shows_examples(place: Path) -> None:
    done = tool("finetune", place, "--help")
    assert done.returncode == 0
    for saying in ("--support my_flowers/ --model my_flowers.safetensors", "own_pictures.yaml", "--checkpoint"):
        assert saying in done.stdout
    refused(tool("finetune", place), "--support", "--model", "--help says how")
