"""What verification compares with a threshold."""

import numpy as np
import paddle
import pytest

from ppfsl.methods.meta_baseline import LearnedScale
from ppfsl.methods.siamese import PairHead
from ppfsl.methods.similarity import Similarity


def test_cosine_by_plain_loops_whatever_the_length() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, 7, 5)).astype(np.float32)
    wanted = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(left, right, strict=True)]
    similarity = Similarity()
    np.testing.assert_allclose(similarity(left, right), wanted, atol=1e-6)
    np.testing.assert_allclose(similarity(3 * left, right), wanted, atol=1e-6)
    assert similarity.name == "cosine similarity"


def test_probability_of_the_trained_head_in_batches() -> None:
    head = PairHead(2, "absolute_difference", [])
    head.linears[0].weight.set_value(np.asarray([[-1.0], [-2.0]], dtype=np.float32))
    head.linears[0].bias.set_value(np.asarray([0.5], dtype=np.float32))
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, 2500, 2)).astype(np.float32)
    odds = 0.5 - np.abs(left[:, 0] - right[:, 0]) - 2 * np.abs(left[:, 1] - right[:, 1])
    similarity = Similarity.of(head)
    assert similarity.name == "probability of one class"
    np.testing.assert_allclose(similarity(left, right), 1 / (1 + np.exp(-odds.astype(np.float64))), rtol=1e-5)


def test_near_certainty_is_still_ranked() -> None:
    head = PairHead(1, "absolute_difference", [])
    head.linears[0].weight.set_value(np.asarray([[-1.0]], dtype=np.float32))
    head.linears[0].bias.set_value(np.asarray([20.0], dtype=np.float32))
    scores = Similarity.of(head)(np.zeros((2, 1), np.float32), np.asarray([[0.0], [1.0]], np.float32))
    assert scores[0] > scores[1] > 0.99999


@pytest.mark.parametrize("layer", [None, LearnedScale(10.0)])
def test_layers_that_compare_no_images_leave_the_cosine(layer: paddle.nn.Layer | None) -> None:
    assert Similarity.of(layer) == Similarity()
