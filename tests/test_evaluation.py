"""Accuracy, interval, classes and confusion against plain loops, on methods whose answers are known."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfsl.data.episodes import Episode, EpisodeSampler
from ppfsl.evaluation import Evaluation, evaluate
from ppfsl.methods.base import Classifier, Support
from ppfsl.methods.class_mean import ClassMean
from ppfsl.randomness import generator

LABELS = np.repeat([4, 2, 9, 30, 7, 1], 12)
NAMES = {label: f"flower {label}" for label in LABELS.tolist()}


@dataclass
class Fake:
    """Answers by a table from image index to class inside the episode; remembers what it was given."""

    answers: np.ndarray
    transductive: bool = False
    name: str = "fake"
    inputs: Literal["embedding"] = "embedding"
    seen: list[Support] = field(default_factory=list)

    def adapt(self, support: Support) -> Classifier:
        self.seen.append(support)

        def classify(query: paddle.Tensor) -> paddle.Tensor:
            indices = query.numpy()[..., 0].astype(np.int64)
            return paddle.to_tensor(np.eye(support.way)[self.answers[indices] % support.way])

        return classify


def gather(rows: np.ndarray) -> np.ndarray:
    """An image's "embedding" is its index."""
    return rows[..., None].astype(np.float32)


def episodes_of(way: int = 3, shot: int = 2, query: int = 4, count: int = 25, seed: int = 0) -> list[Episode]:
    return list(EpisodeSampler(np.arange(len(LABELS)), LABELS, way, shot, query, seed).take(count))


def fake(seed: int = 0, **changes: Any) -> Fake:
    return Fake(generator(0, "answers", seed).integers(0, 60, len(LABELS)), **changes)


def test_an_answer_that_is_not_finite_is_wrong_and_counted() -> None:
    class Lost(Fake):
        def adapt(self, support: Support) -> Classifier:
            known = super().adapt(support)

            def classify(query: paddle.Tensor) -> paddle.Tensor:
                logits = known(query).numpy()
                logits[:, 0, 1], logits[:, 1, 2], logits[:, 2] = np.nan, -np.inf, np.inf
                return paddle.to_tensor(logits)

            return classify

    episodes = episodes_of(way=3, query=4, count=5)
    everywhere = Lost(np.zeros(len(LABELS), dtype=np.int64))  # class 0, which is right for the first queries
    done = evaluate(everywhere, gather, episodes, np.unique(LABELS), batch_bytes=1)
    assert done.unanswered == 3 * 5
    assert done.accuracies.tolist() == [1 / 12] * 5
    assert done.confusion.sum() == 9 * 5
    assert evaluate(fake(), gather, episodes, np.unique(LABELS)).unanswered == 0


@settings(deadline=None, max_examples=25)
@given(way=st.integers(2, 6), query=st.integers(1, 5), count=st.integers(1, 30), seed=st.integers(0, 50))
def test_scores_match_plain_loops(way: int, query: int, count: int, seed: int) -> None:
    episodes, method = episodes_of(way, 2, query, count, seed), fake(seed)
    done = evaluate(method, gather, episodes, np.unique(LABELS))
    accuracies: list[float] = []
    totals: dict[int, int] = {}
    rights: dict[int, int] = {}
    pairs: dict[tuple[int, int], int] = {}
    for episode in episodes:
        right = 0
        for own, images in enumerate(episode.query.tolist()):
            for image in images:
                truth = int(episode.classes[own])
                taken = int(episode.classes[method.answers[image] % way])
                right += truth == taken
                totals[truth] = totals.get(truth, 0) + 1
                rights[truth] = rights.get(truth, 0) + (truth == taken)
                pairs[truth, taken] = pairs.get((truth, taken), 0) + 1
        accuracies.append(right / (way * query))
    mean = sum(accuracies) / count
    deviation = math.sqrt(sum((a - mean) ** 2 for a in accuracies) / count)
    assert (done.way, done.shot, done.query) == (way, 2, query)
    assert done.accuracies.tolist() == pytest.approx(accuracies)
    assert done.accuracy == pytest.approx(mean)
    assert done.ci95 == pytest.approx(1.96 * deviation / math.sqrt(count))
    rows = done.per_class(NAMES)
    drawn = sorted(totals)
    assert [row["label"] for row in rows] == drawn
    for row in rows:
        label = row["label"]
        assert (row["name"], row["correct"], row["total"]) == (NAMES[label], rights[label], totals[label])
        assert row["accuracy"] == pytest.approx(rights[label] / totals[label])
    assert done.confusion_of_drawn() == [[pairs.get((one, other), 0) for other in drawn] for one in drawn]


def test_totals_agree_with_one_another() -> None:
    done = evaluate(fake(), gather, episodes_of(), np.unique(LABELS))
    rows, confusion = done.per_class(NAMES), done.confusion_of_drawn()
    total, correct = sum(row["total"] for row in rows), sum(row["correct"] for row in rows)
    assert total == 25 * 3 * 4 == sum(map(sum, confusion))
    assert correct / total == pytest.approx(done.accuracy, abs=1e-12)
    assert [sum(line) for line in confusion] == [row["total"] for row in rows]
    assert [confusion[i][i] for i in range(len(rows))] == [row["correct"] for row in rows]
    for row in rows:
        kinds = {"label": int, "name": str, "correct": int, "total": int, "accuracy": float}
        assert {key: type(value) for key, value in row.items()} == kinds
    assert type(done.accuracy) is type(done.ci95) is float
    assert type(confusion[0][0]) is int
    assert done.seconds > 0


