"""tools/verify.py: two pictures, the same class or not."""

import json
import math
import os
import re
import shutil
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
from ppfsl.errors import UserError
from ppfsl.inference.compare import compare
from ppfsl.inference.engine import embed
from ppfsl.methods.similarity import Similarity
from ppfsl.training.checkpoint import load_checkpoint, load_embedder, method_layer
from ppfsl.verification import Pairs, choose_threshold, draw_pairs, draw_sets

Tree = dict[str, Any]
TOOLS = Path(__file__).parents[2] / "tools"
SIAMESE: Tree = {"name": "siamese", "classes_per_batch": 4, "images_per_class": 3}


def tool(name: str, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOLS / f"{name}.py"), *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "PPFSL_DATA"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)


def trained(folder: Path, tree: Tree) -> Path:
    """The folder, with a configuration that asks for verification and, below `output`, its run."""
    tree |= {"verification": {"pairs": 20, "seed": 3}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    done = tool("train", folder, "-c", "tiny.yaml")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def of_cosines(tiny_tree: Callable[[], Tree], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whose similarity is the cosine."""
    return trained(tmp_path_factory.mktemp("cosine"), tiny_tree())


@pytest.fixture(scope="module")
def of_a_head(tiny_tree: Callable[[], Tree], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whose similarity is learned."""
    tree = {"pretrain": [{"objective": SIAMESE, "epochs": 2}], "adaptations": [{"name": "siamese"}]}
    return trained(tmp_path_factory.mktemp("siamese"), tiny_tree() | tree)


@pytest.fixture(params=["of_cosines", "of_a_head"])
def place(request: pytest.FixtureRequest) -> Path:
    """Each of both."""
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def run_of(place: Path) -> Path:
    return place / "output" / "tiny"


def verification(place: Path) -> Tree:
    result: Tree = json.loads((run_of(place) / "result.json").read_text(encoding="utf-8"))
    return result["verification"]


def scored(place: Path, part: Any, draw: Callable[[np.ndarray], list[Pairs]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Scores of sets of a part's pairs, and whether they are of one class, step by step."""
    config = load_config(run_of(place) / "config.yaml")
    table = open_table(config.data)
    rows = part_images(table, open_split(config.data, table), part)
    path = run_of(place) / "checkpoints" / "best.safetensors"
    projected = embed(load_embedder(path), table.images, rows, "projected")
    similarity = Similarity.of(method_layer(load_checkpoint(path), ""))
    sets = draw(table.labels[rows])
    return [(similarity(projected[pairs.left], projected[pairs.right]), pairs.same) for pairs in sets]


def by_hand(place: Path, part: Any) -> tuple[np.ndarray, np.ndarray]:
    """The same of the pairs of a run."""
    return scored(place, part, lambda labels: [draw_pairs(labels, 20, 3, part)])[0]


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


def test_a_given_threshold_takes_the_place_of_the_runs_own(place: Path, photographs: Path) -> None:
    left, right = (photographs / name / "00.png" for name in ("class00", "class05"))
    similarity = compare(run_of(place), left, right).similarity
    for step, answer in ((-1e-4, "same"), (1e-4, "different")):
        given = similarity + step
        done = tool("verify", place, "--run", "output/tiny", f"--threshold={given!r}", str(left), str(right))
        assert done.returncode == 0, done.stderr
        first, second = done.stdout.splitlines()
        assert first.endswith(f"{similarity:.4f}, threshold {given:.4f}")
        assert second == answer


def test_nothing_is_more_like_a_picture_than_itself(of_cosines: Path, photographs: Path) -> None:
    picture, other = photographs / "class00" / "00.png", photographs / "class00" / "01.png"
    itself = compare(run_of(of_cosines), picture, picture)
    assert itself.similarity == pytest.approx(1, abs=1e-6)
    assert itself.same
    assert compare(run_of(of_cosines), picture, other).similarity < 1 - 1e-6


def test_pictures_of_the_checks_are_written_and_shown(place: Path) -> None:
    names = {path.name for path in (run_of(place) / "pictures").iterdir()}
    assert names == {"roc_curve.png", "pairs.png", "triplets.png", "one_episode.png", "mistakes.png"}
    page = (run_of(place) / "report.html").read_text(encoding="utf-8")
    for title in ("Verification", "ROC curve", "Pairs", "Triplets", "One episode", "Mistakes"):
        assert f"<h2>{title}</h2>" in page
    assert f"{verification(place)['roc_auc']:.4f}" in page


def test_every_mistake_gets_a_sentence(of_cosines: Path, photographs: Path) -> None:
    place = of_cosines
    picture = str(next(photographs.rglob("*.*g")))
    (place / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    Image.new("L", (40, 30), 200).save(place / "grey.png")
    Image.new("1", (9500, 9500)).save(place / "bomb.png")  # of which Pillow, too, would have something to say
    for arguments, words in (
        (("--run", "nowhere", picture, picture), "nowhere holds no trained embedder"),
        (("--run", "output/tiny", picture, "broken.jpg"), "broken.jpg is not a readable image"),
        (("--run", "output/tiny", picture, "absent.jpg"), "absent.jpg is not a readable image (No such file"),
        (("--run", "output/tiny", picture, "bomb.png"), "bomb.png is not a readable image (9500 x 9500 pixels, more"),
        (("--run", "output/tiny", "--threshold=nan", picture, picture), "must be a finite number, not nan"),
        (("--run", "output/tiny", picture), "the following arguments are required: PICTURE"),
    ):
        done = tool("verify", place, *arguments)
        assert done.returncode == 2 and words in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert tool("verify", place, "--run", "output/tiny", picture, "grey.png").returncode == 0


@pytest.fixture
def own_run(of_cosines: Path, tmp_path: Path) -> Path:
    """A copy of a run for one test, which may spoil it."""
    return Path(shutil.copytree(run_of(of_cosines), tmp_path / "output" / "tiny"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, r"has not been evaluated \(.*result\.json is missing\); let it finish, or give a --threshold"),
        ("[", r"result\.json cannot be used"),
        ("[1]", r"result\.json cannot be used: it is no result of a run; give a --threshold"),
        ("{}", "has no threshold; give one with --threshold"),
        ('{"verification": null}', "has no threshold; give one with --threshold"),
        ('{"verification": 3}', "its verification.threshold is None; give one with --threshold"),
        ('{"verification": {}}', "its verification.threshold is None; give one with --threshold"),
        ('{"verification": {"threshold": "high"}}', "its verification.threshold is 'high'; give one with --threshold"),
        ('{"verification": {"threshold": NaN}}', "its verification.threshold is nan; give one with --threshold"),
    ],
)
def test_a_result_without_a_threshold_is_explained(
    own_run: Path, photographs: Path, content: str | None, words: str
) -> None:
    picture = photographs / "class00" / "00.png"
    path = own_run / "result.json"
    path.unlink() if content is None else path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=words):
        compare(own_run, picture, picture)


def test_a_given_threshold_needs_no_result_and_must_be_finite(own_run: Path, photographs: Path) -> None:
    picture = photographs / "class00" / "00.png"
    (own_run / "result.json").unlink()
    assert compare(own_run, picture, picture, 0.25).threshold == 0.25
    for threshold in (math.nan, math.inf, -math.inf):
        with pytest.raises(UserError, match=f"the threshold must be a finite number, not {threshold}"):
            compare(own_run, picture, picture, threshold)


def test_a_run_without_its_configuration_is_named(own_run: Path, photographs: Path) -> None:
    picture = photographs / "class00" / "00.png"
    (own_run / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"holds no configuration \(.*config\.yaml is missing\); name the folder of"):
        compare(own_run, picture, picture)


def test_channels_are_the_checkpoints_and_the_device_the_configurations(own_run: Path, photographs: Path) -> None:
    left, right = (photographs / name / "00.png" for name in ("class00", "class05"))
    wanted = compare(own_run, left, right)
    path = own_run / "config.yaml"
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    tree["data"]["channels"] = 1
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    assert compare(own_run, left, right) == wanted
    path.write_text(yaml.safe_dump(tree | {"device": "gpu:99"}), encoding="utf-8")
    with pytest.raises(UserError, match=r"config\.yaml: device: gpu:99 .*set device to cpu"):
        compare(own_run, left, right)


def test_pictures_of_an_earlier_run_go_when_they_are_no_longer_asked_for(own_run: Path, of_cosines: Path) -> None:
    folder = own_run.parents[1]
    shutil.copy(of_cosines / "tiny.yaml", folder)
    (own_run / "pictures" / "mine.png").write_bytes(b"the user's")
    done = tool("train", folder, "-c", "tiny.yaml", "-o", "verification=null")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (own_run / "pictures").iterdir()}
    assert names == {"pairs.png", "triplets.png", "one_episode.png", "mistakes.png", "mine.png"}
    assert "Verification" not in done.stdout
    again = tool("train", folder, "-c", "tiny.yaml")
    assert (own_run / "pictures" / "roc_curve.png").is_file()
    assert "Verification, 20 pairs of novel classes, cosine similarity: area under the ROC curve" in again.stdout


def test_on_validation_classes_other_pairs_are_judged_than_chose_the_threshold(
    of_cosines: Path, tmp_path: Path
) -> None:
    place = of_cosines
    checkpoint = "output/tiny/checkpoints/best.safetensors"
    options = ("-o", "evaluation.part=validation", "-o", f"output_dir={tmp_path / 'evaluated'}")
    done = tool("eval", place, "-c", "tiny.yaml", "--checkpoint", checkpoint, *options)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "evaluated" / "result.json").read_text(encoding="utf-8"))["verification"]
    choosing, judged = scored(place, "validation", lambda labels: draw_sets(labels, 20, 2, 3, "validation"))
    assert found["threshold"] == pytest.approx(choose_threshold(*choosing), abs=1e-5)
    scores, same = judged
    assert found["accuracy"] == pytest.approx(((scores >= found["threshold"]) == same).mean())
    assert (found["part"], found["threshold_part"], found["pairs"]) == ("validation", "validation", 20)


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
