"""Losses against plain loops in float64."""

import math
from collections.abc import Callable

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfsl.losses import (
    Mining,
    TripletLoss,
    contrastive_loss,
    cosine_pair_loss,
    cross_entropy,
    entropy,
    log_softmax,
    squared_distances,
    triplet_loss,
)
from ppfsl.randomness import generator

MININGS: tuple[Mining, ...] = ("random", "batch_all", "batch_hard", "semi_hard")
LABELS = np.asarray([2, 0, 1, 0, 2, 2, 1, 3, 0])  # class 3 has one image, hence no positive


def draw(*shape: int, key: str = "x", scale: float = 1.0) -> np.ndarray:
    return scale * generator(0, "test losses", key, *shape).standard_normal(shape)


def tensor(value: np.ndarray, grad: bool = False) -> paddle.Tensor:
    return paddle.to_tensor(value, stop_gradient=not grad)


def softmax_of(row: np.ndarray) -> list[float]:
    powers = [math.exp(value) for value in row.tolist()]
    return [power / sum(powers) for power in powers]


def check_gradient(function: Callable[[paddle.Tensor], paddle.Tensor], point: np.ndarray, step: float = 1e-6) -> None:
    """Backward against central differences."""
    x = tensor(point, grad=True)
    function(x).backward()
    expected = np.empty_like(point)
    for place in np.ndindex(*point.shape):
        up, down = point.copy(), point.copy()
        up[place] += step
        down[place] -= step
        expected[place] = (function(tensor(up)).item() - function(tensor(down)).item()) / (2 * step)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-5, atol=1e-7)


# --- cross-entropy and entropy


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


# --- cosine pairs


def test_cosine_pair_loss_is_a_mean_squared_error() -> None:
    similarity, same = np.asarray([0.9, -0.5, 0.2, 1.0]), np.asarray([1, 0, 1, 0])
    expected = sum((s - y) ** 2 for s, y in zip(similarity.tolist(), same.tolist(), strict=True)) / 4
    assert cosine_pair_loss(tensor(similarity), tensor(same)).item() == pytest.approx(expected, rel=1e-12)
    check_gradient(lambda x: cosine_pair_loss(x, tensor(same)), similarity)


# --- contrastive


@pytest.mark.parametrize("margin", [0.3, 1.0, 5.0])
def test_contrastive_loss_is_the_mean_over_pairs(margin: float) -> None:
    distances, same = np.abs(draw(20, key="distances")), generator(0, "same").integers(0, 2, 20)
    total = 0.0
    for d, y in zip(distances.tolist(), same.tolist(), strict=True):
        total += d**2 / 2 if y else max(0.0, margin - d) ** 2 / 2
    for kind in (np.int64, np.bool_, np.float64):
        loss = contrastive_loss(tensor(distances), tensor(same.astype(kind)), margin)
        assert loss.shape == []
        assert loss.item() == pytest.approx(total / 20, rel=1e-12)


def test_contrastive_loss_by_hand() -> None:
    # One class at 3; two classes at 0.5 and 2, where the second is beyond the margin of 1.
    loss = contrastive_loss(tensor(np.asarray([3.0, 0.5, 2.0])), tensor(np.asarray([1, 0, 0])), 1.0)
    assert loss.item() == pytest.approx((9 / 2 + 0.25 / 2 + 0) / 3)


def test_contrastive_gradient() -> None:
    distances, same = np.asarray([0.4, 1.7, 0.2, 0.9, 2.5]), tensor(np.asarray([1, 1, 0, 0, 0]))
    check_gradient(lambda x: contrastive_loss(x, same, 1.2), distances)
    x = tensor(distances, grad=True)
    contrastive_loss(x, same, 1.2).backward()
    # Pulled by the distance, pushed by what lacks to the margin, left alone beyond it.
    np.testing.assert_allclose(x.grad.numpy(), np.asarray([0.4, 1.7, -1.0, -0.3, 0]) / 5, atol=1e-12)


