"""Pairs are balanced, distinct and fairly drawn; threshold and rates agree with plain loops."""

import json
import math
import subprocess
import sys
from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfsl.errors import UserError
from ppfsl.randomness import generator
from ppfsl.verification import (
    MOST_POINTS_OF_THE_CURVE,
    Pairs,
    Verification,
    _unordered,
    choose_threshold,
    draw_pairs,
    draw_sets,
    verify,
)


def all_pairs(labels: np.ndarray) -> tuple[int, int]:
    """How many pairs of one class and of two there are."""
    kinds = [one == other for one, other in combinations(labels.tolist(), 2)]
    return sum(kinds), len(kinds) - sum(kinds)


@st.composite
def pools(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """Shuffled labels, and a count of pairs that they can serve, often the greatest."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=2, max_size=5).filter(lambda sizes: max(sizes) > 1))
    names = draw(st.lists(st.integers(0, 200), min_size=len(sizes), max_size=len(sizes), unique=True))
    labels = generator(draw(st.integers(0, 1000)), "labels").permutation(np.repeat(names, sizes))
    of_one, of_two = all_pairs(labels)
    most = min(2 * of_one, 2 * of_two + 1)
    return labels, draw(st.one_of(st.just(most), st.integers(2, most)))


@st.composite
def judged(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties, and answers of both kinds."""
    same = draw(st.lists(st.booleans(), min_size=2, max_size=25).filter(lambda kinds: len(set(kinds)) == 2))
    values = st.one_of(st.integers(-3, 3), st.floats(-1, 1), st.sampled_from([1e308, 5e-324]))
    scores = draw(st.lists(values, min_size=len(same), max_size=len(same)))
    return np.asarray(scores, dtype=np.float64), np.asarray(same)


def identical(one: Pairs, other: Pairs) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("left", "right", "same"))


@settings(deadline=None)
@given(pool=pools(), seed=st.integers(0, 2**40))
def test_pairs_are_balanced_distinct_and_of_their_kind(pool: tuple[np.ndarray, int], seed: int) -> None:
    labels, count = pool
    pairs = draw_pairs(labels, count, seed)
    assert pairs.left.shape == pairs.right.shape == pairs.same.shape == (count,)
    assert (pairs.left.dtype, pairs.right.dtype, pairs.same.dtype) == (np.int64, np.int64, np.bool_)
    assert pairs.same.sum() == math.ceil(count / 2)
    assert ((labels[pairs.left] == labels[pairs.right]) == pairs.same).all()
    assert (pairs.left != pairs.right).all()
    assert len({frozenset(pair) for pair in zip(pairs.left, pairs.right, strict=True)}) == count
    assert identical(pairs, draw_pairs(labels.copy(), count, seed))


@settings(deadline=None)
@given(pool=pools())
def test_one_pair_more_than_there_are_is_refused(pool: tuple[np.ndarray, int]) -> None:
    labels, _ = pool
    of_one, of_two = all_pairs(labels)
    most = min(2 * of_one, 2 * of_two + 1)
    with pytest.raises(UserError, match=rf"{of_one} pairs of one class and {of_two} of two, .* to {most} or less"):
        draw_pairs(labels, most + 1, 0)


def test_seed_and_purpose_change_the_pairs() -> None:
    labels = np.repeat(np.arange(10), 10)
    draws = [draw_pairs(labels, 40, *key) for key in ((0,), (1,), (0, "validation"))]
    assert not any(identical(one, other) for one, other in combinations(draws, 2))


def test_names_of_classes_do_not_matter_but_their_order() -> None:
    labels = np.repeat([3, 1, 2], [4, 6, 5])
    assert identical(draw_pairs(labels, 20, 5), draw_pairs(10 * labels - 100, 20, 5))


