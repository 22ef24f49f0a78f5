"""Threshold and rates of scored pairs agree with plain loops."""

import json
import math
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfsl.randomness import generator
from ppfsl.verification import MOST_POINTS_OF_THE_CURVE, Verification, choose_threshold, verify


@st.composite
def judged(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties, and answers of both kinds."""
    same = draw(st.lists(st.booleans(), min_size=2, max_size=25).filter(lambda kinds: len(set(kinds)) == 2))
    values = st.one_of(st.integers(-3, 3), st.floats(-1, 1), st.sampled_from([1e308, 5e-324]))
    scores = draw(st.lists(values, min_size=len(same), max_size=len(same)))
    return np.asarray(scores, dtype=np.float64), np.asarray(same)


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
