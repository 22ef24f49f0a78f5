"""What holds for every method that works on vectors: symmetries, purity, perfect and chance accuracy, gradients."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn

from ppfsl.config import BaselineConfig, FinetuneConfig
from ppfsl.data.episodes import Episode, EpisodeSampler
from ppfsl.evaluation import Evaluation, evaluate
from ppfsl.methods.anil import Anil
from ppfsl.methods.base import EpisodeLearner, Method, Support
from ppfsl.methods.baseline import Baseline
from ppfsl.methods.class_mean import ClassMean
from ppfsl.methods.finetune import Finetune
from ppfsl.methods.layers import build_layer
from ppfsl.methods.learned_optimizer import LearnedOptimizerHead
from ppfsl.methods.matching import Matching
from ppfsl.methods.meta_baseline import MetaBaseline
from ppfsl.methods.nearest_shot import NearestShot
from ppfsl.methods.prototypical import Prototypical
from ppfsl.methods.relation import Relation
from ppfsl.methods.siamese import Siamese
from ppfsl.randomness import generator

EPISODES, WAY, SHOT, QUERIES, DIM = 3, 3, 2, 4, 8
LABELS = np.asarray([1, 0, 2, 2, 1, 0])
NUMBERS = np.asarray([5, 0, 9])


def layer_of(name: str, **arguments: Any) -> Any:
    layer = build_layer({"name": name, "arguments": arguments}, 0)
    layer.eval()
    return layer


def finetune(**keys: Any) -> Finetune:
    optimizer = {"name": "sgd", "lr": 0.1}
    return Finetune(FinetuneConfig.model_validate({"name": "finetune", "steps": 4, "optimizer": optimizer, **keys}))


def baseline(**keys: Any) -> Baseline:
    """With all of the support set in a batch, so that its order does not matter."""
    return Baseline(BaselineConfig.model_validate({"epochs": 4, "batch_size": 100, "lr": 0.1, **keys}))


def siamese(merge: str, *hidden: int, shots: Any = "mean") -> Siamese:
    return Siamese(layer_of("siamese", dim=DIM, merge=merge, hidden=list(hidden)), shots)


def anil() -> Anil:
    """Of a head that prefers no class, so that their names do not matter."""
    arguments = {"method": "anil", "dim": DIM, "way": WAY, "steps": 3, "lr": 0.2, "batch_norm": "running"}
    layer = layer_of("task", **arguments)
    layer.linear.weight.set_value(layer.linear.weight[:, :1].expand([DIM, WAY]))
    return Anil(layer, 3, 0.2)


METHODS: dict[str, Callable[[], Any]] = {
    "class_mean": ClassMean,
    "finetune": finetune,
    "finetune, transductive": lambda: finetune(entropy="query"),
    "baseline": lambda: baseline(name="baseline"),
    "baseline++": lambda: baseline(name="baseline++"),
    "nearest_shot": NearestShot,
    "nearest_shot, mean": lambda: NearestShot("mean"),
    "prototypical": Prototypical,
    "prototypical, cosine": lambda: Prototypical("cosine", 0.1),
    "matching": Matching,
    "matching, full context": lambda: Matching(layer_of("matching", dim=DIM, steps=3)),
    "relation, mean of maps": lambda: Relation(layer_of("relation", shape=[2, 2, 2], width=6, hidden=5), "mean"),
    "relation, maps": lambda: Relation(layer_of("relation", shape=[2, 2, 2], width=6, hidden=5)),
    "relation, vectors": lambda: Relation(layer_of("relation", shape=[DIM, 1, 1], width=6, hidden=5)),
    "siamese": lambda: siamese("absolute_difference"),
    "siamese, max": lambda: siamese("absolute_difference", 5, shots="max"),
    "siamese, concatenation": lambda: siamese("concatenation", 9, 5),
    "meta_baseline": lambda: MetaBaseline(layer_of("meta_baseline", initial=10.0)),
    "anil": anil,
    "learned_optimizer": lambda: LearnedOptimizerHead(layer_of("learned_optimizer", hidden=6), 3),
}
every = pytest.mark.parametrize("name", METHODS)
learned = [name for name in METHODS if getattr(METHODS[name](), "layer", None) is not None]


def draw(*shape: int, key: str = "x") -> np.ndarray:
    return generator(0, "properties", key, *shape).standard_normal(shape).astype(np.float32)


def support_of(
    inputs: np.ndarray, labels: np.ndarray, numbers: np.ndarray, unlabelled: np.ndarray | None = None
) -> Support:
    queries = None if unlabelled is None else paddle.to_tensor(unlabelled)
    return Support(paddle.to_tensor(inputs), paddle.to_tensor(labels), int(labels.max()) + 1, numbers, queries)


INPUTS, QUERY = draw(EPISODES, len(LABELS), DIM), draw(EPISODES, QUERIES, DIM, key="query")


def logits(
    method: Method,
    inputs: np.ndarray = INPUTS,
    labels: np.ndarray = LABELS,
    query: np.ndarray = QUERY,
    numbers: np.ndarray = NUMBERS,
) -> np.ndarray:
    unlabelled = query if method.transductive else None
    return method.adapt(support_of(inputs, labels, numbers, unlabelled))(paddle.to_tensor(query)).numpy()


# --- symmetries


@every
def test_logits_are_one_number_per_query_and_class(name: str) -> None:
    found = logits(METHODS[name]())
    assert (found.shape, found.dtype) == ((EPISODES, QUERIES, WAY), np.float32)
    assert np.isfinite(found).all()
    assert np.ptp(found) > 1e-3


IN_MINIBATCHES: dict[str, Callable[[], Any]] = {
    f"{name}, mini-batches": lambda name=name: baseline(name=name, batch_size=4) for name in ("baseline", "baseline++")
}


@pytest.mark.parametrize("order", [[5, 4, 3, 2, 1, 0], [2, 0, 5, 1, 3, 4]], ids=str)
@pytest.mark.parametrize("name", [*METHODS, *IN_MINIBATCHES])
def test_order_of_the_support_set_matters_to_full_context_and_mini_batches_alone(name: str, order: list[int]) -> None:
    method = (METHODS | IN_MINIBATCHES)[name]()
    shuffled = logits(method, INPUTS[:, order], LABELS[order])
    ordered = name == "matching, full context" or name in IN_MINIBATCHES
    assert np.allclose(shuffled, logits(method), atol=1e-5) != ordered


def test_mini_batches_are_what_the_shipped_configurations_fit_by() -> None:
    assert all(BaselineConfig(name=name).batch_size == 4 for name in ("baseline", "baseline++"))


class Renamed(Baseline):
    """Starts where `Baseline` starts when class k is called order[k]."""

    order = np.asarray([2, 0, 1])

    def _first_weights(self, support: Support) -> np.ndarray:
        return super()._first_weights(support)[:, np.argsort(self.order)]


@every
def test_renaming_the_classes_permutes_the_logits(name: str) -> None:
    method = METHODS[name]()
    renamed = Renamed(method.config) if isinstance(method, Baseline) else method
    found = logits(renamed, labels=Renamed.order[LABELS])
    np.testing.assert_allclose(found[:, :, Renamed.order], logits(method), atol=2e-5)


@every
def test_many_episodes_equal_one_at_a_time(name: str) -> None:
    method = METHODS[name]()
    together = logits(method)
    for e in range(EPISODES):
        one = slice(e, e + 1)
        alone = logits(method, INPUTS[one], query=QUERY[one], numbers=NUMBERS[one])
        np.testing.assert_allclose(together[one], alone, atol=1e-5)


@every
def test_each_query_is_answered_alone(name: str) -> None:
    method = METHODS[name]()
    classify = method.adapt(support_of(INPUTS, LABELS, NUMBERS, QUERY if method.transductive else None))
    together = classify(paddle.to_tensor(QUERY)).numpy()
    for q in range(QUERIES):
        alone = classify(paddle.to_tensor(QUERY[:, q : q + 1])).numpy()
        np.testing.assert_allclose(together[:, q : q + 1], alone, atol=1e-5)


# --- purity


def state_of(layer: nn.Layer | None) -> dict[str, Any]:
    if layer is None:
        return {}
    values = {name: (tensor.numpy().tolist(), tensor.stop_gradient) for name, tensor in layer.state_dict().items()}
    gradients = {name: parameter.grad is None for name, parameter in layer.named_parameters()}
    modes = [one.training for one in layer.sublayers(include_self=True)]
    return {"values": values, "gradients": gradients, "modes": modes}


@every
def test_adapting_changes_neither_method_nor_support_set(name: str) -> None:
    method = METHODS[name]()
    support = support_of(INPUTS, LABELS, NUMBERS.copy(), QUERY if method.transductive else None)
    before, query = state_of(getattr(method, "layer", None)), paddle.to_tensor(QUERY)
    classify = method.adapt(support)
    first = classify(query).numpy()
    method.adapt(support_of(2 - INPUTS, LABELS, NUMBERS, -QUERY if method.transductive else None))(query)
    assert np.array_equal(classify(query).numpy(), first)
    assert np.array_equal(method.adapt(support)(query).numpy(), first)
    assert state_of(getattr(method, "layer", None)) == before
    assert np.array_equal(support.inputs.numpy(), INPUTS)
    assert support.inputs.stop_gradient
    assert support.inputs.grad is None
    assert support.labels.numpy().tolist() == LABELS.tolist()
    assert support.numbers.tolist() == NUMBERS.tolist()
    assert np.array_equal(query.numpy(), QUERY)


# --- what they score


CLASSES = 6


def pixelwise(weight: np.ndarray) -> np.ndarray:
    """A 3 x 3 convolution that looks at the middle alone: [out, in] -> [out, in, 3, 3]."""
    kernel = np.zeros((*weight.shape, 3, 3), dtype=np.float32)
    kernel[:, :, 1, 1] = weight
    return kernel


def set_weights(layer: Any, weights: dict[str, np.ndarray]) -> Any:
    state = layer.state_dict()
    for name, value in weights.items():
        state[name].set_value(value.astype(np.float32))
    return layer


def comparing_relation() -> Relation:
    """Scores the overlap of two one-hot vectors: n at the class and 10 at the query, of which 10.5 is taken away."""
    eye, one = np.eye(CLASSES), np.ones((CLASSES, 1))
    layer = layer_of("relation", shape=[CLASSES, 1, 1], width=CLASSES, hidden=CLASSES)
    convolutions = {"of_class.weight": eye, "of_query.weight": 10 * eye, "second.weight": eye}
    weights = {name: pixelwise(weight) for name, weight in convolutions.items()}
    weights |= {"norms.0.bias": np.full(CLASSES, -10.5), "linears.0.weight": eye, "linears.1.weight": one}
    return Relation(set_weights(layer, weights))


def comparing_siamese(merge: str) -> Siamese:
    """Log-odds are minus the city-block distance; of concatenated vectors |a - b| = relu(a - b) + relu(b - a)."""
    eye = np.eye(CLASSES)
    if merge == "absolute_difference":
        layer = layer_of("siamese", dim=CLASSES, merge=merge, hidden=[])
        return Siamese(set_weights(layer, {"linears.0.weight": -np.ones((CLASSES, 1)), "linears.0.bias": np.zeros(1)}))
    layer = layer_of("siamese", dim=CLASSES, merge=merge, hidden=[2 * CLASSES])
    both_signs = np.block([[eye, -eye], [-eye, eye]])
    weights = {"linears.0.weight": both_signs, "linears.1.weight": -np.ones((2 * CLASSES, 1))}
    return Siamese(set_weights(layer, weights))


def subdued_context() -> Matching:
    """Its LSTMs' outputs are small beside the embeddings."""
    layer = layer_of("matching", dim=CLASSES, steps=3)
    for parameter in layer.parameters():
        parameter.set_value(parameter * 0.2)
    return Matching(layer)