def test_classes_are_drawn_uniformly_however_many_images_they_have() -> None:
    labels = np.repeat([0, 1, 2, 3], [1, 100, 200, 400])
    pairs = draw_pairs(labels, 3000, 0)
    of_one = Counter(labels[pairs.left[pairs.same]].tolist())
    assert set(of_one) == {1, 2, 3}
    assert all(abs(n - 500) < 4 * math.sqrt(1500 * 2 / 9) for n in of_one.values())

    labels = np.repeat([0, 1, 2, 3], [50, 100, 200, 400])
    pairs = draw_pairs(labels, 3000, 1)
    different = zip(labels[pairs.left[~pairs.same]], labels[pairs.right[~pairs.same]], strict=True)
    of_two = Counter(frozenset(map(int, pair)) for pair in different)
    assert len(of_two) == 6
    assert all(abs(n - 250) < 4 * math.sqrt(1500 * 5 / 36) for n in of_two.values())


def test_images_of_a_class_are_drawn_uniformly_and_on_both_sides() -> None:
    labels = np.repeat([0, 1], 50)
    pairs = draw_pairs(labels, 2400, 0)  # 1200 of the 2450 and of the 2500
    for same in (True, False):
        for side in (pairs.left, pairs.right):
            counts = np.bincount(side[pairs.same == same], minlength=100)  # 12 each
            assert counts.min() > 0
            assert counts.max() < 32
            assert abs(counts[:50].sum() - 600) < 4 * math.sqrt(1200 / 4)


def test_pairs_come_in_random_order() -> None:
    same = draw_pairs(np.repeat(np.arange(20), 10), 1000, 0).same
    assert 200 < same[:500].sum() < 300


