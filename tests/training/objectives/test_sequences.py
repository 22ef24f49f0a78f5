"""Sequences of images whose labels come one step late: what is in them, what they are judged by, and learning."""

from typing import Any

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfsl.config import MemoryAugmentedConfig
from ppfsl.data.episodes import EpisodeSampler
from ppfsl.errors import UserError
from ppfsl.methods.memory_augmented import MemoryAugmented
from ppfsl.randomness import generator
from ppfsl.training.objectives.sequences import Sequences, instance_numbers

LABELS = generator(0, "labels").permutation(np.repeat(np.arange(6), (7, 5, 9, 5, 6, 8)))
KEYS: dict[str, Any] = {
    "way": 3,
    "instances": 4,
    "episodes_per_batch": 2,
    "hidden": 5,
    "slots": 6,
    "width": 4,
    "heads": 2,
}


def sequences(labels: np.ndarray = LABELS, seed: int = 0, dim: int = 3, **changes: Any) -> Sequences:
    config = MemoryAugmentedConfig.model_validate({"name": "memory_augmented", **KEYS, **changes})
    return Sequences(config, labels, dim, seed)


def batches(objective: Sequences, epoch: int, steps: int = 3) -> list[list[int]]:
    return [batch.tolist() for batch in objective.batches(epoch, steps)]


# --- batches


@settings(deadline=None, max_examples=25)
@given(
    way=st.integers(2, 6), instances=st.integers(2, 5), count=st.integers(1, 3), epoch=st.integers(0, 50),
    seed=st.integers(0, 2**40),
)  # fmt: skip
def test_a_sequence_shows_every_class_so_many_times(
    way: int, instances: int, count: int, epoch: int, seed: int
) -> None:
    objective = sequences(way=way, instances=instances, episodes_per_batch=count, seed=seed)
    for batch in objective.batches(epoch, 2):
        assert batch.shape == (count * way * instances,)
        for rows in np.split(batch, count):
            assert len(set(rows.tolist())) == way * instances
            classes = LABELS[rows].reshape(way, instances)
            assert (classes == classes[:, :1]).all()
            assert len(set(classes[:, 0].tolist())) == way


@settings(deadline=None, max_examples=25)
@given(
    way=st.integers(2, 6), instances=st.integers(2, 5), count=st.integers(2, 3), epoch=st.integers(1, 50),
    steps=st.integers(1, 4), seed=st.integers(0, 2**40),
)  # fmt: skip
def test_batches_are_the_samplers_episodes_one_after_another(
    way: int, instances: int, count: int, epoch: int, steps: int, seed: int
) -> None:
    objective = sequences(way=way, instances=instances, episodes_per_batch=count, seed=seed)
    sampler = EpisodeSampler(np.arange(len(LABELS)), LABELS, way, instances - 1, 1, seed)
    found = [rows.tolist() for batch in objective.batches(epoch, steps) for rows in np.split(batch, count)]
    first = epoch * steps * count
    episodes = [sampler[number] for number in range(first, first + steps * count)]
    assert found == [np.column_stack([episode.support, episode.query]).ravel().tolist() for episode in episodes]


def test_batches_are_pure_functions_of_seed_and_epoch() -> None:
    expected = batches(sequences(), 3)
    assert batches(sequences(), 3) == expected
    assert batches(sequences(), 4) != expected
    assert batches(sequences(seed=1), 3) != expected
    used = sequences()
    batches(used, 9)
    assert batches(used, 3) == expected
    assert len({tuple(batch) for epoch in range(4) for batch in batches(used, epoch)}) == 12


def test_the_classes_of_sequences_come_in_any_order() -> None:
    """So that a class's label within a sequence tells nothing about the class."""
    first = [LABELS[batch[0]] for epoch in range(30) for batch in batches(sequences(), epoch)]
    assert np.bincount(first, minlength=6).min() > 3


def test_an_epoch_shows_every_image_about_once() -> None:
    assert len(LABELS) == 40
    assert sequences().steps == 40 // (3 * 4 * 2) == 1
    assert sequences(episodes_per_batch=1).steps == 3
    assert sequences(episodes_per_batch=50).steps == 1


# --- instances


def test_instance_numbers_by_hand() -> None:
    labels = np.asarray([[0, 0, 1, 0, 2, 1], [2, 1, 2, 2, 2, 1]])
    assert instance_numbers(labels).tolist() == [[1, 2, 1, 3, 1, 2], [1, 1, 2, 3, 4, 2]]


# --- loss


class Scripted:
    """Stands for a network: answers from a table, and keeps what it is shown."""

    def __init__(self, logits: np.ndarray) -> None:
        self.logits, self.shown = logits, []

    def __call__(self, vectors: paddle.Tensor, labels: paddle.Tensor) -> Any:
        self.shown.append((vectors.numpy(), labels.numpy()))
        return paddle.to_tensor(self.logits), None