# --- distances of all pairs


def distances_of(x: np.ndarray) -> np.ndarray:
    return np.asarray([[sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) for q in x] for p in x])


def test_squared_distances_of_all_pairs() -> None:
    x = draw(6, 3)
    np.testing.assert_allclose(squared_distances(tensor(x)).numpy(), distances_of(x), atol=1e-12)


def test_squared_distances_are_never_negative() -> None:
    x = 1e3 + 1e-3 * draw(20, 8).astype(np.float32)  # where |a|^2 + |b|^2 - 2ab cancels badly
    distances = squared_distances(tensor(x)).numpy()
    assert distances.min() >= 0
    assert (np.diag(distances) == 0).any()


def test_squared_distances_gradient() -> None:
    weights = tensor(draw(5, 5, key="weights"))
    check_gradient(lambda x: (squared_distances(x) * weights).sum(), draw(5, 3))


# --- triplets


def triplet_losses(
    x: np.ndarray, labels: np.ndarray, margin: float, mining: Mining, chance: np.ndarray
) -> tuple[float, float, int]:
    """Loss, active share and count, triplet by triplet, as the docstring words it."""
    d, n = distances_of(x), len(x)
    positives = [[p for p in range(n) if p != a and labels[p] == labels[a]] for a in range(n)]
    negatives = [[q for q in range(n) if labels[q] != labels[a]] for a in range(n)]
    each: list[float] = []
    for a in range(n):
        if not positives[a] or not negatives[a]:
            continue
        if mining == "random":
            p = max(positives[a], key=lambda i: chance[0][a][i])
            q = max(negatives[a], key=lambda i: chance[1][a][i])
            each.append(max(0.0, d[a][p] + margin - d[a][q]))
        elif mining == "batch_hard":
            each.append(max(0.0, max(d[a][p] for p in positives[a]) + margin - min(d[a][q] for q in negatives[a])))
        elif mining == "semi_hard":
            for p in positives[a]:
                farther = [d[a][q] for q in negatives[a] if d[a][q] > d[a][p]]
                chosen = min(farther) if farther else max(d[a][q] for q in negatives[a])
                each.append(max(0.0, d[a][p] + margin - chosen))
        else:
            each.extend(max(0.0, d[a][p] + margin - d[a][q]) for p in positives[a] for q in negatives[a])
    active = sum(loss > 0 for loss in each)
    divisor = max(active, 1) if mining == "batch_all" else len(each)
    return (sum(each) / divisor, active / len(each), len(each)) if each else (0.0, 0.0, 0)


def numbers_for(count: int) -> np.ndarray:
    return generator(0, "chance", count).random((2, count, count), dtype=np.float32)


def run(x: np.ndarray, labels: np.ndarray, margin: float, mining: Mining, grad: bool = False) -> TripletLoss:
    return triplet_loss(tensor(x, grad), tensor(labels), margin, mining, tensor(numbers_for(len(labels))))


@pytest.mark.parametrize("mining", MININGS)
@pytest.mark.parametrize("margin", [0.01, 0.5, 3.0])
@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_triplets_match_triple_loops(mining: Mining, margin: float, scale: float) -> None:
    x = draw(len(LABELS), 3, scale=scale)
    result = run(x, LABELS, margin, mining)
    loss, active, count = triplet_losses(x, LABELS, margin, mining, numbers_for(len(LABELS)))
    assert result.loss.shape == []
    assert result.loss.item() == pytest.approx(loss, rel=1e-9)
    assert (result.active, result.triplets) == (pytest.approx(active), count)


