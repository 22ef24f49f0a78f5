"""tools/verify.py: two pictures, the same class or not."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from ppfsl.config_file import load_config
from ppfsl.data.augmentation import center_crop
from ppfsl.data.class_split import part_images
from ppfsl.data.datasets import open_split, open_table
from ppfsl.inference.engine import embed
from ppfsl.methods.similarity import Similarity
from ppfsl.training.checkpoint import load_checkpoint, load_embedder, method_layer
from ppfsl.verification import choose_threshold, draw_pairs

Tree = dict[str, Any]
TOOLS = Path(__file__).parents[2] / "tools"
SIAMESE: Tree = {"name": "siamese", "classes_per_batch": 4, "images_per_class": 3}


def tool(name: str, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOLS / f"{name}.py"), *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "PPFSL_DATA"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module", params=["siamese", "cosine"])
def place(
    request: pytest.FixtureRequest, tiny_tree: Callable[[], Tree], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with a configuration that asks for verification and, below `output`, its run."""
    folder = tmp_path_factory.mktemp("place")
    tree = tiny_tree() | {"verification": {"pairs": 20, "seed": 3}}
    if request.param == "siamese":
        tree["pretrain"] = [{"objective": SIAMESE, "epochs": 2}]
        tree["adaptations"] = [{"name": "siamese"}]
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    done = tool("train", folder, "-c", "tiny.yaml")
    assert done.returncode == 0, done.stderr
    return folder


def run_of(place: Path) -> Path:
    return place / "output" / "tiny"


def verification(place: Path) -> Tree:
    result: Tree = json.loads((run_of(place) / "result.json").read_text(encoding="utf-8"))
    return result["verification"]


def by_hand(place: Path, part: Any) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a part's pairs, and whether they are of one class, step by step."""
    config = load_config(run_of(place) / "config.yaml")
    table = open_table(config.data)
    rows = part_images(table, open_split(config.data, table), part)
    pairs = draw_pairs(table.labels[rows], 20, 3, part)
    path = run_of(place) / "checkpoints" / "best.safetensors"
    projected = embed(load_embedder(path), table.images, rows, "projected")
    similarity = Similarity.of(method_layer(load_checkpoint(path), ""))
    return similarity(projected[pairs.left], projected[pairs.right]), pairs.same


def test_the_threshold_comes_from_validation_classes_and_is_judged_on_novel_ones(place: Path) -> None:
    found = verification(place)
    threshold = choose_threshold(*by_hand(place, "validation"))
    assert found["threshold"] == pytest.approx(threshold, abs=1e-5)
    scores, same = by_hand(place, "novel")
    assert found["accuracy"] == pytest.approx(((scores >= found["threshold"]) == same).mean())
    ordered = [(a > b) + (a == b) / 2 for a in scores[same] for b in scores[~same]]
    assert found["roc_auc"] == pytest.approx(np.mean(ordered), abs=1e-6)
    assert (found["part"], found["threshold_part"], found["pairs"]) == ("novel", "validation", 20)


def test_the_answer_compares_the_runs_own_similarity_with_its_threshold(place: Path, photographs: Path) -> None:
    files = sorted(photographs.rglob("*.png")) + sorted(photographs.rglob("*.jpg"))
    left, right = files[0], files[-1]
    done = tool("verify", place, "--run", "output/tiny", str(left), str(right))
    assert done.returncode == 0, done.stderr
    name, similarity, threshold = re.match(r"(.+): (-?[\d.]+), threshold (-?[\d.]+)\n", done.stdout).groups()  # type: ignore[union-attr]
    assert name == verification(place)["similarity"]
    assert float(threshold) == pytest.approx(verification(place)["threshold"], abs=1e-4)
    config = load_config(run_of(place) / "config.yaml")
    table = open_table(config.data)
    rows = [table.files.index(str(file.relative_to(photographs))) for file in (left, right)]
    path = run_of(place) / "checkpoints" / "best.safetensors"
    projected = embed(load_embedder(path), table.images, np.asarray(rows), "projected")
    wanted = Similarity.of(method_layer(load_checkpoint(path), ""))(projected[:1], projected[1:])[0]
    assert float(similarity) == pytest.approx(wanted, abs=1e-3)
    assert done.stdout.splitlines()[1] == ("same" if float(similarity) >= float(threshold) else "different")
    assert center_crop(table.images[:1], config.data.image_size).shape[1] == config.data.image_size