def test_large_classes_need_no_list_of_their_pairs() -> None:
    labels = np.repeat([0, 1], 200_000)  # 2 x 10^10 pairs of one class
    pairs = draw_pairs(labels, 50, 0)
    assert ((labels[pairs.left] == labels[pairs.right]) == pairs.same).all()
    assert np.bincount(pairs.left // 20_000, minlength=20).astype(bool).sum() > 10


def test_pairs_are_numbered_without_gaps_however_large_the_class() -> None:
    assert list(zip(*map(np.ndarray.tolist, _unordered(np.arange(6))), strict=True)) == [
        *((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)),
    ]
    j = np.concatenate([np.arange(2, 3000), generator(0, "large").integers(3000, 10**7, 3000)])
    first = j * (j - 1) // 2
    assert all(np.array_equal(found, wanted) for found, wanted in zip(_unordered(first), (0 * j, j), strict=True))
    assert all(
        np.array_equal(found, wanted) for found, wanted in zip(_unordered(first - 1), (j - 2, j - 1), strict=True)
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "images of two classes, not 0; add another class"),
        ([7, 7, 7], "images of two classes, not 1; add another class"),
        ([1, 2, 3], "a class with two images, but every class has one; add images"),
        ([1, 1, 2], "1 pairs of one class and 2 of two, too few for 4 pairs, half of each; .* to 2 or less"),
    ],
)
def test_images_that_have_no_such_pairs_are_refused(labels: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        draw_pairs(np.asarray(labels, dtype=np.int64), 4, 0)


@settings(deadline=None)
@given(pool=pools(), sets=st.integers(1, 3), seed=st.integers(0, 1000))
def test_sets_of_pairs_are_balanced_and_share_no_pair(pool: tuple[np.ndarray, int], sets: int, seed: int) -> None:
    labels, _ = pool
    of_one, of_two = all_pairs(labels)
    most = min(2 * (of_one // sets), 2 * (of_two // sets) + 1)
    remedy = f"; lower verification.pairs to {most} or less, or add images" if most > 1 else "; add images"
    with pytest.raises(UserError, match=f"too few for .*, half of each{remedy}$"):
        draw_sets(labels, max(most + 1, 2), sets, seed)
    if most < 2:
        return
    drawn = draw_sets(labels, most, sets, seed)
    assert len(drawn) == sets
    for pairs in drawn:
        assert len(pairs.same) == most
        assert pairs.same.sum() == math.ceil(most / 2)
        assert ((labels[pairs.left] == labels[pairs.right]) == pairs.same).all()
    every = [frozenset(pair) for pairs in drawn for pair in zip(pairs.left, pairs.right, strict=True)]
    assert len(set(every)) == sets * most
    assert all(identical(*both) for both in zip(drawn, draw_sets(labels, most, sets, seed), strict=True))


def test_sets_of_pairs_come_in_random_order() -> None:
    for pairs in draw_sets(np.repeat(np.arange(20), 10), 800, 2, 0):
        assert 150 < pairs.same[:400].sum() < 250


def test_fewer_than_two_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        draw_pairs(np.asarray([0, 0, 1]), 1, 0)


@settings(deadline=None)
@given(pairs=judged())
def test_no_threshold_is_right_more_often_than_the_chosen(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    scores, same = pairs
    chosen = choose_threshold(scores, same)
    correct = ((scores >= chosen) == same).sum()
    for other in [*scores, np.inf]:
        refused = (scores < other).sum()
        right = ((scores >= other) == same).sum()
        assert right <= correct
        if right == correct:  # of equals, the one that refuses most
            assert refused <= (scores < chosen).sum()
    assert math.isfinite(chosen)


@pytest.mark.parametrize(
    ("scores", "same", "threshold"),
    [
        ([0.2, 0.4, 0.6, 0.9], [False, False, True, True], 0.5),
        ([0.9, 0.2, 0.6, 0.4], [True, False, True, False], 0.5),  # in any order
        ([0.1, 0.2, 0.3, 0.4], [True, False, True, False], np.nextafter(0.4, 1)),  # 2 right in many ways
        ([0.0, 1.0, 2.0, 4.0], [False, True, False, True], 3.0),  # 3 right at 0.5 and at 3
        ([0.5, 0.5, 0.5], [True, True, False], 0.5),  # equal scores are not parted
        ([0.5, 0.5, 0.5], [True, False, False], np.nextafter(0.5, 1)),
        ([1e308, 1.5e308], [False, True], 1.25e308),
        ([1.0, np.nextafter(1, 2)], [False, True], np.nextafter(1, 2)),  # nothing lies between
        ([-9.0, -4.0], [False, True], -6.5),  # such as negative distances
    ],
)
def test_the_threshold_has_its_known_values(scores: list[float], same: list[bool], threshold: float) -> None:
    assert choose_threshold(np.asarray(scores), np.asarray(same)) == pytest.approx(threshold, abs=0, rel=1e-15)


def auc_by_loops(scores: np.ndarray, same: np.ndarray) -> float:
    """The share of (same, different) that are ordered right, ties half."""
    right = [(one > other) + 0.5 * (one == other) for one in scores[same] for other in scores[~same]]
    return float(np.mean(right))


def area(found: Verification) -> float:
    return float((np.diff(found.fpr) * (found.tpr[1:] + found.tpr[:-1]) / 2).sum())


def eer_by_loops(scores: np.ndarray, same: np.ndarray) -> float:
    """Where the polyline through (fpr, tpr) at every threshold meets fpr = 1 - tpr."""
    points = [(0.0, 0.0)]
    for threshold in sorted(set(scores.tolist()), reverse=True):
        points.append((np.mean(scores[~same] >= threshold), np.mean(scores[same] >= threshold)))
    for (x, y), (right, top) in pairwise(points):
        if right + top >= 1:
            return x + (right - x) * (1 - x - y) / (right - x + top - y)
    raise AssertionError("the curve ends at (1, 1)")


@settings(deadline=None)
@given(pairs=judged(), threshold=st.floats(-2, 2))
def test_all_numbers_agree_with_plain_loops(pairs: tuple[np.ndarray, np.ndarray], threshold: float) -> None:
    scores, same = pairs
    found = verify(scores, same, threshold)
    yes = [bool(score >= threshold) for score in scores]
    correct = sum(answer == truth for answer, truth in zip(yes, same.tolist(), strict=True))
    share = correct / len(same)
    assert found.pairs == len(same)
    assert found.threshold == threshold
    assert found.roc_auc == pytest.approx(auc_by_loops(scores, same), abs=1e-12)
    assert found.equal_error_rate == pytest.approx(eer_by_loops(scores, same), abs=1e-12)
    assert found.accuracy == pytest.approx(share, abs=1e-12)
    assert found.ci95 == pytest.approx(1.96 * math.sqrt(share * (1 - share) / len(same)), abs=1e-12)
    accepted = [sum(a for a, s in zip(yes, same, strict=True) if s == kind) for kind in (True, False)]
    assert found.true_accept_rate == pytest.approx(accepted[0] / same.sum(), abs=1e-12)
    assert found.false_accept_rate == pytest.approx(accepted[1] / (~same).sum(), abs=1e-12)
    assert area(found) == pytest.approx(found.roc_auc, abs=1e-12)  # so few points are all drawn


def test_perfect_separation() -> None:
    same = np.arange(100) % 2 == 0
    scores = np.where(same, 0.9, 0.1)
    found = verify(scores, same, choose_threshold(scores, same))
    assert (found.roc_auc, found.equal_error_rate, found.accuracy, found.ci95) == (1, 0, 1, 0)
    assert (found.true_accept_rate, found.false_accept_rate, found.threshold) == (1, 0, 0.5)
    turned = verify(-scores, same, 0.0)
    assert (turned.roc_auc, turned.equal_error_rate) == (0, 1)


def test_guessing_is_right_half_the_time() -> None:
    same = np.arange(20_000) % 2 == 0
    found = verify(generator(0, "guess").normal(size=20_000), same, 0.0)
    assert found.roc_auc == pytest.approx(0.5, abs=0.02)
    assert found.equal_error_rate == pytest.approx(0.5, abs=0.02)
    assert found.accuracy == pytest.approx(0.5, abs=2 * found.ci95)
    assert found.ci95 == pytest.approx(0.00693, abs=1e-4)
    constant = verify(np.zeros(20_000), same, 0.0)
    assert (constant.roc_auc, constant.equal_error_rate, constant.false_accept_rate) == (0.5, 0.5, 1)


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    same = np.arange(8000) % 2 == 0
    found = verify(generator(0, "long").normal(size=8000) + same, same, 0.5)
    assert len(found.fpr) == len(found.tpr) == MOST_POINTS_OF_THE_CURVE == 200
    assert (found.fpr[0], found.tpr[0], found.fpr[-1], found.tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(found.fpr) >= 0).all()
    assert (np.diff(found.tpr) >= 0).all()
    assert area(found) == pytest.approx(found.roc_auc, abs=0.005)


def test_single_precision_scores_do() -> None:
    same = np.asarray([True, False, True, False])
    scores = np.asarray([0.9, 0.1, 0.8, 0.3], dtype=np.float32)
    threshold = choose_threshold(scores, same)
    assert verify(scores, same, threshold).accuracy == 1


def test_the_json_holds_every_number_and_survives_the_round_trip() -> None:
    same = np.asarray([True, True, False, False])
    found = verify(np.asarray([0.9, 0.4, 0.6, 0.1]), same, 0.5)
    assert isinstance(found, Verification)
    entry = found.to_json()
    assert json.loads(json.dumps(entry, allow_nan=False)) == entry
    assert entry == {
        **{"pairs": 4, "roc_auc": 0.75, "equal_error_rate": 0.5, "threshold": 0.5, "accuracy": 0.5, "ci95": 0.49},
        **{"true_accept_rate": 0.5, "false_accept_rate": 0.5},
        "roc": {"fpr": [0.0, 0.0, 0.5, 0.5, 1.0], "tpr": [0.0, 0.5, 0.5, 1.0, 1.0]},
    }


@pytest.mark.parametrize(
    ("scores", "same", "message"),
    [
        ([0.1, 0.2], [True, True], "pairs of one class and pairs of two"),
        ([0.1, 0.2], [False, False], "pairs of one class and pairs of two"),
        ([0.1, np.nan], [True, False], "finite"),
        ([0.1], [True, False], r"\[P\] both, not \(1,\) and \(2,\)"),
        ([], [], r"\[P\] both, not \(0,\)"),
    ],
)
def test_scores_that_cannot_be_judged_are_refused(scores: list[float], same: list[bool], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        verify(np.asarray(scores), np.asarray(same, dtype=bool), 0.5)
    if "pairs of" not in message:
        with pytest.raises(ValueError, match=message):
            choose_threshold(np.asarray(scores), np.asarray(same, dtype=bool))


def test_importing_it_imports_neither_scikit_learn_nor_paddle() -> None:
    code = "import sys, ppfsl.verification; sys.exit(bool({'sklearn', 'paddle'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
