"""Cross-entropy and entropy against plain loops in float64."""

import math

import numpy as np
import pytest

from ppfsl.losses import cross_entropy, entropy, log_softmax
from ppfsl.randomness import generator
from tests.losses.loops import check_gradient, draw, tensor


def softmax_of(row: np.ndarray) -> list[float]:
    powers = [math.exp(value) for value in row.tolist()]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize("classes", [2, 64, 65, 200])
def test_log_softmax_matches_plain_numpy_for_few_and_many_classes(classes: int) -> None:
    logits = draw(3, 2, classes, scale=5)
    found = log_softmax(tensor(logits)).numpy()
    expected = [[math.log(value) for value in softmax_of(row)] for row in logits.reshape(-1, classes)]
    np.testing.assert_allclose(found.reshape(-1, classes), expected, atol=1e-12)
    weights = tensor(draw(2, classes, key="weights"))
    check_gradient(lambda x: (log_softmax(x) * weights).sum(), logits[0])


def test_log_softmax_of_large_logits_of_many_classes_is_finite() -> None:
    logits = np.zeros((1, classes := 100))
    logits[0, 0] = 1e4
    found = log_softmax(tensor(logits))
    np.testing.assert_allclose(found.numpy(), -1e4 * (np.arange(classes) > 0)[None])


@pytest.mark.parametrize("shape", [(7, 4), (3, 5, 4)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_cross_entropy_is_the_mean_of_minus_log_probabilities(shape: tuple[int, ...], smoothing: float) -> None:
    logits, labels = draw(*shape, scale=3), generator(0, "labels").integers(0, 4, shape[:-1])
    total, count = 0.0, 0
    for row, label in zip(logits.reshape(-1, 4), labels.ravel().tolist(), strict=True):
        target = [smoothing / 4 + (1 - smoothing) * (k == label) for k in range(4)]
        total -= sum(t * math.log(p) for t, p in zip(target, softmax_of(row), strict=True))
        count += 1
    loss = cross_entropy(tensor(logits), tensor(labels), smoothing)
    assert loss.shape == []
    assert loss.item() == pytest.approx(total / count, rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_gradient(smoothing: float) -> None:
    labels = tensor(np.asarray([[0, 2], [3, 1]]))
    check_gradient(lambda x: cross_entropy(x, labels, smoothing), draw(2, 2, 4))


def test_cross_entropy_learns_from_large_logits() -> None:
    logits = tensor(np.asarray([[1e4, 0.0], [0.0, 1e4]]), grad=True)
    loss = cross_entropy(logits, tensor(np.asarray([0, 0])))
    assert 16 < loss.item() < math.inf  # Paddle's CPU kernel takes no log-probability below -64
    loss.backward()
    np.testing.assert_allclose(logits.grad.numpy(), [[0, 0], [-0.5, 0.5]], atol=1e-12)


@pytest.mark.parametrize("shape", [(6, 5), (2, 3, 5)])
def test_entropy_is_the_mean_of_shannons(shape: tuple[int, ...]) -> None:
    logits = draw(*shape, scale=2)
    each = [-sum(p * math.log(p) for p in softmax_of(row)) for row in logits.reshape(-1, 5)]
    assert entropy(tensor(logits)).item() == pytest.approx(sum(each) / len(each), rel=1e-12)


def test_entropy_bounds() -> None:
    assert entropy(tensor(np.zeros((3, 8)))).item() == pytest.approx(math.log(8))
    assert entropy(tensor(1e3 * np.eye(4))).item() == pytest.approx(0, abs=1e-12)


def test_entropy_gradient() -> None:
    check_gradient(entropy, draw(3, 4))