def test_a_picture_is_the_same_as_itself_and_a_threshold_can_be_given(place: Path, photographs: Path) -> None:
    picture = str(next(photographs.rglob("*.*g")))
    for threshold, answer in (("-2", "same"), ("2", "different")):
        done = tool("verify", place, "--run", "output/tiny", f"--threshold={threshold}", picture, picture)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[1] == answer


def test_pictures_of_the_checks_are_written_and_shown(place: Path) -> None:
    names = {path.name for path in (run_of(place) / "pictures").iterdir()}
    assert names == {"roc_curve.png", "pairs.png", "triplets.png", "one_episode.png"}
    page = (run_of(place) / "report.html").read_text(encoding="utf-8")
    for title in ("Verification", "ROC curve", "Pairs", "Triplets", "One episode"):
        assert f"<h2>{title}</h2>" in page
    assert f"{verification(place)['roc_auc']:.4f}" in page


def test_every_mistake_gets_a_sentence(place: Path, photographs: Path) -> None:
    picture = str(next(photographs.rglob("*.*g")))
    (place / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    Image.new("L", (40, 30), 200).save(place / "grey.png")
    for arguments, words in (
        (("--run", "nowhere", picture, picture), "nowhere holds no trained embedder"),
        (("--run", "output/tiny", picture, "broken.jpg"), "broken.jpg is not a readable image"),
        (("--run", "output/tiny", picture, "absent.jpg"), "absent.jpg is not a readable image (No such file"),
        (("--run", "output/tiny", picture), "the following arguments are required: PICTURE"),
    ):
        done = tool("verify", place, *arguments)
        assert done.returncode == 2 and words in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert tool("verify", place, "--run", "output/tiny", picture, "grey.png").returncode == 0


def test_a_run_without_verification_has_no_threshold(
    tiny_tree: Callable[[], Tree], tmp_path: Path, photographs: Path
) -> None:
    tree = tiny_tree() | {"pretrain": []}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    assert tool("train", tmp_path, "-c", "tiny.yaml").returncode == 0
    picture = str(next(photographs.rglob("*.*g")))
    done = tool("verify", tmp_path, "--run", "output/tiny", picture, picture)
    assert done.returncode == 2
    assert "output/tiny has no threshold; give one with --threshold, or run its configuration again" in done.stderr
    again = tool("train", tmp_path, "-c", "tiny.yaml", "-o", "verification.pairs=10")
    assert again.returncode == 0, again.stderr
    assert tool("verify", tmp_path, "--run", "output/tiny", picture, picture).returncode == 0


def test_verification_without_validation_classes_is_refused_before_training(
    tiny_tree: Callable[[], Tree], tmp_path: Path
) -> None:
    tree = tiny_tree() | {"verification": {}}
    tree["data"] |= {"split": None, "split_ratio": [0.5, 0.0, 0.5]}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    done = tool("train", tmp_path, "-c", "tiny.yaml")
    assert done.returncode == 2
    assert "verification chooses its threshold on validation classes" in done.stderr
    assert not (tmp_path / "output").exists()


def test_verification_is_kept_until_what_it_depends_on_changes(place: Path) -> None:
    before = verification(place)
    path = run_of(place) / "result.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    result["verification"]["accuracy"] = 0.123
    path.write_text(json.dumps(result), encoding="utf-8")
    assert tool("train", place, "-c", "tiny.yaml").returncode == 0
    assert verification(place)["accuracy"] == 0.123, "computed although nothing has changed"
    assert tool("train", place, "-c", "tiny.yaml", "-o", "verification.seed=4").returncode == 0
    assert verification(place)["fingerprint"] != before["fingerprint"]
    assert tool("train", place, "-c", "tiny.yaml").returncode == 0
    assert verification(place) == before
