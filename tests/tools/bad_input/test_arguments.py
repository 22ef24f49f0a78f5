"""Mistakes in configurations and arguments: exit status 2, one line on stderr, and nothing written."""

import importlib.util
from pathlib import Path

import pytest

from tests.tools.bad_input.mistaken import assert_one_sentence, contents, run_tool, start_tool
from tests.tools.calling import TOOLS

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
