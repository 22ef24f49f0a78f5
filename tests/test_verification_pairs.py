"""Pairs are balanced, distinct and fairly drawn."""

import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfsl.errors import UserError
from ppfsl.randomness import generator
from ppfsl.verification import Pairs, _unordered, draw_pairs, draw_sets


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
