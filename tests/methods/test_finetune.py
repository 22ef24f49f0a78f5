"""The fine-tuned head against numpy, against class means, and one episode against many."""

import copy
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import paddle
import pytest

from ppfsl.backbones.embedder import Architecture, Embedder, build_embedder
from ppfsl.backbones.weights import weights_of
from ppfsl.config import ClassMeanConfig, FinetuneConfig
from ppfsl.data.episodes import EpisodeSampler
from ppfsl.evaluation import evaluate
from ppfsl.inference.engine import embed
from ppfsl.methods.base import Support
from ppfsl.methods.build import build_method
from ppfsl.methods.class_mean import ClassMean, class_means
from ppfsl.methods.finetune import Finetune, FinetuneAll
from ppfsl.randomness import generator

WAY, SHOT, QUERY, DIM = 3, 2, 4, 5
LABELS = np.repeat(np.arange(WAY), SHOT)
EMBEDDER = Architecture("conv4", 16, 3, 5, "unit", (("width", 4),))
SGD = {"name": "sgd", "lr": 0.1}


def config(**changes: Any) -> FinetuneConfig:
    return FinetuneConfig.model_validate({"name": "finetune", "steps": 5, **changes})


def draw(*shape: int, key: str = "x") -> np.ndarray:
    return generator(0, "finetune", key, *shape).standard_normal(shape).astype(np.float32)


def unit(x: np.ndarray, axis: int = -1) -> np.ndarray:
    return x / np.linalg.norm(x, axis=axis, keepdims=True)


def support_of(inputs: np.ndarray, query: np.ndarray, numbers: Any = None, labels: np.ndarray = LABELS) -> Support:
    numbers = np.arange(len(inputs)) if numbers is None else np.asarray(numbers)
    way = int(labels.max()) + 1
    return Support(paddle.to_tensor(inputs), paddle.to_tensor(labels), way, numbers, paddle.to_tensor(query))


def logits(method: Any, support: Support, query: np.ndarray) -> np.ndarray:
    return method.adapt(support)(paddle.to_tensor(query)).numpy()