def anil_from_zero() -> Anil:
    arguments = {"method": "anil", "dim": CLASSES, "way": 5, "steps": 2, "lr": 0.5, "batch_norm": "running"}
    layer = layer_of("task", **arguments)
    return Anil(set_weights(layer, {"linear.weight": np.zeros((CLASSES, 5))}), 2, 0.5)


class Descent:
    """Stands for an optimizer: plain steps along the gradient."""

    def start(self, coordinates: int) -> list[Any]:
        return []

    def __call__(self, gradients: paddle.Tensor, states: list[Any]) -> tuple[paddle.Tensor, list[Any]]:
        return -0.5 * gradients, states


def plain_descent() -> LearnedOptimizerHead:
    optimizer: Any = Descent()
    return LearnedOptimizerHead(optimizer, 2)


PERFECT: dict[str, Callable[[], Any]] = {
    **{name: METHODS[name] for name in METHODS if name not in learned},
    "baseline": lambda: Baseline(BaselineConfig(name="baseline", lr=0.5)),
    "baseline++": lambda: Baseline(BaselineConfig(name="baseline++", lr=0.5)),
    "matching, full context": subdued_context,
    "relation": comparing_relation,
    "siamese": lambda: comparing_siamese("absolute_difference"),
    "siamese, concatenation": lambda: comparing_siamese("concatenation"),
    "meta_baseline": lambda: MetaBaseline(layer_of("meta_baseline", initial=10.0)),
    "anil": anil_from_zero,
    "learned_optimizer": plain_descent,
}


