"""When a picture is unlike every class, against plain loops."""

import numpy as np
import pytest

from ppfsl.classifier import rejection
from ppfsl.classifier.rejection import by_support_set, by_validation_classes, leave_one_out
from ppfsl.distances import normalized
from ppfsl.randomness import generator
from ppfsl.verification import choose_threshold


def points(counts: list[int], dim: int = 6, spread: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of length one around a direction per class, in mixed order."""
    rng = np.random.default_rng(seed)
    centres = normalized(rng.normal(size=(len(counts), dim)))
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    return normalized(centres[labels] + spread * rng.normal(size=(len(labels), dim))).astype(np.float32), labels


def cosine(vector: np.ndarray, others: np.ndarray) -> float:
    mean = others.mean(0)
    return float(vector @ mean / np.linalg.norm(mean))


@pytest.mark.parametrize("counts", [[4, 4, 4], [1, 3, 2, 5], [2, 2], [1, 1, 1]])
def test_leave_one_out_against_plain_loops(counts: list[int]) -> None:
    embeddings, labels = points(counts)
    known, unknown = leave_one_out(embeddings, labels)
    wanted_known, wanted_unknown = [], []
    for i, label in enumerate(labels):
        row = []
        for name in range(len(counts)):
            rest = [j for j in range(len(labels)) if labels[j] == name and j != i]
            row.append(cosine(embeddings[i], embeddings[rest]) if rest else np.nan)
        if counts[label] > 1:
            wanted_known.append(row)
        wanted_unknown.append(max(value for name, value in enumerate(row) if name != label))
    np.testing.assert_allclose(known, np.reshape(wanted_known, (-1, len(counts))), atol=1e-6)
    np.testing.assert_allclose(unknown, wanted_unknown, atol=1e-6)
    assert known.dtype == unknown.dtype == np.float32


def test_threshold_of_a_support_set_is_the_best_on_both_kinds() -> None:
    embeddings, labels = points([5, 4, 1, 6], spread=0.45)
    known, unknown = leave_one_out(embeddings, labels)
    found = by_support_set(embeddings, labels)
    assert found is not None

    def right(threshold: float) -> int:
        return int((known.max(1) >= threshold).sum() + (unknown < threshold).sum())

    assert right(found.threshold) == max(right(t) for t in [-2.0, 2.0, *known.max(1), *unknown, *(unknown + 1e-6)])
    assert right(found.threshold) < len(known) + len(unknown), "the kinds overlap, or this says nothing"
    assert found.known_kept == pytest.approx(np.mean([score >= found.threshold for score in known.max(1)]))
    assert found.unknown_rejected == pytest.approx(np.mean([score < found.threshold for score in unknown]))
    assert found.chosen_on == "the support set, each class in turn taken for unknown"


@pytest.mark.parametrize("counts", [[5, 5], [1, 1, 1, 1]])
def test_too_small_support_sets_have_no_threshold(counts: list[int]) -> None:
    assert by_support_set(*points(counts)) is None


def test_one_class_of_two_pictures_among_three_is_enough_for_a_guess() -> None:
    found, more = (by_support_set(*points(counts, spread=0.1)) for counts in ([2, 1, 1], [4, 2, 1]))
    assert found is not None and more is not None
    assert found.chosen_on == f"{more.chosen_on}, of few pictures and little more than a guess"


def test_a_threshold_that_all_of_the_known_miss_is_none() -> None:
    one, other, half = np.float32([1, 0, 0]), np.float32([0, 1, 0]), np.float32([0, 0.5, 0.75**0.5])
    same_in_three_classes = np.stack([one, one, one, other, half])
    assert by_support_set(same_in_three_classes, np.array([0, 1, 2, 3, 3])) is None
    in_one = by_support_set(same_in_three_classes, np.array([0, 0, 0, 1, 2]))
    assert in_one is not None and in_one.known_kept == 1


@pytest.mark.parametrize(("way", "shot", "known_classes"), [(2, 3, 2), (5, 1, 3), (20, 6, 2)])
def test_threshold_by_validation_classes_against_plain_loops(way: int, shot: int, known_classes: int) -> None:
    counts = [20, 9, 8, 7, 5, 5]
    embeddings, labels = points(counts, dim=4, spread=0.5)
    found = by_validation_classes(embeddings, labels, way, shot, "here", seed=3)
    assert found is not None
    usable = [name for name in range(6) if counts[name] > shot]
    scores: list[float] = []
    is_known: list[bool] = []
    for number in range(rejection.EPISODES):
        rng = generator(3, "rejection", number)
        names = list(rng.permutation(usable))[: 2 * known_classes]
        drawn = {name: rng.permutation(np.flatnonzero(labels == name)) for name in names}
        means = [embeddings[drawn[name][:shot]] for name in names[:known_classes]]
        for name in names:
            for row in drawn[name][shot : shot + rejection.QUERIES]:
                scores.append(max(cosine(embeddings[row], shots) for shots in means))
                is_known.append(name in names[:known_classes])
    known = np.array(is_known)
    assert found.threshold == pytest.approx(choose_threshold(np.array(scores), known), abs=1e-5)
    assert found.known_kept == pytest.approx((np.array(scores)[known] >= found.threshold).mean(), abs=1e-3)
    assert found.unknown_rejected == pytest.approx((np.array(scores)[~known] < found.threshold).mean(), abs=1e-3)
    assert found.chosen_on == "here"


def test_validation_classes_that_are_too_few_choose_nothing() -> None:
    embeddings, labels = points([6, 6, 6, 3])
    assert by_validation_classes(embeddings, labels, 5, 3, "") is None
    assert by_validation_classes(embeddings, labels, 5, 2, "") is not None


def test_the_same_seed_the_same_threshold() -> None:
    embeddings, labels = points([12] * 6, dim=3, spread=0.6)
    first, again, other = (by_validation_classes(embeddings, labels, 3, 2, "", seed) for seed in (0, 0, 1))
    assert first == again != other


def test_classes_far_apart_are_told_from_others_without_a_mistake() -> None:
    embeddings, labels = points([8] * 8, dim=64, spread=0.03)
    for found in (by_support_set(embeddings, labels), by_validation_classes(embeddings, labels, 3, 2, "")):
        assert found is not None
        assert (found.known_kept, found.unknown_rejected) == (1, 1)
        assert 0.3 < found.threshold < 0.99