def test_classes_that_were_never_drawn_are_left_out() -> None:
    episodes = [Episode(np.asarray([30, 2]), np.asarray([[36], [12]]), np.asarray([[37, 38], [13, 14]]))]
    answers = np.zeros(len(LABELS), dtype=np.int64)
    answers[[38, 13]] = 1
    done = evaluate(Fake(answers), gather, episodes, np.unique(LABELS))
    rows = done.per_class(NAMES)
    assert [(row["label"], row["correct"], row["total"]) for row in rows] == [(2, 1, 2), (30, 1, 2)]
    assert done.confusion_of_drawn() == [[1, 1], [1, 1]]
    assert done.confusion.shape == (6, 6)
    assert (done.accuracy, done.ci95) == (0.5, 0)


def test_order_of_the_classes_does_not_matter() -> None:
    one, two = (
        evaluate(fake(), gather, episodes_of(), order) for order in (np.unique(LABELS), np.unique(LABELS)[::-1])
    )
    assert np.array_equal(one.confusion, two.confusion)
    assert one.classes.tolist() == two.classes.tolist() == [1, 2, 4, 7, 9, 30]


@pytest.mark.parametrize("batch_bytes", [1, 150, 1000, 1 << 26])
def test_batch_size_does_not_matter(batch_bytes: int) -> None:
    episodes, method = episodes_of(), fake()
    whole = evaluate(fake(), gather, episodes, np.unique(LABELS))
    done = evaluate(method, gather, episodes, np.unique(LABELS), batch_bytes=batch_bytes)
    assert np.array_equal(done.accuracies, whole.accuracies)
    assert np.array_equal(done.confusion, whole.confusion)
    sizes = [len(support.numbers) for support in method.seen]
    assert sum(sizes) == 25
    assert max(sizes) == max(1, min(25, batch_bytes // (4 * 3 * 6)))
    assert np.concatenate([support.numbers for support in method.seen]).tolist() == list(range(25))


def test_more_episodes_than_a_batch_may_hold() -> None:
    method = fake()
    evaluate(method, gather, episodes_of(count=401), np.unique(LABELS))
    assert [len(support.numbers) for support in method.seen] == [200, 200, 1]


def test_method_gets_support_and_no_query_labels() -> None:
    episodes = episodes_of(count=7)
    for transductive in (False, True):
        method = fake(transductive=transductive)
        evaluate(method, gather, episodes, np.unique(LABELS))
        (support,) = method.seen
        assert support.way == 3
        assert support.labels.numpy().tolist() == [0, 0, 1, 1, 2, 2]
        expected = np.stack([episode.support.ravel() for episode in episodes])
        assert np.array_equal(support.inputs.numpy()[..., 0], expected)
        if transductive:
            assert support.unlabelled is not None
            queries = np.stack([episode.query.ravel() for episode in episodes])
            assert np.array_equal(support.unlabelled.numpy()[..., 0], queries)
        else:
            assert support.unlabelled is None


def test_inputs_of_any_shape_pass() -> None:
    """Pixels, as methods that work on images get them."""
    shapes: list[tuple[int, ...]] = []

    def images(rows: np.ndarray) -> np.ndarray:
        return np.tile(rows[..., None, None, None].astype(np.float32), (1, 1, 3, 4, 4))

    class Shapes(Fake):
        def adapt(self, support: Support) -> Classifier:
            shapes.append(tuple(support.inputs.shape))
            classify = super().adapt(support)
            return lambda query: classify(query[:, :, 0, 0, :1])

    method = Shapes(fake().answers)
    done = evaluate(method, images, episodes_of(), np.unique(LABELS), batch_bytes=4 * 48 * 18 * 10)
    assert shapes == [(10, 6, 3, 4, 4), (10, 6, 3, 4, 4), (5, 6, 3, 4, 4)]
    assert np.array_equal(done.accuracies, evaluate(fake(), gather, episodes_of(), np.unique(LABELS)).accuracies)


def scored(embeddings: np.ndarray) -> Evaluation:
    return evaluate(ClassMean(), embeddings.__getitem__, episodes_of(count=200), np.unique(LABELS))


def test_perfect_embeddings_score_one_and_random_ones_chance() -> None:
    _, places = np.unique(LABELS, return_inverse=True)
    perfect = scored(np.eye(6, dtype=np.float32)[places])
    assert (perfect.accuracy, perfect.ci95) == (1, 0)
    chance = scored(generator(0, "embeddings").standard_normal((len(LABELS), 16)).astype(np.float32))
    assert 0 < chance.ci95 < 0.05
    assert abs(chance.accuracy - 1 / 3) < 3 * chance.ci95  # one table of images is one draw, too
