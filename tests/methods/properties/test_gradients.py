"""Every method that is trained by its answers: the gradients that reach embeddings and weights."""

from dataclasses import replace
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from ppfsl.methods.base import EpisodeLearner, Support
from tests.methods.properties.methods import INPUTS, LABELS, METHODS, QUERY, WAY

# The learned optimizer takes what it sees of the support set as given.
LEARNERS = [name for name in METHODS if hasattr(METHODS[name](), "layer") and name != "learned_optimizer"]


def loss_of(method: Any, found: paddle.Tensor) -> paddle.Tensor:
    truth = np.arange(found.shape[0] * found.shape[1]).reshape(found.shape[:2]) % WAY
    labels = paddle.to_tensor(truth)
    if hasattr(method, "loss"):
        learner: EpisodeLearner = method
        return learner.loss(found, labels)
    return F.binary_cross_entropy_with_logits(found, F.one_hot(labels, WAY).astype(found.dtype))  # as Siamese pairs do


def training_loss(method: Any, inputs: paddle.Tensor, query: paddle.Tensor) -> paddle.Tensor:
    support = Support(inputs, paddle.to_tensor(LABELS), WAY, np.arange(len(inputs)))
    return loss_of(method, method.adapt(support)(query))


@pytest.mark.parametrize("name", [name for name in LEARNERS if not name.endswith("max")])  # whose other shots get none
def test_gradients_reach_every_embedding_and_every_weight(name: str) -> None:
    method = METHODS[name]()
    weights = {}
    if method.layer is not None:
        method.layer.train()
        weights = {key: one for key, one in method.layer.named_parameters() if not one.stop_gradient}
        assert weights
    inputs, query = (paddle.to_tensor(value, stop_gradient=False) for value in (INPUTS, QUERY))
    loss = training_loss(method, inputs, query)
    assert loss.shape == []
    loss.backward()
    for side in (inputs, query):
        assert np.isfinite(side.grad.numpy()).all()
        assert (np.abs(side.grad.numpy()).max(-1) > 0).all()
    for key, weight in weights.items():
        assert np.isfinite(weight.grad.numpy()).all(), key
        assert np.abs(weight.grad.numpy()).max() > 1e-8, key


def in_double_precision(method: Any) -> Any:
    """The same method, its layer in float64 and in training mode, without which Paddle's LSTMs have no gradients."""
    if method.layer is None:
        return method
    before = paddle.get_default_dtype()
    paddle.set_default_dtype("float64")
    try:
        layer = type(method.layer)(**method.layer.arguments)
    finally:
        paddle.set_default_dtype(before)
    values = method.layer.state_dict()
    for name, tensor in layer.state_dict().items():
        tensor.set_value(values[name].astype("float64"))
    return replace(method, layer=layer)


@pytest.mark.parametrize("name", LEARNERS)
def test_gradients_match_finite_differences(name: str) -> None:
    method = in_double_precision(METHODS[name]())
    values = [INPUTS[:1].astype(np.float64), QUERY[:1].astype(np.float64)]
    tensors = [paddle.to_tensor(value, stop_gradient=False) for value in values]
    training_loss(method, *tensors).backward()
    largest = 0.0
    for side, tensor in enumerate(tensors):
        found = tensor.grad.numpy()
        for place in np.ndindex(*found.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = [value.copy() for value in values]
                moved[side][place] += step
                with paddle.no_grad():
                    ends.append(training_loss(method, *map(paddle.to_tensor, moved)).item())
            assert found[place] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-8, rel=1e-5)
            largest = max(largest, abs(found[place]))
    assert largest > 1e-4
