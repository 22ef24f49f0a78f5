"""Losses and distances of pairs against plain loops in float64."""

import numpy as np
import paddle
import pytest

from ppfsl.losses import contrastive_loss, cosine_pair_loss, squared_distances
from ppfsl.randomness import generator
from tests.losses.loops import check_gradient, distances_of, draw, tensor

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


def test_losses_of_no_pairs_are_zero_and_have_a_graph() -> None:
    for loss in (lambda x: contrastive_loss(x, x, 1.0), lambda x: cosine_pair_loss(x, x)):
        nothing = paddle.zeros([0])
        nothing.stop_gradient = False
        value = loss(nothing)
        assert value.item() == 0
        value.backward()
