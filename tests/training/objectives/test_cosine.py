"""Cosine similarity of pairs: triples of images, and the squared error by plain arithmetic."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfsl.config import CosineConfig
from ppfsl.errors import UserError
from ppfsl.randomness import generator
from ppfsl.training.objectives.cosine import Cosine

LABELS = generator(0, "labels").permutation(np.repeat(np.arange(6), (7, 4, 9, 5, 4, 8)))


def cosine(labels: np.ndarray = LABELS, seed: int = 0, **changes: Any) -> Any:
    return Cosine(CosineConfig(name="cosine", **changes), labels, seed)


@settings(deadline=None, max_examples=50)
@given(sizes=st.lists(st.integers(1, 6), min_size=3, max_size=6), triples=st.integers(1, 9), epoch=st.integers(0, 9))
def test_triples_are_anchor_positive_and_negative(sizes: list[int], triples: int, epoch: int) -> None:
    sizes = [*sizes, 2, 3]  # two classes that can give an anchor and a positive
    labels = generator(0, "labels", *sizes).permutation(np.repeat(np.arange(len(sizes)), sizes))
    objective = cosine(labels, triples=triples)
    assert objective.steps == max(len(labels) // (3 * triples), 1)
    for batch in objective.batches(epoch, 3):
        assert batch.shape == (3 * triples,)
        for anchor, positive, negative in batch.reshape(3, triples).T:
            assert anchor != positive
            assert labels[anchor] == labels[positive]
            assert labels[anchor] != labels[negative]


def test_triples_reach_every_class_and_pair_of_classes() -> None:
    batch = next(iter(cosine(triples=2000).batches(0, 1))).reshape(3, -1)
    anchors, negatives = LABELS[batch[0]], LABELS[batch[2]]
    counts = np.zeros((6, 6))
    np.add.at(counts, (anchors, negatives), 1)
    assert (np.diag(counts) == 0).all()
    off = counts[~np.eye(6, dtype=bool)]
    assert np.abs(off - 2000 / 30).max() < 45  # 5.5 standard deviations
    assert set(batch[0]) == set(range(len(LABELS)))


def test_squared_error_of_the_pairs(vectors: Callable[..., Any], loss_of: Callable[..., Any]) -> None:
    x = vectors(6).astype(np.float64)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    similar = [float(unit[i] @ unit[2 + i]) for i in range(2)]
    different = [float(unit[i] @ unit[4 + i]) for i in range(2)]
    expected = (sum((s - 1) ** 2 for s in similar) + sum(s**2 for s in different)) / 4
    loss, terms = loss_of(cosine(triples=2), x.astype(np.float32), np.asarray([0, 1, 0, 1, 1, 0]))
    assert loss == pytest.approx(expected, rel=1e-5)
    assert terms == {
        "similarity_same": pytest.approx(sum(similar) / 2, rel=1e-5),
        "similarity_other": pytest.approx(sum(different) / 2, rel=1e-5),
    }


def test_base_classes_that_cannot_fill_triples_are_refused() -> None:
    with pytest.raises(UserError, match="cosine triples need two base classes with 2 images or more; add"):
        cosine(np.asarray([0, 0, 1]))
