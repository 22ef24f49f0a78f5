"""Every method that works on vectors is right about what is separated, and at chance on noise."""

from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
import pytest

from ppfsl.config import BaselineConfig
from ppfsl.data.episodes import Episode, EpisodeSampler
from ppfsl.evaluation import Evaluation, evaluate
from ppfsl.methods.anil import Anil
from ppfsl.methods.baseline import Baseline
from ppfsl.methods.learned_optimizer import LearnedOptimizerHead
from ppfsl.methods.matching import Matching
from ppfsl.methods.meta_baseline import MetaBaseline
from ppfsl.methods.relation import Relation
from ppfsl.methods.siamese import Siamese
from ppfsl.randomness import generator
from tests.methods.properties.methods import DIM, METHODS, QUERIES, SHOT, WAY, draw, every, layer_of

learned = [name for name in METHODS if getattr(METHODS[name](), "layer", None) is not None]
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
