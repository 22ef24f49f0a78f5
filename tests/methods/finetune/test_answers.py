"""The fine-tuned head's answers: symmetries, what they depend on, and what they score."""

from dataclasses import replace

import numpy as np
import paddle
import pytest

from ppfsl.config import FinetuneConfig
from ppfsl.data.episodes import EpisodeSampler
from ppfsl.evaluation import evaluate
from ppfsl.methods.finetune import Finetune
from ppfsl.randomness import generator
from tests.methods.finetune.tasks import (
    DIM,
    ENTROPIES,
    LABELS,
    QUERY,
    SGD,
    WAY,
    config,
    draw,
    logits,
    softmax,
    support_of,
    task,
    unit,
)

# --- symmetries


OPTIONS = [
    {"entropy": entropy, "similarity": similarity, "initialization": initialization}
    for entropy in ENTROPIES
    for similarity in ("cosine", "inner_product")
    for initialization in ("class_mean", "random")
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options.values()))
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_many_episodes_equal_one_at_a_time(options: dict[str, str], optimizer: str) -> None:
    inputs, query = task(4)
    numbers = np.asarray([5, 0, 9, 2])
    method = Finetune(config(optimizer={"name": optimizer, "lr": 0.02, "weight_decay": 0.1}, scale=3.0, **options), 1)
    together = logits(method, support_of(inputs, query, numbers), query)
    assert together.shape == (4, QUERY, WAY)
    for e in range(4):
        one = slice(e, e + 1)
        alone = logits(method, support_of(inputs[one], query[one], numbers[one]), query[one])
        np.testing.assert_allclose(together[one], alone, atol=1e-5)


@pytest.mark.parametrize("entropy", ENTROPIES)
def test_permuting_classes_permutes_logits(entropy: str) -> None:
    inputs, query = task(2)
    order = np.asarray([2, 0, 1])
    method = Finetune(config(entropy=entropy, optimizer=SGD))
    straight = logits(method, support_of(inputs, query), query)
    permuted = logits(method, support_of(inputs, query, labels=order[LABELS]), query)
    np.testing.assert_allclose(permuted[:, :, order], straight, atol=1e-4)


def test_order_of_the_support_set_does_not_matter() -> None:
    inputs, query = task(2)
    order = generator(0, "order").permutation(len(LABELS))
    straight = logits(Finetune(config()), support_of(inputs, query), query)
    shuffled = logits(Finetune(config()), support_of(inputs[:, order], query, labels=LABELS[order]), query)
    np.testing.assert_allclose(shuffled, straight, atol=1e-5)


def test_only_transductive_entropy_looks_at_the_queries() -> None:
    inputs, query = task()
    other = unit(draw(1, QUERY, DIM, key="other"))
    for entropy in ENTROPIES:
        method = Finetune(config(entropy=entropy, optimizer=SGD))
        assert method.transductive == (entropy == "query")
        one, two = (logits(method, support_of(inputs, unlabelled), query) for unlabelled in (query, other))
        assert np.array_equal(one, two) == (entropy != "query")
    support = replace(support_of(inputs, query), unlabelled=None)
    logits(Finetune(config(entropy="support")), support, query)
    with pytest.raises(ValueError, match="needs the unlabelled queries"):
        Finetune(config(entropy="query")).adapt(support)


def test_adapting_is_pure() -> None:
    inputs, query = task(2)
    method, support = Finetune(config(optimizer=SGD)), support_of(inputs, query)
    classify = method.adapt(support)
    first = classify(paddle.to_tensor(query)).numpy()
    method.adapt(support_of(-inputs, query))
    np.testing.assert_array_equal(classify(paddle.to_tensor(query)).numpy(), first)
    np.testing.assert_array_equal(logits(method, support, query), first)
    np.testing.assert_array_equal(support.inputs.numpy(), inputs)
    assert support.inputs.grad is None
    assert classify(paddle.to_tensor(query)).stop_gradient


# --- what it scores


def accuracy(settings: FinetuneConfig, embeddings: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    episodes = list(EpisodeSampler(np.arange(len(labels)), labels, 5, 2, 5, 0).take(60))
    done = evaluate(Finetune(settings), embeddings.__getitem__, episodes, np.unique(labels))
    return done.accuracy, done.ci95


@pytest.mark.parametrize("entropy", ENTROPIES)
def test_perfectly_separated_embeddings_score_everything(entropy: str) -> None:
    labels = np.repeat(np.arange(8), 8)
    embeddings = np.eye(8, dtype=np.float32)[labels]
    assert accuracy(config(entropy=entropy), embeddings, labels) == (1, 0)


@pytest.mark.parametrize("entropy", ENTROPIES)
@pytest.mark.parametrize("initialization", ["class_mean", "random"])
def test_random_embeddings_score_chance(entropy: str, initialization: str) -> None:
    labels = np.repeat(np.arange(8), 40)
    score, interval = accuracy(
        config(entropy=entropy, initialization=initialization, steps=3, optimizer=SGD), unit(draw(320, 16)), labels
    )
    assert 0 < interval < 0.05
    assert abs(score - 0.2) < 2 * interval


def test_training_lowers_the_loss_of_the_support_set() -> None:
    inputs, query = task(3)
    losses = []
    for steps in (1, 50):
        settings = config(entropy="none", steps=steps, optimizer={"name": "adam", "lr": 0.01})
        found = logits(Finetune(settings), support_of(inputs, query), inputs)
        losses.append(-np.log(softmax(found)[:, np.arange(len(LABELS)), LABELS]).mean())
    assert losses[1] < 0.8 * losses[0]