def test_triplet_example_by_hand() -> None:
    x, labels = np.asarray([[0.0], [1.0], [1.5], [4.0]]), np.asarray([0, 0, 1, 1])
    # Squared distances: 0-1: 1, 0-2: 2.25, 0-3: 16, 1-2: 0.25, 1-3: 9, 2-3: 6.25.
    hard = [1 + 0.5 - 2.25, 1 + 0.5 - 0.25, 6.25 + 0.5 - 0.25, 6.25 + 0.5 - 9]
    assert run(x, labels, 0.5, "batch_hard").loss.item() == pytest.approx((hard[1] + hard[2]) / 4)
    semi = [0, 0, 6.25 + 0.5 - 2.25, 0]  # image 2 has no negative beyond its positive, its farthest is 2.25 away
    assert run(x, labels, 0.5, "semi_hard").loss.item() == pytest.approx(sum(semi) / 4)
    every = [hard[1], hard[2], 6.25 + 0.5 - 2.25]  # the active ones of eight
    result = run(x, labels, 0.5, "batch_all")
    assert (result.loss.item(), result.active, result.triplets) == (pytest.approx(sum(every) / 3), 3 / 8, 8)


@pytest.mark.parametrize("mining", MININGS)
def test_triplet_gradient(mining: Mining) -> None:
    chance = tensor(numbers_for(len(LABELS)))
    check_gradient(lambda x: triplet_loss(x, tensor(LABELS), 0.7, mining, chance).loss, draw(len(LABELS), 3, scale=0.6))


@pytest.mark.parametrize("mining", ["batch_all", "semi_hard"])
@settings(deadline=None, max_examples=25)
@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=9), margin=st.sampled_from([0.05, 1.0]))
def test_any_batch_matches_triple_loops(mining: Mining, labels: list[int], margin: float) -> None:
    x = draw(len(labels), 2, scale=0.7)
    result = run(x, np.asarray(labels), margin, mining)
    loss, active, count = triplet_losses(x, np.asarray(labels), margin, mining, numbers_for(len(labels)))
    assert result.loss.item() == pytest.approx(loss, rel=1e-9, abs=1e-12)
    assert (result.active, result.triplets) == (pytest.approx(active), count)


def triplet_gradient(x: np.ndarray, labels: np.ndarray, margin: float, mining: Mining) -> np.ndarray:
    """Triplet by triplet: the slopes of |a - p|^2 - |a - n|^2 where the loss is above zero."""
    d, images = distances_of(x), range(len(x))
    triplets = []
    for a in images:
        negatives = [n for n in images if labels[n] != labels[a]]
        for p in images:
            if p == a or labels[p] != labels[a] or not negatives:
                continue
            if mining == "batch_all":
                triplets += [(a, p, n) for n in negatives]
            else:
                farther = [n for n in negatives if d[a, n] > d[a, p]]
                nearest = min(farther, key=lambda n: d[a, n]) if farther else max(negatives, key=lambda n: d[a, n])
                triplets.append((a, p, nearest))
    active = [(a, p, n) for a, p, n in triplets if d[a, p] + margin > d[a, n]]
    gradient = np.zeros_like(x)
    for a, p, n in active:
        gradient[a] += 2 * (x[a] - x[p]) - 2 * (x[a] - x[n])
        gradient[p] -= 2 * (x[a] - x[p])
        gradient[n] += 2 * (x[a] - x[n])
    return gradient / (len(active) if mining == "batch_all" else len(triplets))


