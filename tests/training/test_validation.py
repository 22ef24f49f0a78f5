"""Validation: fixed episodes of validation classes, answered by the stage's own method or by class means."""

from typing import Any

import numpy as np
import paddle
import pytest

from ppfsl.backbones.embedder import Architecture, Embedder, build_embedder
from ppfsl.backbones.weights import weights_of
from ppfsl.config import AnilConfig, MamlConfig, RelationConfig, SiameseConfig, ValidationConfig
from ppfsl.data.episodes import EpisodeSampler
from ppfsl.data.table import ImageTable
from ppfsl.errors import UserError
from ppfsl.inference import cache
from ppfsl.methods.base import Learner, Support
from ppfsl.methods.build import build_learner, build_siamese, build_task_learner
from ppfsl.methods.prototypical import Prototypical
from ppfsl.randomness import generator
from ppfsl.training.validation import Validation

LAYOUT: dict[str, int] = {"way": 3, "shot": 2, "query": 3, "episodes": 8}

pytestmark = pytest.mark.usefixtures("as_in_a_run")


@pytest.fixture(scope="module")
def table() -> ImageTable:
    """Noise about a colour per class: labels 1 to 6, 10 images each, the rows shuffled."""
    rng = generator(0, "table")
    labels = rng.permutation(np.repeat(np.arange(1, 7), 10))
    colours = rng.integers(30, 226, (7, 1, 1, 3))[labels]
    images = (colours + rng.normal(0, 60, (60, 16, 16, 3))).clip(0, 255).astype(np.uint8)
    names = {label: str(label) for label in range(1, 7)}
    return ImageTable("toy", images, labels, names, tuple(map(str, range(60))), {}, "0" * 64)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return build_embedder(Architecture("conv4", 16, 3, 6, "unit", (("width", 4),)), 0)


def rows_of(table: ImageTable) -> np.ndarray:
    return np.flatnonzero(table.labels >= 3)


def validation(table: ImageTable, seed: int = 0, **changes: Any) -> Validation:
    return Validation(table, rows_of(table), ValidationConfig(**{**LAYOUT, **changes}), seed)


def methods() -> dict[str, Learner]:
    relation = RelationConfig(name="relation", width=4, hidden=3)
    return {
        "prototypical": Prototypical(),
        "relation": build_learner(relation, (6, 1, 1), 0),
        "siamese": build_siamese(SiameseConfig(name="siamese"), 6, 0),
        "anil": build_learner(AnilConfig(name="anil", way=3), (6, 1, 1), 0),
    }


def by_hand(table: ImageTable, embedder: Embedder, method: Learner | None) -> float:
    """Accuracy on the same episodes, one after another, eagerly."""
    embedder.eval()
    with paddle.no_grad():
        pixels = paddle.to_tensor(table.images.transpose(0, 3, 1, 2).astype(np.float32))
        vectors = embedder.projected(pixels).numpy() if method is not None else embedder(pixels).numpy()
    rows = rows_of(table)
    right = []
    for episode in EpisodeSampler(np.arange(len(rows)), table.labels[rows], 3, 2, 3, 0).take(8):
        support, query = vectors[rows[episode.support]], vectors[rows[episode.query]].reshape(9, -1)
        if method is None:
            means = support.mean(1)
            logits = query @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
        else:
            inputs = paddle.to_tensor(support.reshape(1, 6, -1))
            classify = method.adapt(Support(inputs, paddle.to_tensor([0, 0, 1, 1, 2, 2]), 3, np.arange(1)))
            logits = classify(paddle.to_tensor(query[None]))[0].numpy()
        right.append(logits.argmax(1) == np.repeat(np.arange(3), 3))
    return float(np.mean(right))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", ["class means", "prototypical", "relation", "siamese", "anil"])
