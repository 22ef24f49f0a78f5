"""Training episodes: whose images, in which order, and the loss of each method by hand."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from ppfsl.config.objectives import Objective as Keys
from ppfsl.data.episodes import EpisodeSampler
from ppfsl.errors import UserError
from ppfsl.methods.base import Support
from ppfsl.randomness import generator
from ppfsl.training.objectives.episodic import Episodic

LABELS = generator(0, "labels").permutation(np.repeat(np.arange(6), (7, 6, 9, 6, 6, 8)))
LAYOUT = {"way": 3, "shot": 2, "query": 3}


def episodic(
    name: str, labels: np.ndarray = LABELS, shape: tuple[int, int, int] = (3, 1, 1), seed: int = 0, **changes: Any
) -> Any:
    config = TypeAdapter(Keys).validate_python({"name": name, **LAYOUT, **changes})
    return Episodic(config, labels, shape, seed)


def slices(x: np.ndarray, episodes: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Support set [way, shot, D] and queries [way, query, D] of each episode of a batch."""
    parts = np.split(x.astype(np.float64), episodes)
    return [(part[:6].reshape(3, 2, -1), part[6:].reshape(3, 3, -1)) for part in parts]


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / math.sqrt((one @ one) * (other @ other)))


# --- batches


@settings(deadline=None, max_examples=50)
@given(
    way=st.integers(2, 6), shot=st.integers(1, 3), query=st.integers(1, 3), count=st.integers(1, 3),
    epoch=st.integers(0, 50), steps=st.integers(1, 4), seed=st.integers(0, 2**40),
)  # fmt: skip
def test_batches_are_the_samplers_episodes_support_set_first(
    way: int, shot: int, query: int, count: int, epoch: int, steps: int, seed: int
) -> None:
    objective = episodic("prototypical", way=way, shot=shot, query=query, episodes_per_batch=count, seed=seed)
    batches = list(objective.batches(epoch, steps))
    assert len(batches) == steps
    sampler = EpisodeSampler(np.arange(len(LABELS)), LABELS, way, shot, query, seed)
    for step, batch in enumerate(batches):
        assert batch.shape == (count * way * (shot + query),)
        for number, images in enumerate(np.split(batch, count)):
            episode = sampler[(epoch * steps + step) * count + number]
            support, queries = images[: way * shot], images[way * shot :]
            assert support.tolist() == episode.support.ravel().tolist()
            assert queries.tolist() == episode.query.ravel().tolist()
            assert len(set(images.tolist())) == len(images), "an image is support and query"
            classes = LABELS[support].reshape(way, shot)
            assert (classes == classes[:, :1]).all()
            assert (LABELS[queries].reshape(way, query) == classes[:, :1]).all()
            assert len(set(classes[:, 0].tolist())) == way


def test_batches_are_pure_functions_of_seed_and_epoch() -> None:
    def batches(epoch: int, seed: int = 0) -> list[list[int]]:
        return [batch.tolist() for batch in episodic("matching", seed=seed, episodes_per_batch=2).batches(epoch, 3)]

    assert batches(4) == batches(4)
    assert batches(4) != batches(5)
    assert batches(4) != batches(4, seed=1)


@pytest.mark.parametrize("count", [1, 3])
def test_no_episode_comes_twice_in_training(count: int) -> None:
    objective = episodic("prototypical", episodes_per_batch=count)
    episodes = [
        images.tobytes()
        for epoch in range(10)
        for batch in objective.batches(epoch, 7)
        for images in np.split(batch, count)
    ]
    assert len(set(episodes)) == len(episodes) == 10 * 7 * count


def test_default_epoch_shows_about_every_image_once() -> None:
    assert episodic("prototypical").steps == 42 // 15
    assert episodic("prototypical", episodes_per_batch=2).steps == 42 // 30
    assert episodic("prototypical", episodes_per_batch=9).steps == 1


# --- losses


def logits_by_hand(name: str, support: np.ndarray, query: np.ndarray, temperature: float) -> list[float]:
    """Of one query and every class, by the paper's formula."""
    means = [shots.mean(0) for shots in support]
    if name == "prototypical":
        return [-((query - mean) ** 2).sum() / temperature for mean in means]
    if name == "prototypical, cosine":
        return [cosine(query, mean) / temperature for mean in means]
    if name == "meta_baseline":
        return [7.0 * cosine(query, mean) for mean in means]
    attention = [[math.exp(cosine(query, shot) / temperature) for shot in shots] for shots in support]
    return [math.log(sum(of_class)) for of_class in attention]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("prototypical", {"temperature": 2.0}),
        ("prototypical, cosine", {"metric": "cosine", "temperature": 2.0}),
        ("matching", {"temperature": 2.0}),
        ("meta_baseline", {"scale": 7.0}),
    ],
)
def test_loss_is_the_methods_on_the_queries(
    vectors: Callable[..., Any], loss_of: Callable[..., Any], kind: str, keys: dict[str, Any], count: int
) -> None:
    objective = episodic(kind.split(",")[0], episodes_per_batch=count, **keys)
    x = vectors(15 * count)
    losses, right = [], []
    for support, queries in slices(x, count):
        for truth, of_class in enumerate(queries):
            for query in of_class:
                logits = logits_by_hand(kind, support, query, 2.0)
                losses.append(math.log(sum(map(math.exp, logits))) - logits[truth])
                right.append(logits.index(max(logits)) == truth)
    labels = np.zeros(15 * count, dtype=np.int64)  # the episode's own labels count, not the data set's
    loss, terms = loss_of(objective, x, labels)
    assert loss == pytest.approx(np.mean(losses), rel=1e-4)
    assert terms == {"accuracy": pytest.approx(np.mean(right))}
    assert len(losses) == 9 * count
    same_at_any_length = loss_of(objective, 3 * x, labels)[0] == pytest.approx(loss, rel=1e-4)
    assert same_at_any_length == (kind != "prototypical"), "only distances know how long vectors are"