@pytest.mark.parametrize("shot", [1, 3])
@pytest.mark.parametrize("name", PERFECT)
def test_perfectly_separated_embeddings_score_everything(name: str, shot: int) -> None:
    labels = np.repeat([4, 2, 9, 30, 7, 1], 8)
    embeddings = np.repeat(np.eye(CLASSES, dtype=np.float32), 8, axis=0)
    episodes = list(EpisodeSampler(np.arange(len(labels)), labels, 5, shot, 3, 0).take(20))
    done = evaluate(PERFECT[name](), embeddings.__getitem__, episodes, np.unique(labels))
    assert (done.accuracy, done.ci95) == (1, 0)
    check_tables(done, 20)


def check_tables(done: Evaluation, episodes: int) -> None:
    rows, confusion = done.per_class({label: str(label) for label in done.classes.tolist()}), done.confusion_of_drawn()
    total, correct = sum(row["total"] for row in rows), sum(row["correct"] for row in rows)
    assert total == episodes * done.way * done.query == sum(map(sum, confusion))
    assert correct / total == pytest.approx(done.accuracy, abs=1e-12)
    assert [sum(line) for line in confusion] == [row["total"] for row in rows]
    assert [confusion[i][i] for i in range(len(rows))] == [row["correct"] for row in rows]


@every
def test_random_embeddings_score_chance(name: str) -> None:
    # No two episodes share an image, so their accuracies are independent, and their mean is exactly 1 / way.
    count, classes = 300, np.arange(10, 17)
    images = np.arange(count * WAY * (SHOT + QUERIES)).reshape(count, WAY, SHOT + QUERIES)
    episodes = [
        Episode(generator(0, "classes", i).choice(classes, WAY, replace=False), rows[:, :SHOT], rows[:, SHOT:])
        for i, rows in enumerate(images)
    ]
    embeddings = draw(images.size, DIM, key="random")
    done = evaluate(METHODS[name](), embeddings.__getitem__, episodes, classes)
    sigma = done.ci95 / 1.96
    assert 0.002 < sigma < 0.02
    assert abs(done.accuracy - 1 / WAY) < 4 * sigma
    check_tables(done, count)


# --- gradients


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