def test_score_is_the_accuracy_of_the_method(table: ImageTable, embedder: Embedder, name: str, frozen: bool) -> None:
    method = methods().get(name)
    found = validation(table).score(embedder, frozen, method)
    if method is not None and method.layer is not None:
        method.layer.eval()
    assert found == pytest.approx(by_hand(table, embedder, method), abs=1.5 / 72)  # an answer may hang on a rounding
    assert 0.4 < found < 1 or name in ("relation", "siamese", "anil")  # which have learned nothing


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("batch_norm", ["transductive", "support_statistics", "running"])
def test_methods_that_take_images_are_scored_on_images(
    table: ImageTable, embedder: Embedder, batch_norm: Any, frozen: bool
) -> None:
    config = MamlConfig(name="maml", way=3, inner_steps=3, inner_lr=0.1, batch_norm=batch_norm)
    method = build_task_learner(config, embedder, 0)
    embedder.train()
    before = weights_of(method.network)
    found = validation(table).score(embedder, frozen, method)
    assert all(part.training for part in embedder.sublayers(include_self=True))
    assert all(np.array_equal(value, before[name]) for name, value in weights_of(method.network).items())
    rows, right = rows_of(table), []
    pixels = table.images.transpose(0, 3, 1, 2).astype(np.float32)
    for number, episode in enumerate(EpisodeSampler(np.arange(len(rows)), table.labels[rows], 3, 2, 3, 0).take(8)):
        shots, asked = (paddle.to_tensor(pixels[rows[part].ravel()][None]) for part in (episode.support, episode.query))
        classify = method.adapt(Support(shots, paddle.to_tensor([0, 0, 1, 1, 2, 2]), 3, np.asarray([number])))
        right.append(classify(asked)[0].numpy().argmax(1) == np.repeat(np.arange(3), 3))
    assert found == pytest.approx(np.mean(right))
    assert found > 0.4 or batch_norm == "running"  # of which an untrained network has none


def test_methods_are_told_apart(table: ImageTable, embedder: Embedder) -> None:
    of_all = validation(table)
    scores = {name: of_all.score(embedder, False, method) for name, method in methods().items()}
    scores["class means"] = of_all.score(embedder, False)
    assert len(set(scores.values())) > 2


def test_a_methods_layer_is_left_in_evaluation_mode_and_unchanged(table: ImageTable, embedder: Embedder) -> None:
    method = methods()["relation"]
    assert method.layer is not None
    before = weights_of(method.layer)
    method.layer.train()
    embedder.train()
    first = validation(table).score(embedder, False, method)
    assert not any(part.training for part in method.layer.sublayers(include_self=True))
    assert all(part.training for part in embedder.sublayers(include_self=True))
    for name, value in weights_of(method.layer).items():
        np.testing.assert_array_equal(value, before[name])
    assert validation(table).score(embedder, False, method) == first


def test_features_are_computed_once_while_the_backbone_is_frozen(
    table: ImageTable, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ppfsl.training import validation as module

    outputs: list[str] = []
    really = module.embed

    def counted(
        embedder: Embedder, images: np.ndarray, rows: np.ndarray, output: Any, *further: Any, **named: Any
    ) -> np.ndarray:
        outputs.append(output)
        return really(embedder, images, rows, output, *further, **named)

    monkeypatch.setattr(module, "embed", counted)
    monkeypatch.setattr(cache, "embed", counted)
    of_all, method = validation(table), methods()["relation"]
    for frozen in (True, True, False, True):
        of_all.score(embedder, frozen, method)
    assert outputs == ["features", "projected", "features"]


def test_features_are_forgotten_when_the_backbone_learns_by_a_method_that_takes_images(table: ImageTable) -> None:
    embedder = build_embedder(Architecture("conv4", 16, 3, 6, "unit", (("width", 4),)), 0)
    of_all = validation(table)
    of_all.score(embedder, frozen_backbone=True)
    method = build_task_learner(MamlConfig(name="maml", way=3, inner_steps=1), embedder, 0)
    of_all.score(embedder, False, method)
    for parameter in embedder.backbone.parameters():
        parameter.set_value(-parameter)
    expected = validation(table).score(embedder, frozen_backbone=True)
    assert of_all.score(embedder, frozen_backbone=True) == expected


def test_what_cannot_be_served_names_the_keys_of_validation(table: ImageTable) -> None:
    with pytest.raises(UserError) as caught:
        validation(table, way=5)
    assert str(caught.value) == (
        "validation: 5-way episodes need 5 classes, but there are 4 validation classes; lower validation.way"
    )
    with pytest.raises(UserError) as caught:
        validation(table, shot=8)
    assert str(caught.value) == (
        "validation: class 3 (3) has 10 images, but 8 shots and 3 queries need 11; "
        "lower validation.shot or validation.query, or add images"
    )