def by_the_method(objective: Any, x: np.ndarray, normalise: bool) -> tuple[np.ndarray, np.ndarray]:
    """Logits [E, way * query, way] of its method, whose layer learns as in training, and the truth of the queries."""
    if normalise:
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    parts = slices(x, 2)
    shots, queries = (np.stack([part[which].reshape(-1, x.shape[1]) for part in parts]) for which in (0, 1))
    support = Support(paddle.to_tensor(shots.astype(np.float32)), paddle.to_tensor([0, 0, 1, 1, 2, 2]), 3, np.arange(2))
    with paddle.no_grad():
        logits = objective.method.adapt(support)(paddle.to_tensor(queries.astype(np.float32))).numpy()
    return logits.astype(np.float64), np.tile(np.repeat([0, 1, 2], 3), (2, 1))


@pytest.mark.parametrize("shape", [(6, 1, 1), (2, 3, 3)], ids=str)
def test_relation_loss_is_the_squared_error_of_the_scores(loss_of: Callable[..., Any], shape: tuple[int, ...]) -> None:
    objective = episodic("relation", shape=shape, episodes_per_batch=2, width=4, hidden=3)
    x = generator(0, "maps").standard_normal((30, math.prod(shape))).astype(np.float32)
    logits, truth = by_the_method(objective, x, normalise=False)
    scores = 1 / (1 + np.exp(-logits))
    target = truth[..., None] == np.arange(3)
    loss, terms = loss_of(objective, x, np.zeros(30, dtype=np.int64))
    assert loss == pytest.approx(((scores - target) ** 2).mean(), rel=1e-4)
    assert terms == {"accuracy": pytest.approx((logits.argmax(-1) == truth).mean())}


def test_full_context_loss_is_of_embeddings_of_length_one(
    vectors: Callable[..., Any], loss_of: Callable[..., Any]
) -> None:
    objective = episodic("matching", context="full", processing_steps=2, episodes_per_batch=2)
    assert objective.head.arguments == {"dim": 3, "steps": 2}
    x = vectors(30)
    logits, truth = by_the_method(objective, x, normalise=True)
    own = np.take_along_axis(logits, truth[..., None], -1)[..., 0]
    loss, terms = loss_of(objective, x, np.zeros(30, dtype=np.int64))
    assert loss == pytest.approx((np.log(np.exp(logits).sum(-1)) - own).mean(), rel=1e-4)
    assert terms == {"accuracy": pytest.approx((logits.argmax(-1) == truth).mean())}
    assert loss_of(objective, 3 * x, np.zeros(30, dtype=np.int64))[0] == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("name", ["prototypical", "matching", "relation", "meta_baseline"])
def test_batches_of_sixty_ways(loss_of: Callable[..., Any], name: str) -> None:
    labels = np.tile(np.arange(70), 6)
    objective = episodic(name, labels, way=60, shot=1, query=5)
    assert objective.steps == 1
    (batch,) = objective.batches(0, 1)
    assert batch.shape == (360,)
    assert len(set(labels[batch].tolist())) == 60
    corners = generator(0, "corners").standard_normal((70, 3)).astype(np.float32)
    loss, terms = loss_of(objective, corners[labels[batch]], labels[batch])
    if name != "relation":  # whose module knows nothing yet
        assert terms == {"accuracy": 1.0}
        assert loss < math.log(60)
        blind, _ = loss_of(objective, np.ones((360, 3), dtype=np.float32), labels[batch])
        assert blind == pytest.approx(math.log(60), rel=1e-5)
    assert math.isfinite(loss)


# --- refusals


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"way": 7}, "7-way episodes need 7 classes, but there are 6 base classes; lower objective.way"),
        (
            {"shot": 5},
            "a base class has 6 images, but 5 shots and 3 queries need 8; "
            "lower objective.shot or objective.query, or add images",
        ),
        (
            {"query": 5},
            "a base class has 6 images, but 2 shots and 5 queries need 7; "
            "lower objective.shot or objective.query, or add images",
        ),
    ],
)
@pytest.mark.parametrize("name", ["prototypical", "relation"])
def test_base_classes_that_cannot_serve_the_episodes_are_refused(
    name: str, changes: dict[str, int], sentence: str
) -> None:
    with pytest.raises(UserError) as caught:
        episodic(name, **changes)
    assert str(caught.value) == sentence
