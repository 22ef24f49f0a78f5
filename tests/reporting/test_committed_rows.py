"""The committed rows: the command of each leads to what its result.json says."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from ppfsl.config import Config
from ppfsl.config_file import config_name, evaluation_folder, load_config, run_folder
from ppfsl.reporting.rows import About, read_rows

ROOT = Path(__file__).parents[2]
ROWS = {folder.relative_to(ROOT / "results").as_posix(): (about, result) for about, result, folder in
        read_rows(ROOT / "results")}  # fmt: skip


def told(about: About) -> tuple[str, Config, str]:
    """Tool, configuration and its name, as a row's command has them."""
    words = shlex.split(about.command)
    assert words[0] == "python" and words[1] in ("tools/train.py", "tools/eval.py")
    path = Path(words[words.index("-c") + 1])
    changes = [words[place + 1] for place, word in enumerate(words) if word == "-o"]
    return words[1], load_config(ROOT / path, changes), config_name(path)


def given(about: About) -> Path:
    """The checkpoint that a row's command names."""
    words = shlex.split(about.command)
    return Path(words[words.index("--checkpoint") + 1])


@pytest.mark.parametrize("row", sorted(ROWS))
def test_a_rows_command_asks_for_what_the_row_has(row: str) -> None:
    about, result = ROWS[row]
    tool, config, _ = told(about)
    data, asked = config.data, config.evaluation
    pretrained = None if config.backbone.pretrained == "none" else Path(config.backbone.pretrained).name
    assert (result["dataset"], result["split"]) == (data.name, data.split or "ratio")
    assert (result["backbone"], result["image_size"]) == (config.backbone.name, data.image_size)
    assert result["seed"] == config.seed
    assert result.get("embedding", {}) in ({}, config.embedding.model_dump(mode="json"))
    if tool == "tools/train.py":  # a checkpoint knows what it started from
        assert result["pretrained"] == pretrained
        assert result["stages"] == [stage.objective.name for stage in config.pretrain]
    episodic = [entry for entry in result["evaluations"] if not entry["support_set"]]
    assert {(entry["way"], entry["shot"]) for entry in episodic} == set(asked.tasks)
    for entry in episodic:
        wanted = (asked.query, asked.episodes, asked.seed, asked.part)
        assert tuple(entry[key] for key in ("query", "episodes", "seed", "part")) == wanted
    assert ("verification" in result) == (config.verification is not None)


@pytest.mark.parametrize("row", sorted(ROWS))
def test_a_rows_adaptations_are_those_of_its_command(row: str) -> None:
    about, result = ROWS[row]
    found: dict[str, dict[str, Any]] = {entry["adaptation"]: entry["settings"] for entry in result["evaluations"]}
    config = told(about)[1]
    trained = config.pretrain[-1].objective.model_dump(mode="json") if config.pretrain else {}
    wanted = [adaptation.model_dump(mode="json", exclude={"label"}) for adaptation in config.adaptations]
    assert len(found) == len(wanted)
    for settings, asked in zip(found.values(), wanted, strict=True):
        for key, value in asked.items():
            if value is None and settings.get(key) is not None:  # what training says
                value = trained.get(f"inner_{key}", trained.get(key))
            assert value is None or settings.get(key, value) == value, key


@pytest.mark.parametrize("row", [row for row in sorted(ROWS) if (ROOT / "results" / row / "validation.json").exists()])
def test_a_row_was_trained_for_as_many_epochs_as_its_command_says(row: str) -> None:
    tool, config, _ = told(ROWS[row][0])
    seen = json.loads((ROOT / "results" / row / "validation.json").read_text(encoding="utf-8"))
    epochs = [sum(stage.epochs for stage in config.pretrain[:count]) for count in range(1, len(config.pretrain) + 1)]
    stages = [f"{number}_{stage.objective.name}" for number, stage in enumerate(config.pretrain, start=1)]
    last = {name: max(entry["epoch"] for entry in seen if entry["name"].startswith(name)) for name in stages}
    assert tool == "tools/train.py" and list(last.values()) == epochs


def test_no_two_trainings_share_a_folder() -> None:
    folders: dict[Path, set[str]] = {}
    for about, _ in ROWS.values():
        tool, config, name = told(about)
        if tool == "tools/train.py":
            trained = config.model_dump_json(include={"seed", "data", "backbone", "pretrain", "validation"})
            folders.setdefault(run_folder(config, name), set()).add(trained)
    assert [str(folder) for folder, trained in folders.items() if len(trained) > 1] == []


def test_evaluations_of_one_folder_do_not_overwrite_one_another() -> None:
    folders: dict[Path, list[str]] = {}
    for about, _ in ROWS.values():
        tool, config, name = told(about)
        folder = run_folder(config, name) if tool == "tools/train.py" else evaluation_folder(config, name, given(about))
        folders.setdefault(folder, []).append(about.command)
    assert {str(folder): commands for folder, commands in folders.items() if len(set(commands)) > 1} == {}


def test_weights_that_a_command_names_are_those_of_another_rows_training() -> None:
    written = set()
    for about, _ in ROWS.values():
        tool, config, name = told(about)
        if tool == "tools/train.py":
            stages = [f"{n}_{stage.objective.name}" for n, stage in enumerate(config.pretrain, start=1)]
            folder = run_folder(config, name) / "checkpoints"
            written |= {folder / f"{file}.safetensors" for file in [*stages, "best"] if stages}
    named = set()
    for about, _ in ROWS.values():
        words = shlex.split(about.command)
        named |= {Path(words[place + 1]) for place, word in enumerate(words) if word == "--checkpoint"}
        pretrained = told(about)[1].backbone.pretrained
        named |= {Path(pretrained)} if pretrained.startswith("output/") else set()
    assert named and sorted(map(str, named - written)) == []
