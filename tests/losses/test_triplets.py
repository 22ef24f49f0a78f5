"""Triplet losses, however mined, against plain loops in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfsl.losses import Mining, TripletLoss, triplet_loss
from ppfsl.randomness import generator
from tests.losses.loops import check_gradient, distances_of, draw, tensor

MININGS: tuple[Mining, ...] = ("random", "batch_all", "batch_hard", "semi_hard")
LABELS = np.asarray([2, 0, 1, 0, 2, 2, 1, 3, 0])  # class 3 has one image, hence no positive


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
