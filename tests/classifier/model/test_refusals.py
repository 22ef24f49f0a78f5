"""What a classifier's file must not be: damaged, foreign, contradictory, larger than it is."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from ppfsl.backbones.embedder import build_embedder
from ppfsl.classifier.build import Built
from ppfsl.classifier.model import Classifier, Rejection, load_classifier, save_classifier
from ppfsl.errors import UserError
from ppfsl.training.checkpoint import load_checkpoint
from tests.classifier.model.files import Tree, refused, rewrite


def test_missing_and_damaged_files_are_named(file: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere.safetensors", "does not exist; name a file that tools/finetune.py has written")
    (tmp_path / "folder.safetensors").mkdir()
    refused(
        tmp_path / "folder.safetensors", "is a folder, no classifier; name a file that tools/finetune.py has written"
    )
    content = file.read_bytes()
    for damaged in (b"", b"\0", content[:7], content[:50], content[: len(content) // 2], content[:-1], b"\xff" * 8):
        file.write_bytes(damaged)
        refused(file, "is not a readable .safetensors file")


def test_any_flipped_byte_is_refused_or_loads_a_classifier(file: Path) -> None:
    content = file.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    rng = np.random.default_rng(0)
    refusals = 0
    for _ in range(60):
        damaged = bytearray(content)
        damaged[int(rng.integers(header))] = int(rng.integers(256))
        file.write_bytes(bytes(damaged))
        try:
            assert isinstance(load_classifier(file), Classifier)
        except UserError:
            refusals += 1
    assert refusals > 20


def test_a_checkpoint_is_no_classifier(weights: Path, tmp_path: Path) -> None:
    refused(weights, "is a checkpoint of a run; build a classifier with tools/finetune.py")
    save_file({"x": np.zeros(3, dtype=np.float32)}, tmp_path / "x.safetensors")
    refused(tmp_path / "x.safetensors", "is no classifier of ppfsl; build")


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["m.pdparams", "m.safetensors", "m.pkl", "m"])
def test_pickles_are_refused_and_not_opened(tmp_path: Path, name: str) -> None:
    path, mark = tmp_path / name, tmp_path / "code has run"
    path.write_bytes(pickle.dumps({"weight": Bomb(mark)}))
    refused(path, "no .safetensors file" if path.suffix != ".safetensors" else "not a readable .safetensors file")
    if path.suffix == ".pdparams":
        with pytest.raises(UserError, match="is not a checkpoint of ppfsl"):
            load_checkpoint(path)
    assert not mark.exists()


HEADERS: dict[str, Callable[[Tree], Any]] = {
    "not JSON": lambda h: "{",
    "deep JSON": lambda h: "[" * 100_000,
    "a list": lambda h: "[]",
    "a number": lambda h: "7",
    "no architecture": lambda h: h.pop("architecture"),
    "no class names": lambda h: h.pop("class_names"),
    "no resize": lambda h: h.pop("resize"),
    "no origin": lambda h: h.pop("origin"),
    "architecture of another kind": lambda h: h.update(architecture="conv4"),
    "unknown backbone": lambda h: h["architecture"].update(backbone="vgg"),
    "backbone of another kind": lambda h: h["architecture"].update(backbone=[]),
    "another backbone": lambda h: h["architecture"].update(backbone="resnet12"),
    "unknown key": lambda h: h["architecture"].update(depth=3),
    "unknown option": lambda h: h["architecture"]["options"].update(depth=3),
    "option of another kind": lambda h: h["architecture"]["options"].update(width="4"),
    "options of another kind": lambda h: h["architecture"].update(options=3),
    "no options": lambda h: h["architecture"].update(options={}),
    "negative width": lambda h: h["architecture"]["options"].update(width=-4),
    "no width": lambda h: h["architecture"]["options"].update(width=0),
    "fraction of a width": lambda h: h["architecture"]["options"].update(width=4.5),
    "wide": lambda h: h["architecture"]["options"].update(width=10**6),
    "wider": lambda h: h["architecture"]["options"].update(width=10**30),
    "other width": lambda h: h["architecture"]["options"].update(width=5),
    "projection": lambda h: h["architecture"].update(projection=4),
    "large projection": lambda h: h["architecture"].update(projection=10**12),
    "projection of another kind": lambda h: h["architecture"].update(projection="4"),
    "huge images": lambda h: h["architecture"].update(image_size=10**6),
    "larger images": lambda h: h["architecture"].update(image_size=32),
    "small images": lambda h: h["architecture"].update(image_size=1),
    "negative images": lambda h: h["architecture"].update(image_size=-16),
    "size of another kind": lambda h: h["architecture"].update(image_size="16"),
    "fraction of a size": lambda h: h["architecture"].update(image_size=16.5),
    "channels": lambda h: h["architecture"].update(channels=4),
    "grey": lambda h: h["architecture"].update(channels=1),
    "many channels": lambda h: h["architecture"].update(channels=10**9),
    "unknown normalization": lambda h: h["architecture"].update(normalization="none"),
    "normalization of another kind": lambda h: h["architecture"].update(normalization=[]),
    "huge resize": lambda h: h.update(resize=10**6),
    "larger resize": lambda h: h.update(resize=1025),
    "small resize": lambda h: h.update(resize=15),
    "resize of another kind": lambda h: h.update(resize="20"),
    "switch for a resize": lambda h: h.update(resize=True),
    "one text for class names": lambda h: h.update(class_names="abc"),
    "numbers for class names": lambda h: h.update(class_names=[1, 2, 3]),
    "classes of one name": lambda h: h.update(class_names=["a", "a", "b"]),
    "one class": lambda h: h.update(class_names=["a"]),
    "fewer classes": lambda h: h.update(class_names=["a", "b"]),
    "more classes": lambda h: h.update(class_names=["a", "b", "c", "d"]),
    "fewer files": lambda h: h["files"].pop(),
    "numbers for files": lambda h: h.update(files=list(range(12))),
    "rejection of another kind": lambda h: h.update(rejection=0.5),
    "rejection without keys": lambda h: h.update(rejection={}),
    "rejection with others": lambda h: h["rejection"].update(more=1),
    "threshold of another kind": lambda h: h["rejection"].update(threshold="0.5"),
    "no threshold": lambda h: h["rejection"].update(threshold=None),
    "infinite threshold": lambda h: h["rejection"].update(threshold=float("inf")),
    "threshold that is no number": lambda h: h["rejection"].update(threshold=float("nan")),
    "switch for a threshold": lambda h: h["rejection"].update(threshold=True),
    "nothing that it was chosen on": lambda h: h["rejection"].update(chosen_on=None),
}


@pytest.mark.filterwarnings("ignore:divide by zero")  # Paddle's, of a layer without channels
@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_say_something_else_are_refused(file: Path, name: str) -> None:
    change = HEADERS[name]

    def changed(header: Tree, arrays: Any) -> Any:
        found = change(header)
        return found if isinstance(found, str) and found[:1] in "{[7" else None

    rewrite(file, changed)
    refused(file, "is a damaged classifier", "build it again")


ARRAYS: dict[str, Callable[[dict[str, np.ndarray]], Any]] = {
    "no weight": lambda a: a.pop("weight"),
    "no thumbnails": lambda a: a.pop("thumbnails"),
    "turned weight": lambda a: a.update(weight=a["weight"].T),
    "wide bias": lambda a: a.update(bias=a["bias"][:, None]),
    "few embeddings": lambda a: a.update(embeddings=a["embeddings"][:-1]),
    "short embeddings": lambda a: a.update(embeddings=a["embeddings"][:, :-1]),
    "few labels": lambda a: a.update(labels=a["labels"][:-1]),
    "labels of another kind": lambda a: a.update(labels=a["labels"].astype(np.float32)),
    "negative labels": lambda a: a.update(labels=a["labels"] - 1),
    "a class without pictures": lambda a: a.update(labels=a["labels"].clip(0, 1)),
    "labels beyond": lambda a: a.update(labels=a["labels"] + 1),
    "doubles": lambda a: a.update(weight=a["weight"].astype(np.float64)),
    "no number": lambda a: a.update(weight=np.full_like(a["weight"], np.nan)),
    "infinite bias": lambda a: a.update(bias=np.full_like(a["bias"], np.inf)),
    "infinite embedding": lambda a: a.update(embeddings=np.full_like(a["embeddings"], np.inf)),
    "flat thumbnails": lambda a: a.update(thumbnails=a["thumbnails"][..., 0]),
    "empty thumbnails": lambda a: a.update(thumbnails=a["thumbnails"][:, :0, :0]),
    "oblong thumbnails": lambda a: a.update(thumbnails=a["thumbnails"][:, :9]),
    "thumbnails of other channels": lambda a: a.update(thumbnails=a["thumbnails"][..., :2]),
    "thumbnails of another kind": lambda a: a.update(thumbnails=a["thumbnails"].astype(np.float32)),
    "no embedder": lambda a: [a.pop(name) for name in list(a) if name.startswith("embedder/")],
    "embedder without a weight": lambda a: a.pop("embedder/backbone.blocks.0.0.weight"),
    "embedder with another": lambda a: a.update({"embedder/more": np.zeros(1, dtype=np.float32)}),
    "misshapen embedder": lambda a: a.update({"embedder/backbone.blocks.1.0.weight": np.zeros((4, 4), np.float32)}),
    "embedder of no numbers": lambda a: a["embedder/backbone.blocks.1.0.weight"].fill(np.nan),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_make_no_classifier_are_refused(file: Path, name: str) -> None:
    def changed(header: Tree, arrays: dict[str, np.ndarray]) -> None:
        ARRAYS[name](arrays)

    rewrite(file, changed)
    refused(file, "" if name == "embedder with another" else "is a damaged classifier")


@pytest.mark.parametrize(
    "change", [{"options": {"width": 3000}}, {"backbone": "koch", "image_size": 1024}, {"backbone": "resnet18"}]
)
def test_room_is_not_made_for_more_than_the_file_holds(file: Path, change: Tree, monkeypatch: Any) -> None:
    def unused(*_: Any, **__: Any) -> None:
        raise AssertionError("a network is built")

    monkeypatch.setattr("ppfsl.classifier.model.Embedder", unused)
    rewrite(file, lambda h, a: h["architecture"].update(change))
    refused(file, "is a damaged classifier")


def test_room_is_not_made_for_a_matrix_that_the_file_lacks(built: Built, tmp_path: Path, monkeypatch: Any) -> None:
    """A projection's columns cost the file little; a whitening matrix would be as wide as it is high."""
    classifier = built.classifier
    embedder = build_embedder(replace(classifier.embedder.architecture, projection=3000), seed=1)
    numbers = {"weight": (3000, 3), "embeddings": (12, 3000)}
    arrays: dict[str, Any] = {name: np.zeros(shape, dtype=np.float32) for name, shape in numbers.items()}
    path = tmp_path / "m.safetensors"
    save_classifier(replace(classifier, embedder=embedder, **arrays), path)
    rewrite(path, lambda h, a: h["architecture"].update(whitened=True))
    monkeypatch.setattr("ppfsl.backbones.embedder.paddle.eye", None)
    refused(path, "its weights are not those of its architecture")


def test_rejections_are_checked() -> None:
    assert Rejection(0.5, 1, 0, "x").threshold == 0.5
    for values in ((float("nan"), 1, 0, "x"), (0.5, "1", 0, "x"), (0.5, 1, 0, 3)):
        with pytest.raises((ValueError, TypeError)):
            Rejection(*values)