def judged(objective: Sequences, network: Any, projected: np.ndarray, key: int = 0) -> tuple[float, dict[str, float]]:
    objective.method = MemoryAugmented(network)
    of_base = paddle.zeros([len(projected)], "int64")  # which do not matter: sequences number their classes anew
    loss, terms = objective.loss(paddle.to_tensor(projected), of_base, generator(0, "chance", key))
    return loss.item(), terms


def test_images_are_shown_in_a_random_order_each_with_its_class() -> None:
    projected = np.repeat(np.arange(24.0)[:, None], 3, axis=1)  # each vector says which image it is
    orders = []
    for key in (0, 0, 1):
        network = Scripted(np.zeros((2, 12, 3)))
        judged(sequences(), network, projected, key)
        ((vectors, labels),) = network.shown
        images = vectors[..., 0].astype(int)
        assert np.sort(images).tolist() == np.arange(24).reshape(2, 12).tolist()
        assert (labels == images % 12 // 4).all()
        orders.append((images % 12).tolist())
    assert orders[0] == orders[1] != orders[2]
    assert orders[0][0] != orders[0][1]


@pytest.mark.parametrize(("instances", "numbers"), [(2, (1, 2)), (4, (1, 2)), (5, (1, 2, 5)), (12, (1, 2, 5, 10))])
def test_loss_and_accuracy_terms_by_hand(instances: int, numbers: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(4), 12)
    times = 3 * instances
    logits = generator(0, "logits").normal(size=(2, times, 3))
    objective, network = sequences(labels, instances=instances), Scripted(logits)
    loss, terms = judged(objective, network, np.zeros((2 * times, 3)))
    truth = network.shown[0][1]
    right: dict[int, list[bool]] = {}
    total = 0.0
    for row in range(2):
        counts = [0, 0, 0]
        for time, label in enumerate(truth[row].tolist()):
            counts[label] += 1
            right.setdefault(counts[label], []).append(logits[row, time].argmax() == label)
            odds = np.exp(logits[row, time])
            total -= np.log(odds[label] / odds.sum())
    assert loss == pytest.approx(total / (2 * times), rel=1e-6)
    assert terms == {f"accuracy_{number}": pytest.approx(np.mean(right[number])) for number in numbers}


def test_every_image_counts_in_the_gradient() -> None:
    objective = sequences()
    objective.method.layer.train()
    x = paddle.to_tensor(generator(0, "x").normal(size=(24, 3)).astype(np.float32), stop_gradient=False)
    loss, _ = objective.loss(x, paddle.to_tensor(np.zeros(24, np.int64)), generator(0, "chance"))
    loss.backward()
    assert (np.abs(x.grad.numpy()).max(-1) > 0).all()
    for name, parameter in objective.head.named_parameters():
        assert np.abs(parameter.grad.numpy()).max() > 0, name


# --- learning


def test_it_learns_to_look_classes_up() -> None:
    """Vectors about random directions, never the same twice: images that come again are known, first ones are not."""
    way, instances, count, dim = 3, 3, 32, 8
    keys = {"way": way, "instances": instances, "episodes_per_batch": count}
    sizes = {"hidden": 40, "slots": 12, "width": 12, "heads": 2}
    objective = sequences(np.repeat(np.arange(way), instances), dim=dim, **keys, **sizes)
    adam = paddle.optimizer.Adam(
        6e-3, parameters=objective.head.parameters(), grad_clip=paddle.nn.ClipGradByGlobalNorm(5.0)
    )
    truth, scores = paddle.to_tensor(np.repeat(np.arange(way), instances)), []
    for step in range(450):
        rng = generator(0, "vectors", step)
        x = rng.normal(size=(count, way, 1, dim)) * 1.5 + 0.2 * rng.normal(size=(count, way, instances, dim))
        vectors = paddle.to_tensor(x.reshape(-1, dim).astype(np.float32))
        loss, terms = objective.loss(vectors, truth, generator(0, "order", step))
        loss.backward()
        adam.step()
        adam.clear_grad()
        scores.append(terms)
    first, second = (np.mean([terms[f"accuracy_{number}"] for terms in scores[-30:]]) for number in (1, 2))
    assert second > 0.75
    # One of the labels that have not been seen is the best guess: a third of (1/3 + 1/2 + 1).
    assert first < 0.65


# --- refusals


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"way": 7}, "7-way episodes need 7 classes, but there are 6 base classes; lower objective.way"),
        (
            {"instances": 6},
            "a base class has 5 images, but sequences show 6 of each; lower objective.instances, or add images",
        ),
    ],
)
def test_base_classes_that_cannot_serve_the_sequences_are_refused(changes: Any, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        sequences(**changes)
    assert str(caught.value) == sentence


def test_it_never_complains() -> None:
    assert sequences().complaint({"loss": 99.0, "accuracy_2": 0.0}) is None
