"""The guides to adding things: their blocks, followed to the letter in a copy of the repository, work."""

import hashlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from tests.real import real_flowers_and_weights

ROOT = Path(__file__).parents[2]
COPIED = ("benchmarks", "configs", "examples", "ppfsl", "pyproject.toml", "requirements.txt", "tests", "tools")
METHOD, DATASET = "adding_a_method.md", "adding_a_dataset.md"
_FILE = re.compile(r"`([\w./-]+\.(?:py|yaml|json))`")

TINY = (
    *("data.image_size=16", "backbone.name=conv4", "backbone.pretrained=none", "evaluation.episodes=10"),
    *("validation.episodes=10", "device=cpu"),
)
"""What the commands of a guide are given beside what the page says, so that they end in seconds."""


# --- reading a page


class Block(NamedTuple):
    """A fenced block: its language, the file that the paragraph before it names last, its lines."""

    language: str
    file: str | None
    code: str


def blocks_of(page: str) -> list[Block]:
    """All fenced blocks of a page below docs/, in order."""
    found = []
    parts = re.split(r"^```", (ROOT / "docs" / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(parts) % 2, f"{page}: a block does not end"
    for prose, block in zip(parts[::2], parts[1::2], strict=False):
        language, code = block.split("\n", 1)
        named = _FILE.findall(prose.rstrip().rsplit("\n\n", 1)[-1])
        found.append(Block(language, named[-1] if named and language != "bash" else None, code))
    return found


def changed(text: str, diff: str) -> str:
    """A file with a diff's changes, whose parts stand between lines that begin with @@."""
    for part in re.split(r"^@@.*\n", diff, flags=re.MULTILINE):
        lines = part.splitlines(keepends=True)
        old, new = ("\n" + "".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))
        assert text.count(old) == 1, f"these lines should be there, once:{old}"
        text = text.replace(old, new)
    return text


def follow(page: str, checkout: Path) -> Path:
    """A copy of the repository in which all that a page says has been done."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, checkout / name)
    for block in blocks_of(page):
        if block.language == "bash":
            continue
        assert block.file is not None, f"no file is named before\n{block.code}"
        path = checkout / block.file
        if block.language == "diff":
            path.write_text(changed(path.read_text(encoding="utf-8"), block.code), encoding="utf-8")
        else:
            assert not path.exists(), f"{block.file} is not new"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code, encoding="utf-8")
    return checkout


def commands(page: str, *words: str) -> list[list[str]]:
    """The commands of a page that have all these words, in order, each as its arguments."""
    shell = "".join(block.code for block in blocks_of(page) if block.language == "bash").replace("\\\n", " ")
    found = [shlex.split(line) for line in re.split(r"\n| && ", shell) if line]
    return [command for command in found if set(words) <= set(command)]


def run(command: Sequence[str], checkout: Path, *overrides: str, **environment: str) -> str:
    """What a command of a page prints, run by this Python in the checkout."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [*command, *(part for override in overrides for part in ("-o", override))],
        cwd=checkout, env={**os.environ, "PATH": path, "PPFSL_CACHE": str(checkout / "cache"), **environment},
        capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def result_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def accuracies(folder: Path) -> dict[tuple[str, int], float]:
    """(adaptation, shot) -> accuracy over the episodes."""
    rows = result_of(folder)["evaluations"]
    return {(row["adaptation"], row["shot"]): row["accuracy"] for row in rows if not row["support_set"]}


# --- what both pages keep to


@pytest.mark.parametrize("page", [METHOD, DATASET])
def test_both_languages_hold_the_same_blocks(page: str) -> None:
    blocks = blocks_of(page)
    assert len(blocks) > 5
    assert blocks_of(page.replace(".md", "_zh.md")) == blocks


@pytest.mark.parametrize("page", [METHOD, DATASET])
@pytest.mark.slow
def test_what_a_page_adds_is_in_order(page: str, tmp_path: Path) -> None:
    """Its own tests pass, and so do the checks that every change has to pass."""
    checkout = follow(page, tmp_path)
    (tests,) = commands(page, "pytest")
    assert " passed" in run(tests, checkout)
    for check in (*commands(page, "ruff"), *commands(page, "mypy")):
        run(check, checkout)
    assert [check[0] for check in commands(page, "ruff")] == ["ruff", "ruff"]


# --- a method


def test_a_method_takes_sixty_lines() -> None:
    added = [
        line.removeprefix("+")
        for block in blocks_of(METHOD)
        if block.language != "bash"
        for line in block.code.splitlines()
        if block.language != "diff" or line.startswith("+")
    ]
    assert sum(bool(line.strip()) for line in added) <= 60


@pytest.mark.slow
def test_the_added_method_runs(tmp_path: Path, photographs: Path) -> None:
    checkout = follow(METHOD, tmp_path)
    train, once, *_ = commands(METHOD, "tools/train.py")
    own = ("data.name=folder", f"data.folder={photographs}", "data.split=null", "data.split_ratio=[0, 0.5, 0.5]")
    overrides = (*own, *TINY, "backbone.scale=null", "evaluation.query=4")
    run(train, checkout, *overrides)
    compared = run(commands(METHOD, "output/flowers102/ridge")[0], checkout)
    labels = ("class_mean", "ridge, penalty 0.01", "ridge, penalty 0.1", "ridge, penalty 1")
    assert all(f"| {label} | inductive |" in compared for label in labels)
    found = accuracies(checkout / "output" / "flowers102" / "ridge")
    assert set(found) == {(label, shot) for label in labels for shot in (1, 5)}
    assert min(found.values()) > 0.2, "chance"
    rows = result_of(checkout / "output" / "flowers102" / "ridge")["evaluations"]
    assert {row["settings"].get("penalty") for row in rows} == {None, 0.01, 0.1, 1.0}
    assert {row["part"] for row in rows} == {"validation"}
    run(once, checkout, *overrides)
    rows = result_of(checkout / "output" / "flowers102" / "ridge_novel")["evaluations"]
    assert {(row["adaptation"], row["part"]) for row in rows} == {("class_mean", "novel"), ("ridge", "novel")}


@pytest.mark.slow
@pytest.mark.real_data
def test_the_added_method_gains_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, weights = real_flowers_and_weights()
    checkout = follow(METHOD, tmp_path)
    (checkout / weights.name).symlink_to(weights)
    cache = os.environ.get("PPFSL_CACHE", str(checkout / "cache"))
    run(commands(METHOD, "tools/train.py")[0], checkout, "device=cpu", PPFSL_DATA=str(data), PPFSL_CACHE=cache)
    text = (ROOT / "docs" / METHOD).read_text(encoding="utf-8")
    table = re.findall(r"^\| (\d) \| ((?:class_mean|ridge)[^|]*) \| ([\d.]+) ±", text, flags=re.MULTILINE)
    assert len(table) == 8
    found = accuracies(checkout / "output" / "flowers102" / "ridge")
    for shot, adaptation, accuracy in table:
        assert 100 * found[adaptation, int(shot)] == pytest.approx(float(accuracy), abs=0.1)


# --- a data set


KINDS = 15


def draw(number: int, kind: int) -> Image.Image:
    """A noisy picture of its kind's shade."""
    rng = np.random.default_rng((kind, number))
    pixels = rng.normal(0, 40, (20, 20, 3)) + np.random.default_rng(kind).integers(60, 196, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def names_on_the_page() -> list[str]:
    script = next(block.code for block in blocks_of(DATASET) if block.file == "make_split.py")
    names = [name for line in re.findall(r"\[(.*)\],", script) for name in re.findall(r'"([^"]+)"', line)]
    assert len(set(names)) == KINDS
    return names


@pytest.mark.slow
def test_a_folder_per_class_needs_no_code(tmp_path: Path) -> None:
    checkout = follow(DATASET, tmp_path)
    for kind, name in enumerate(names_on_the_page()):
        (checkout / "birds" / name / "2024").mkdir(parents=True)
        for number in range(15):
            draw(number, kind).save(checkout / "birds" / name / ("2024" if number % 2 else ".") / f"{number:03d}.png")
    everything, divided = commands(DATASET, "tools/train.py", "my_birds.yaml")
    (make,) = commands(DATASET, "make_split.py")
    (trained,) = commands(DATASET, "tools/train.py", "configs/quickstart.yaml")

    run(everything, checkout, *TINY)
    result = result_of(checkout / "output" / "my_birds")
    assert (result["dataset"], {row["part"] for row in result["evaluations"]}) == ("folder", {"novel"})
    assert {row["name"] for row in result["evaluations"][0]["per_class"]} <= set(names_on_the_page())
    assert len(result["evaluations"][0]["per_class"]) > 10, "all classes are novel"

    run(make, checkout)
    run(divided, checkout, *TINY)
    result = result_of(checkout / "output" / "my_split")
    assert result["split"] == "my_split"
    assert {row["name"] for row in result["evaluations"][0]["per_class"]} == set(names_on_the_page()[10:])

    epochs = [f"pretrain.{stage}.{key}=1" for stage in (0, 1) for key in ("epochs", "steps_per_epoch")]
    run(trained, checkout, *TINY, "data.cached_size=18", "backbone.width=4", *epochs)
    assert result_of(checkout / "output" / "birds_trained")["split"] == "my_split"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address at which its files can be downloaded."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None}), directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.slow
def test_a_source_is_downloaded_checked_and_run(tmp_path: Path, served: tuple[Path, str]) -> None:
    folder, address = served
    checkout = follow(DATASET, tmp_path / "checkout")
    listed = ["file,label"]
    with zipfile.ZipFile(folder / "birds.zip", "w") as archive:
        for kind, name in enumerate(names_on_the_page()):
            for number in range(15):
                picture = io.BytesIO()
                draw(number, kind).save(picture, "png")
                archive.writestr(f"pictures/{kind:02d}{number:02d}.png", picture.getvalue())
                listed.append(f"pictures/{kind:02d}{number:02d}.png,{name}")
    (folder / "birds.csv").write_text("\n".join(listed), encoding="utf-8")

    prepare, train = commands(DATASET, "birds")[0], commands(DATASET, "tools/train.py", "data.split=standard")[0]
    source = checkout / "ppfsl" / "data" / "birds.py"
    text = source.read_text(encoding="utf-8").replace("https://birds.example/", address)
    source.write_text(text, encoding="utf-8")
    environment = {"PPFSL_DATA": str(tmp_path / "data"), "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    with pytest.raises(AssertionError, match=r"instead of 0{32} and was thrown away"):
        run(prepare, checkout, **environment)
    for name in ("birds.csv", "birds.zip"):
        digest = hashlib.md5((folder / name).read_bytes()).hexdigest()
        text = re.sub(rf'(_URL \+ "{name}", ")0{{32}}', rf"\g<1>{digest}", text)
    source.write_text(text, encoding="utf-8")
    assert run(prepare, checkout, **environment).count(": downloaded") == 2

    run(train, checkout, *TINY, **environment)
    result = result_of(checkout / "output" / "birds")
    assert (result["dataset"], result["split"]) == ("birds", "standard")
    assert [row["label"] for row in result["evaluations"][0]["per_class"]] == [11, 12, 13, 14, 15]
