"""The embedder tuned too: what learns, what is left alone; and which configuration asks for it."""

import copy
from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from ppfsl.backbones.embedder import Architecture, Embedder, build_embedder
from ppfsl.backbones.weights import weights_of
from ppfsl.config import ClassMeanConfig
from ppfsl.inference.engine import embed
from ppfsl.methods.build import build_method
from ppfsl.methods.class_mean import ClassMean
from ppfsl.methods.finetune import Finetune, FinetuneAll
from ppfsl.randomness import generator
from tests.methods.finetune.tasks import (
    ENTROPIES,
    LABELS,
    QUERY,
    SGD,
    SHOT,
    WAY,
    almost_untouched,
    config,
    logits,
    softmax,
    support_of,
)

EMBEDDER = Architecture("conv4", 16, 3, 5, "unit", (("width", 4),))


@pytest.fixture
def embedder() -> Embedder:
    return build_embedder(EMBEDDER, 0)


def pictures(episodes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = generator(0, "pictures")
    shapes = ((episodes, WAY * SHOT, 3, 16, 16), (episodes, QUERY, 3, 16, 16))
    return tuple(rng.integers(0, 256, shape).astype(np.float32) for shape in shapes)  # type: ignore[return-value]


ALL = {"trainable": "all", "steps": 2}


@pytest.mark.parametrize("entropy", ENTROPIES)
def test_original_embedder_is_left_alone(embedder: Embedder, entropy: str) -> None:
    inputs, query = pictures(1)
    embedder.train()
    before = weights_of(embedder)
    frozen = [parameter.stop_gradient for parameter in embedder.parameters()]
    classify = FinetuneAll(config(**ALL, entropy=entropy, optimizer=SGD), embedder).adapt(support_of(inputs, query))
    found = classify(paddle.to_tensor(query))
    assert found.shape == [1, QUERY, WAY]
    for name, value in weights_of(embedder).items():
        np.testing.assert_array_equal(value, before[name])
    assert [parameter.stop_gradient for parameter in embedder.parameters()] == frozen
    assert all(parameter.grad is None for parameter in embedder.parameters())
    assert all(layer.training for layer in embedder.sublayers(include_self=True))


def tuned_copies(monkeypatch: pytest.MonkeyPatch) -> list[Embedder]:
    """The copies that are made from here on."""
    copies: list[Embedder] = []

    def remember(embedder: Embedder) -> Embedder:
        copies.append(copy.deepcopy(embedder))
        return copies[-1]

    monkeypatch.setattr("ppfsl.methods.finetune.copy", SimpleNamespace(deepcopy=remember))
    return copies


@pytest.mark.parametrize("frozen", [False, True])
def test_whole_copy_learns_but_statistics(embedder: Embedder, monkeypatch: pytest.MonkeyPatch, frozen: bool) -> None:
    if frozen:  # as a stage with `trainable: head` leaves it
        for parameter in embedder.parameters():
            parameter.stop_gradient = True
    inputs, query = pictures(1)
    method = FinetuneAll(config(**ALL, optimizer={"name": "adam", "lr": 0.01}), embedder)
    copies = tuned_copies(monkeypatch)
    method.adapt(support_of(inputs, query))
    (tuned,) = copies
    before = weights_of(embedder)
    statistics = {name for name in before if name.endswith(("_mean", "_variance"))}
    assert len(statistics) == 8
    same = {name for name, value in weights_of(tuned).items() if np.array_equal(value, before[name])}
    assert same == statistics


def test_without_training_both_ways_agree(embedder: Embedder) -> None:
    inputs, query = pictures()
    settings = almost_untouched()
    images = FinetuneAll(settings, embedder).adapt(support_of(inputs, query))(paddle.to_tensor(query)).numpy()

    def embeddings(x: np.ndarray) -> np.ndarray:
        table = x.reshape(-1, 3, 16, 16).transpose(0, 2, 3, 1).astype(np.uint8)
        return embed(embedder, table, np.arange(len(table))).reshape(*x.shape[:2], -1)

    support = support_of(embeddings(inputs), embeddings(query))
    np.testing.assert_allclose(images, logits(Finetune(settings), support, embeddings(query)), atol=1e-3)


def test_images_many_episodes_equal_one_at_a_time(embedder: Embedder) -> None:
    inputs, query = pictures()
    numbers = np.asarray([7, 1])
    method = FinetuneAll(config(**ALL, initialization="random", entropy="query", optimizer=SGD), embedder, seed=2)
    together = logits(method, support_of(inputs, query, numbers), query)
    for e in range(2):
        one = slice(e, e + 1)
        alone = logits(method, support_of(inputs[one], query[one], numbers[one]), query[one])
        np.testing.assert_allclose(together[one], alone, atol=1e-5)


def test_tuning_the_embedder_lowers_the_loss_further(embedder: Embedder) -> None:
    inputs, query = pictures(1)
    losses = []
    for trainable in ("head", "all"):
        settings = config(trainable=trainable, steps=5, entropy="none", optimizer={"name": "adam", "lr": 0.003})
        if trainable == "all":
            found = logits(FinetuneAll(settings, embedder), support_of(inputs, query), inputs)
        else:
            table = inputs[0].transpose(0, 2, 3, 1).astype(np.uint8)
            embedded = embed(embedder, table, np.arange(len(table)))[None]
            found = logits(Finetune(settings), support_of(embedded, query), embedded)
        losses.append(-np.log(softmax(found)[:, np.arange(len(LABELS)), LABELS]).mean())
    assert losses[1] < losses[0]


def test_configuration_decides_the_method(embedder: Embedder) -> None:
    mean = build_method(ClassMeanConfig(name="class_mean", scale=3.0), embedder, 0)
    assert mean == ClassMean("class_mean", 3.0)
    assert build_method(ClassMeanConfig(name="class_mean", label="x"), embedder, 0).name == "x"
    head = build_method(config(), embedder, 4)
    assert isinstance(head, Finetune)
    assert (head.name, head.inputs, head.transductive, head.seed) == ("finetune", "embedding", False, 4)
    everything = build_method(config(trainable="all", label="y", entropy="query"), embedder, 5)
    assert isinstance(everything, FinetuneAll)
    assert (everything.name, everything.inputs, everything.transductive) == ("y", "image", True)
    assert (everything.embedder, everything.seed) == (embedder, 5)
