"""What methods share of a support set, against plain loops in float64."""

import math

import numpy as np
import paddle
import pytest

from ppfsl.methods.base import Support
from ppfsl.randomness import generator

LABELS = np.asarray([2, 0, 1, 0, 2, 2, 0])  # in any order, with 3, 1 and 3 shots
WAY, DIM, EPISODES, QUERIES = 3, 4, 2, 5


def draw(*shape: int, key: str = "x") -> np.ndarray:
    return generator(0, "base", key, *shape).standard_normal(shape)


def support_of(inputs: np.ndarray, labels: np.ndarray = LABELS) -> Support:
    return Support(paddle.to_tensor(inputs), paddle.to_tensor(labels), WAY, np.arange(len(inputs)))


def combined(values: list[float], how: str) -> float:
    if how == "mean":
        return sum(values) / len(values)
    return max(values) if how == "max" else math.log(sum(math.exp(value) for value in values))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_membership_marks_each_images_class(dtype: type) -> None:
    membership = support_of(draw(EPISODES, len(LABELS), DIM).astype(dtype)).membership.numpy()
    assert (membership.shape, membership.dtype) == ((len(LABELS), WAY), dtype)
    for image, k in np.ndindex(*membership.shape):
        assert membership[image, k] == (LABELS[image] == k)


def test_sums_and_means_match_plain_loops() -> None:
    inputs = draw(EPISODES, len(LABELS), DIM)
    sums, means = support_of(inputs).class_sums().numpy(), support_of(inputs).class_means().numpy()
    assert sums.shape == means.shape == (EPISODES, WAY, DIM)
    for e, k in np.ndindex(EPISODES, WAY):
        own = [inputs[e, image] for image in range(len(LABELS)) if LABELS[image] == k]
        np.testing.assert_allclose(sums[e, k], sum(own), atol=1e-12)
        np.testing.assert_allclose(means[e, k], sum(own) / len(own), atol=1e-12)


HOWS = ("mean", "max", "logsumexp")


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("shift", [-3000.0, 0.0, 3000.0])  # exponentials alone would run over or under
def test_scores_over_shots_match_plain_loops(how: str, shift: float) -> None:
    scores = 3 * draw(EPISODES, QUERIES, len(LABELS), key="scores")
    support = support_of(draw(EPISODES, len(LABELS), DIM))
    found = support.over_shots(paddle.to_tensor(scores + shift), how).numpy()
    assert found.shape == (EPISODES, QUERIES, WAY)
    for e, q, k in np.ndindex(*found.shape):
        own = [float(scores[e, q, image]) for image in range(len(LABELS)) if LABELS[image] == k]
        assert found[e, q, k] == pytest.approx(combined(own, how) + shift, rel=1e-9)


@pytest.mark.parametrize("how", HOWS)
def test_one_shot_is_its_own_score(how: str) -> None:
    labels = np.asarray([1, 2, 0])
    scores = draw(EPISODES, QUERIES, 3, key="scores")
    found = support_of(draw(EPISODES, 3, DIM), labels).over_shots(paddle.to_tensor(scores), how).numpy()
    np.testing.assert_allclose(found[..., labels], scores, atol=1e-12)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_of_scores_over_shots(how: str, dtype: type) -> None:
    scores = draw(1, 2, len(LABELS), key="scores").astype(dtype)
    weights = draw(1, 2, WAY, key="weights").astype(dtype)
    tensor = paddle.to_tensor(scores, stop_gradient=False)
    found = support_of(draw(1, len(LABELS), DIM).astype(dtype)).over_shots(tensor, how)
    (found * paddle.to_tensor(weights)).sum().backward()
    expected = np.zeros_like(scores)
    for _, q, image in np.ndindex(*scores.shape):
        own = [float(scores[0, q, i]) for i in range(len(LABELS)) if LABELS[i] == LABELS[image]]
        mine = float(scores[0, q, image])
        share = {
            "mean": 1 / len(own),
            "max": float(mine == max(own)),
            "logsumexp": math.exp(mine) / sum(math.exp(value) for value in own),
        }[how]
        expected[0, q, image] = share * weights[0, q, LABELS[image]]
    np.testing.assert_allclose(tensor.grad.numpy(), expected, atol=1e-6 if dtype is np.float32 else 1e-12)


def test_gradients_flow_into_sums_and_means() -> None:
    inputs = paddle.to_tensor(draw(EPISODES, len(LABELS), DIM), stop_gradient=False)
    support = Support(inputs, paddle.to_tensor(LABELS), WAY, np.arange(EPISODES))
    (support.class_sums().sum() + support.class_means().sum()).backward()
    shots = np.bincount(LABELS)[LABELS]
    np.testing.assert_allclose(inputs.grad.numpy(), np.broadcast_to(1 + 1 / shots[:, None], inputs.shape), atol=1e-12)
