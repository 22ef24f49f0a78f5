"""The fine-tuned head's start and first steps against numpy and class means."""

import math
from typing import Any

import numpy as np
import paddle
import pytest

from ppfsl.config import FinetuneConfig
from ppfsl.methods.class_mean import ClassMean, class_means
from ppfsl.methods.finetune import Finetune
from tests.methods.finetune.tasks import (
    DIM,
    ENTROPIES,
    LABELS,
    SGD,
    WAY,
    almost_untouched,
    config,
    logits,
    softmax,
    support_of,
    task,
    unit,
)

# --- against numpy


def numpy_logits(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, settings: FinetuneConfig) -> np.ndarray:
    if settings.similarity == "cosine":
        x, weight = unit(x), unit(weight, axis=0)
    return settings.scale * x @ weight + bias


def numpy_loss(
    weight: np.ndarray, bias: np.ndarray, support: np.ndarray, query: np.ndarray, settings: FinetuneConfig
) -> float:
    """Cross-entropy plus weighted entropy of one episode, row by row."""
    probabilities = softmax(numpy_logits(support, weight, bias, settings))
    loss = -sum(math.log(row[label]) for row, label in zip(probabilities, LABELS, strict=True)) / len(LABELS)
    if settings.entropy != "none":
        over = probabilities if settings.entropy == "support" else softmax(numpy_logits(query, weight, bias, settings))
        loss += settings.entropy_weight * -sum(p * math.log(p) for row in over for p in row) / len(over)
    return loss


