"""Softmax and losses of labels, twice differentiated."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from ppfsl import autodiff
from tests.autodiff.operators.arrays import MAPS, VECTORS

RNG = np.random.default_rng(1)
LABELS = paddle.to_tensor([0, 5, 2, 2])


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(check_operator, name, axis):
    ours, native = getattr(autodiff, name), getattr(F, name)
    check_operator(lambda x: ours(x, axis), lambda x: native(x, axis), VECTORS)
    check_operator(lambda x: ours(x, axis), lambda x: native(x, axis), VECTORS + 800)


@pytest.mark.parametrize("axis", [0, 1, None, [0, 1]])
@pytest.mark.parametrize("keepdim", [False, True])
def test_logsumexp(check_operator, axis, keepdim):
    arguments = {"axis": axis, "keepdim": keepdim}
    check_operator(lambda x: autodiff.logsumexp(x, **arguments), lambda x: paddle.logsumexp(x, **arguments), VECTORS)


def test_scores_of_minus_infinity_get_no_probability():
    x = paddle.to_tensor([[0.0, -np.inf, 1.0], [-np.inf] * 3], stop_gradient=False)
    assert autodiff.softmax(x)[0, 1].item() == 0.0
    assert autodiff.logsumexp(x, 1).numpy().tolist()[1] == -np.inf


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("ignore_index", [-100, 2])
def test_cross_entropy(check_operator, reduction, ignore_index):
    arguments = {"reduction": reduction, "ignore_index": ignore_index}
    check_operator(
        lambda x: autodiff.cross_entropy(x, LABELS, **arguments),
        lambda x: F.cross_entropy(x, LABELS, **arguments),
        VECTORS,
    )


def test_cross_entropy_of_maps(check_operator):
    labels = paddle.to_tensor(RNG.integers(0, 4, (2, 7, 6)))
    check_operator(
        lambda x: autodiff.cross_entropy(x, labels, axis=1), lambda x: F.cross_entropy(x, labels, axis=1), MAPS
    )


@pytest.mark.parametrize("options", [{}, {"reduction": "none"}, {"ignore_index": 2}])
@pytest.mark.parametrize("column", [False, True])
def test_paddles_cross_entropy_in_the_context(check_in_context, options, column):
    labels = LABELS.reshape([-1, 1]) if column else LABELS
    check_in_context(lambda x: F.cross_entropy(x, labels, **options), VECTORS)


def test_smoothed_labels_in_the_context(check_in_context):
    # Paddle smooths labels in float32, hence to a sum that is not quite one.
    check_in_context(lambda x: F.cross_entropy(x, LABELS, label_smoothing=0.1), VECTORS, exact=1e-7)


def test_other_losses_in_the_context(check_in_context):
    soft = paddle.to_tensor(RNG.dirichlet(np.ones(6), 4))
    weight = paddle.to_tensor(RNG.uniform(0.5, 2, 6))
    check_in_context(lambda x: F.cross_entropy(x, soft, soft_label=True), VECTORS)
    check_in_context(lambda x: F.cross_entropy(x, LABELS, weight=weight), VECTORS)
    check_in_context(lambda x: F.cross_entropy(F.softmax(x), LABELS, use_softmax=False), VECTORS)
    check_in_context(lambda x: F.nll_loss(F.log_softmax(x), LABELS), VECTORS)
    check_in_context(lambda x: F.nll_loss(F.log_softmax(x), LABELS, weight), VECTORS)
    check_in_context(lambda x: F.binary_cross_entropy_with_logits(x, soft), VECTORS * 10)
    check_in_context(lambda x: F.mse_loss(x, soft), VECTORS)


def test_nll_loss(check_operator):
    weight = paddle.to_tensor(RNG.uniform(0.5, 2, 6))
    for reduction in ("mean", "sum", "none"):
        check_operator(
            lambda x, r=reduction: autodiff.nll_loss(x, LABELS, weight, reduction=r)[0],
            lambda x, r=reduction: F.nll_loss(x, LABELS, weight, reduction=r),
            VECTORS,
        )


def test_ignored_labels_of_nll_loss(check_operator):
    """Paddle's own spoils the heap here, so that cross-entropy is the reference."""
    weight = paddle.to_tensor(RNG.uniform(0.5, 2, 6))
    counted = np.asarray([1.0, 1.0, 0.0, 0.0])
    for reduction in ("mean", "sum", "none"):

        def reference(x, reduction=reduction):
            weights = paddle.to_tensor(weight.numpy()[LABELS.numpy()] * counted)
            losses = F.cross_entropy(x, LABELS, reduction="none") * weights
            return {"mean": losses.sum() / weights.sum(), "sum": losses.sum(), "none": losses}[reduction]

        check_operator(
            lambda x, r=reduction: autodiff.nll_loss(autodiff.log_softmax(x), LABELS, weight, 2, r)[0],
            reference,
            VECTORS,
        )