def task(episodes: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Support and query embeddings of length one."""
    return unit(draw(episodes, WAY * SHOT, DIM)), unit(draw(episodes, QUERY, DIM, key="query"))


# --- against numpy


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


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


ENTROPIES = ("none", "support", "query")


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


def almost_untouched(**changes: Any) -> FinetuneConfig:
    return config(steps=1, optimizer={"name": "sgd", "lr": 1e-12}, entropy="none", **changes)


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


# --- the embedder tuned, too


@pytest.fixture
def embedder() -> Embedder:
    return build_embedder(EMBEDDER, 0)


def pictures(episodes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = generator(0, "pictures")
    shapes = ((episodes, WAY * SHOT, 3, 16, 16), (episodes, QUERY, 3, 16, 16))
    return tuple(rng.integers(0, 256, shape).astype(np.float32) for shape in shapes)  # type: ignore[return-value]


ALL = {"trainable": "all", "steps": 2}


@pytest.mark.parametrize("entropy", ENTROPIES)
def test_original_embedder_is_left_alone(embedder: Embedder, entropy: str) -> None:
    inputs, query = pictures(1)
    embedder.train()
    before = weights_of(embedder)
    frozen = [parameter.stop_gradient for parameter in embedder.parameters()]
    classify = FinetuneAll(config(**ALL, entropy=entropy, optimizer=SGD), embedder).adapt(support_of(inputs, query))
    found = classify(paddle.to_tensor(query))
    assert found.shape == [1, QUERY, WAY]
    for name, value in weights_of(embedder).items():
        np.testing.assert_array_equal(value, before[name])
    assert [parameter.stop_gradient for parameter in embedder.parameters()] == frozen
    assert all(parameter.grad is None for parameter in embedder.parameters())
    assert all(layer.training for layer in embedder.sublayers(include_self=True))


def tuned_copies(monkeypatch: pytest.MonkeyPatch) -> list[Embedder]:
    """The copies that are made from here on."""
    copies: list[Embedder] = []

    def remember(embedder: Embedder) -> Embedder:
        copies.append(copy.deepcopy(embedder))
        return copies[-1]

    monkeypatch.setattr("ppfsl.methods.finetune.copy", SimpleNamespace(deepcopy=remember))
    return copies


@pytest.mark.parametrize("frozen", [False, True])
def test_whole_copy_learns_but_statistics(embedder: Embedder, monkeypatch: pytest.MonkeyPatch, frozen: bool) -> None:
    if frozen:  # as a stage with `trainable: head` leaves it
        for parameter in embedder.parameters():
            parameter.stop_gradient = True
    inputs, query = pictures(1)
    method = FinetuneAll(config(**ALL, optimizer={"name": "adam", "lr": 0.01}), embedder)
    copies = tuned_copies(monkeypatch)
    method.adapt(support_of(inputs, query))
    (tuned,) = copies
    before = weights_of(embedder)
    statistics = {name for name in before if name.endswith(("_mean", "_variance"))}
    assert len(statistics) == 8
    same = {name for name, value in weights_of(tuned).items() if np.array_equal(value, before[name])}
    assert same == statistics


def test_without_training_both_ways_agree(embedder: Embedder) -> None:
    inputs, query = pictures()
    settings = almost_untouched()
    images = FinetuneAll(settings, embedder).adapt(support_of(inputs, query))(paddle.to_tensor(query)).numpy()

    def embeddings(x: np.ndarray) -> np.ndarray:
        table = x.reshape(-1, 3, 16, 16).transpose(0, 2, 3, 1).astype(np.uint8)
        return embed(embedder, table, np.arange(len(table))).reshape(*x.shape[:2], -1)

    support = support_of(embeddings(inputs), embeddings(query))
    np.testing.assert_allclose(images, logits(Finetune(settings), support, embeddings(query)), atol=1e-3)


def test_images_many_episodes_equal_one_at_a_time(embedder: Embedder) -> None:
    inputs, query = pictures()
    numbers = np.asarray([7, 1])
    method = FinetuneAll(config(**ALL, initialization="random", entropy="query", optimizer=SGD), embedder, seed=2)
    together = logits(method, support_of(inputs, query, numbers), query)
    for e in range(2):
        one = slice(e, e + 1)
        alone = logits(method, support_of(inputs[one], query[one], numbers[one]), query[one])
        np.testing.assert_allclose(together[one], alone, atol=1e-5)


def test_tuning_the_embedder_lowers_the_loss_further(embedder: Embedder) -> None:
    inputs, query = pictures(1)
    losses = []
    for trainable in ("head", "all"):
        settings = config(trainable=trainable, steps=5, entropy="none", optimizer={"name": "adam", "lr": 0.003})
        if trainable == "all":
            found = logits(FinetuneAll(settings, embedder), support_of(inputs, query), inputs)
        else:
            table = inputs[0].transpose(0, 2, 3, 1).astype(np.uint8)
            embedded = embed(embedder, table, np.arange(len(table)))[None]
            found = logits(Finetune(settings), support_of(embedded, query), embedded)
        losses.append(-np.log(softmax(found)[:, np.arange(len(LABELS)), LABELS]).mean())
    assert losses[1] < losses[0]


# --- from the configuration


def test_configuration_decides_the_method(embedder: Embedder) -> None:
    mean = build_method(ClassMeanConfig(name="class_mean", scale=3.0), embedder, 0)
    assert mean == ClassMean("class_mean", 3.0)
    assert build_method(ClassMeanConfig(name="class_mean", label="x"), embedder, 0).name == "x"
    head = build_method(config(), embedder, 4)
    assert isinstance(head, Finetune)
    assert (head.name, head.inputs, head.transductive, head.seed) == ("finetune", "embedding", False, 4)
    everything = build_method(config(trainable="all", label="y", entropy="query"), embedder, 5)
    assert isinstance(everything, FinetuneAll)
    assert (everything.name, everything.inputs, everything.transductive) == ("y", "image", True)
    assert (everything.embedder, everything.seed) == (embedder, 5)