def numpy_gradient(weight: np.ndarray, bias: np.ndarray, *rest: Any) -> tuple[np.ndarray, np.ndarray]:
    """Central differences in float64."""
    gradients = []
    for which in (0, 1):
        point = [weight.copy(), bias.copy()]
        gradient = np.empty_like(point[which])
        for place in np.ndindex(*gradient.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = [weight.copy(), bias.copy()]
                moved[which][place] += step
                ends.append(numpy_loss(*moved, *rest))
            gradient[place] = (ends[0] - ends[1]) / 2e-6
        gradients.append(gradient)
    return gradients[0], gradients[1]


def numpy_means(support: np.ndarray) -> np.ndarray:
    return np.stack([unit(support[np.equal(LABELS, k)].mean(0)) for k in range(WAY)], axis=1)


@pytest.mark.parametrize("entropy", ENTROPIES)
@pytest.mark.parametrize("similarity", ["cosine", "inner_product"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_first_steps_match_numpy(entropy: str, similarity: str, optimizer: str) -> None:
    settings = config(
        entropy=entropy,
        similarity=similarity,
        **({} if entropy == "none" else {"entropy_weight": 0.7}),
        scale=4.0,
        steps=2,
        optimizer={**SGD, "name": optimizer},
    )
    inputs, query = task()
    support, queries = inputs[0].astype(np.float64), query[0].astype(np.float64)
    weight, bias = numpy_means(support), np.zeros(WAY)
    first, second = [0.0, 0.0], [0.0, 0.0]
    for step in (1, 2):
        moved = []
        for which, (value, gradient) in enumerate(
            zip((weight, bias), numpy_gradient(weight, bias, support, queries, settings), strict=True)
        ):
            if optimizer == "adam":
                first[which] = 0.9 * first[which] + 0.1 * gradient
                second[which] = 0.999 * second[which] + 0.001 * gradient**2
                gradient = (first[which] / (1 - 0.9**step)) / (np.sqrt(second[which] / (1 - 0.999**step)) + 1e-8)
            moved.append(value - 0.1 * gradient)
        weight, bias = moved
    expected = numpy_logits(queries, weight, bias, settings)
    found = logits(Finetune(settings), support_of(inputs, query), query)[0]
    assert np.abs(found - numpy_logits(queries, numpy_means(support), np.zeros(WAY), settings)).max() > 1e-2
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_weight_decay_spares_the_bias() -> None:
    inputs, query = task()
    plain, decayed = (
        config(similarity="inner_product", scale=1.0, entropy="none", steps=2, optimizer={**SGD, "weight_decay": decay})
        for decay in (0.0, 0.5)
    )
    zero = np.zeros((1, 1, DIM), dtype=np.float32)  # whose logits are the bias
    # The first step's bias is equal; with decay on the bias, the second step would shrink it by 5 %.
    one, two = (logits(Finetune(replace_steps(c, 1)), support_of(inputs, query), zero) for c in (plain, decayed))
    np.testing.assert_allclose(one, two, atol=1e-7)
    assert np.abs(one).max() > 1e-3
    bias = run_numpy_decay(inputs[0].astype(np.float64), 0.5, 2)
    np.testing.assert_allclose(logits(Finetune(decayed), support_of(inputs, query), zero)[0, 0], bias, atol=1e-5)


def replace_steps(settings: FinetuneConfig, steps: int) -> FinetuneConfig:
    return settings.model_copy(update={"steps": steps})


def run_numpy_decay(support: np.ndarray, decay: float, steps: int) -> np.ndarray:
    """The bias after steps of gradient descent whose weights, and they alone, decay."""
    weight, bias = numpy_means(support), np.zeros(WAY)
    target = np.eye(WAY)[LABELS]
    for _ in range(steps):
        error = (softmax(support @ weight + bias) - target) / len(LABELS)
        weight, bias = weight - 0.1 * (support.T @ error + decay * weight), bias - 0.1 * error.sum(0)
    return bias


# --- where it starts


@pytest.mark.parametrize("similarity", ["cosine", "inner_product"])
def test_head_starts_at_the_class_means_and_without_bias(similarity: str) -> None:
    inputs, query = task(3)
    settings = almost_untouched(similarity=similarity, scale=7.0)
    means = class_means(paddle.to_tensor(inputs), paddle.to_tensor(LABELS), WAY).numpy()
    found = logits(Finetune(settings), support_of(inputs, query), query)
    np.testing.assert_allclose(found, 7 * query @ means, atol=1e-5)
    eye = np.broadcast_to(np.eye(DIM, dtype=np.float32), (3, DIM, DIM))
    np.testing.assert_allclose(logits(Finetune(settings), support_of(inputs, query), eye), 7 * means, atol=1e-5)
    zero = logits(Finetune(settings), support_of(inputs, query), 0 * query)
    np.testing.assert_allclose(zero, 0, atol=1e-9)


def test_without_training_the_answer_is_that_of_class_means() -> None:
    inputs, query = task(20)
    support = support_of(inputs, query)
    found = logits(Finetune(almost_untouched()), support, query).argmax(-1)
    assert (found == logits(ClassMean(), support, query).argmax(-1)).all()


def test_random_start_depends_on_seed_and_episode_number_alone() -> None:
    inputs, query = task()
    settings = almost_untouched(initialization="random", similarity="inner_product", scale=1.0)
    eye = np.eye(DIM, dtype=np.float32)[None]

    def weight(seed: int, number: int) -> np.ndarray:
        return logits(Finetune(settings, seed), support_of(inputs, query, [number]), eye)[0]

    assert np.array_equal(weight(0, 3), weight(0, 3))
    assert not np.allclose(weight(0, 3), weight(0, 4))
    assert not np.allclose(weight(0, 3), weight(1, 3))
    both = logits(Finetune(settings), support_of(np.tile(inputs, (2, 1, 1)), query, [4, 3]), np.tile(eye, (2, 1, 1)))
    np.testing.assert_allclose(both, [weight(0, 4), weight(0, 3)], atol=1e-9)
    lengths = [np.linalg.norm(weight(0, number), axis=0) for number in range(100)]
    assert np.mean(np.square(lengths)) == pytest.approx(1, abs=0.2)