@pytest.mark.parametrize("mining", ["batch_all", "semi_hard"])
@pytest.mark.parametrize("margin", [0.05, 0.7, 3.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradient_pulls_and_pushes_triplet_by_triplet(mining: Mining, margin: float, dtype: type) -> None:
    x = draw(len(LABELS), 3, scale=0.6).astype(dtype)
    expected = triplet_gradient(x.astype(np.float64), LABELS, margin, mining)
    assert np.abs(expected).max() > 1e-2
    embeddings = tensor(x, grad=True)
    triplet_loss(embeddings, tensor(LABELS), margin, mining).loss.backward()
    np.testing.assert_allclose(embeddings.grad.numpy(), expected, atol=1e-5 if dtype is np.float32 else 1e-12)


def test_semi_hard_negative_is_strictly_farther_than_the_positive() -> None:
    # From image 0 the positive is 1 away; the negatives are 1 (no farther), 4 and 9 away in squared distance.
    x, labels = np.asarray([[0.0], [1.0], [-1.0], [-2.0], [3.0]]), np.asarray([0, 0, 1, 2, 3])
    expected = [max(0, 1 + 3.5 - 4), max(0, 1 + 3.5 - 4)]  # from image 1 they are 4, 4 and 9 away
    result = run(x, labels, 3.5, "semi_hard")
    assert (result.loss.item(), result.triplets) == (pytest.approx(sum(expected) / 2), 2)


@pytest.mark.parametrize("mining", MININGS)
@pytest.mark.parametrize("labels", [[1, 1, 1, 1], [0, 1, 2, 3], [5]], ids=["one class", "no positives", "one image"])
def test_batch_without_triplets_gives_zero_that_backpropagates(mining: Mining, labels: list[int]) -> None:
    x = tensor(draw(len(labels), 3), grad=True)
    chance = tensor(numbers_for(len(labels)))
    result = triplet_loss(x, tensor(np.asarray(labels)), 0.2, mining, chance)
    assert (result.loss.item(), result.active, result.triplets) == (0, 0, 0)
    result.loss.backward()
    assert x.grad.numpy().tolist() == np.zeros((len(labels), 3)).tolist()


@pytest.mark.parametrize("mining", MININGS)
def test_no_active_triplet_gives_zero_that_backpropagates(mining: Mining) -> None:
    x = tensor(np.asarray([[0.0], [0.1], [9.0], [9.1]]), grad=True)
    result = triplet_loss(x, tensor(np.asarray([0, 0, 1, 1])), 0.2, mining, tensor(numbers_for(4)))
    assert (result.loss.item(), result.active) == (0, 0)
    assert result.triplets > 0
    result.loss.backward()
    assert not x.grad.numpy().any()


@pytest.mark.parametrize("mining", MININGS)
def test_loss_is_the_margin_when_all_embeddings_coincide(mining: Mining) -> None:
    x = np.tile(draw(1, 3), (len(LABELS), 1))
    result = run(x, LABELS, 0.2, mining)
    assert result.loss.item() == pytest.approx(0.2, rel=1e-6)
    assert result.active == 1


@pytest.mark.parametrize("mining", ["batch_all", "batch_hard", "semi_hard"])
def test_order_of_the_batch_does_not_matter(mining: Mining) -> None:
    x, order = draw(len(LABELS), 3, scale=0.6), generator(0, "order").permutation(len(LABELS))
    one, other = run(x, LABELS, 0.5, mining), run(x[order], LABELS[order], 0.5, mining)
    assert one.loss.item() == pytest.approx(other.loss.item(), rel=1e-12)
    assert (one.active, one.triplets) == (other.active, other.triplets)


def test_order_does_not_matter_for_random_mining_when_its_numbers_are_permuted_too() -> None:
    x, order = draw(len(LABELS), 3, scale=0.6), generator(0, "order").permutation(len(LABELS))
    chance = numbers_for(len(LABELS))
    one = triplet_loss(tensor(x), tensor(LABELS), 0.5, "random", tensor(chance))
    permuted = tensor(np.ascontiguousarray(chance[:, order][:, :, order]))
    other = triplet_loss(tensor(x[order]), tensor(LABELS[order]), 0.5, "random", permuted)
    assert one.loss.item() == pytest.approx(other.loss.item(), rel=1e-12)


def test_random_mining_needs_numbers() -> None:
    with pytest.raises(ValueError, match="random numbers"):
        triplet_loss(tensor(draw(4, 2)), tensor(np.asarray([0, 0, 1, 1])), 0.2, "random")


def test_losses_of_no_pairs_are_zero_and_have_a_graph() -> None:
    for loss in (lambda x: contrastive_loss(x, x, 1.0), lambda x: cosine_pair_loss(x, x)):
        nothing = paddle.zeros([0])
        nothing.stop_gradient = False
        value = loss(nothing)
        assert value.item() == 0
        value.backward()
