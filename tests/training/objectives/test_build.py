"""From `objective` keys to objectives, and what is true of all of them."""

from typing import Any

import numpy as np
import paddle
import pytest
from pydantic import TypeAdapter

from ppfsl.autodiff import selftest
from ppfsl.backbones.embedder import Architecture, build_embedder
from ppfsl.config.objectives import Objective as Keys
from ppfsl.config.objectives import has_layers, trains_method
from ppfsl.errors import UserError
from ppfsl.methods.anil import Anil
from ppfsl.methods.learned_optimizer import LearnedOptimizerHead
from ppfsl.methods.lstm_meta_learner import LstmMetaLearner
from ppfsl.methods.maml import Maml
from ppfsl.methods.matching import Matching
from ppfsl.methods.memory_augmented import MemoryAugmented
from ppfsl.methods.meta_baseline import MetaBaseline
from ppfsl.methods.meta_sgd import MetaSgd
from ppfsl.methods.prototypical import Prototypical
from ppfsl.methods.relation import Relation
from ppfsl.methods.reptile import Reptile
from ppfsl.methods.siamese import Siamese as SiameseMethod
from ppfsl.randomness import generator
from ppfsl.training.objectives.base import Objective
from ppfsl.training.objectives.build import build_objective
from ppfsl.training.objectives.cosine import Cosine
from ppfsl.training.objectives.cross_entropy import CrossEntropy
from ppfsl.training.objectives.episodic import Episodic
from ppfsl.training.objectives.pairs import Contrastive, Siamese
from ppfsl.training.objectives.sequences import Sequences
from ppfsl.training.objectives.tasks import Tasks
from ppfsl.training.objectives.triplet import Triplet

LABELS = generator(0, "labels").permutation(np.repeat(np.arange(6), (7, 4, 9, 5, 4, 8)))
CLASSES = {"classes_per_batch": 3, "images_per_class": 3}
EPISODES = {"way": 3, "shot": 2, "query": 2}
MEMORY = {"slots": 6, "width": 4, "heads": 2, "episodes_per_batch": 2}
SHAPE = (2, 3, 3)

EMBEDDER = build_embedder(Architecture("conv4", 24, 1, None, "unit", (("pools", 3), ("width", 2))), 0)
KINDS: dict[str, dict[str, Any]] = {
    "cross_entropy": {"name": "cross_entropy", "batch_size": 8},
    "cosine": {"name": "cosine", "triples": 4},
    "triplet": {"name": "triplet", **CLASSES},
    "contrastive": {"name": "contrastive", "margin": 2.5, **CLASSES},  # so that no pair is beyond it
    "siamese": {"name": "siamese", **CLASSES},
    "siamese, concatenation": {"name": "siamese", "merge": "concatenation", "hidden": [4], **CLASSES},
    "prototypical": {"name": "prototypical", **EPISODES},
    "matching": {"name": "matching", **EPISODES},
    "matching, full context": {"name": "matching", "context": "full", **EPISODES},
    "relation": {"name": "relation", "width": 4, "hidden": 3, **EPISODES},
    "meta_baseline": {"name": "meta_baseline", **EPISODES},
    "anil": {"name": "anil", **EPISODES},
    "maml": {"name": "maml", **EPISODES},
    "maml, first order": {"name": "maml", "order": 1, **EPISODES},
    "meta_sgd": {"name": "meta_sgd", **EPISODES},
    "reptile": {"name": "reptile", "inner_batch": 3, **EPISODES},
    "lstm_meta_learner": {"name": "lstm_meta_learner", "hidden": 3, **EPISODES},
    "learned_optimizer": {"name": "learned_optimizer", "hidden": 3, "inner_steps": 2, **EPISODES},
    "memory_augmented": {"name": "memory_augmented", "way": 3, "instances": 3, "hidden": 5, **MEMORY},
}
TYPES: dict[str, Any] = {
    "cross_entropy": (CrossEntropy, None),
    "cosine": (Cosine, None),
    "triplet": (Triplet, None),
    "contrastive": (Contrastive, None),
    "siamese": (Siamese, SiameseMethod),
    "prototypical": (Episodic, Prototypical),
    "matching": (Episodic, Matching),
    "relation": (Episodic, Relation),
    "meta_baseline": (Episodic, MetaBaseline),
    "anil": (Episodic, Anil),
    "maml": (Tasks, Maml),
    "meta_sgd": (Tasks, MetaSgd),
    "reptile": (Tasks, Reptile),
    "lstm_meta_learner": (Tasks, LstmMetaLearner),
    "learned_optimizer": (Episodic, LearnedOptimizerHead),
    "memory_augmented": (Sequences, MemoryAugmented),
}
NUMBERED = (Episodic, Tasks, Sequences)  # whose epochs have episodes of their own numbers
BY_LOSS = [kind for kind in KINDS if TYPES[KINDS[kind]["name"]][0] is not Tasks]


def keys(kind: str) -> Any:
    return TypeAdapter(Keys).validate_python(KINDS[kind])


def build(kind: str, seed: int = 0, labels: np.ndarray = LABELS) -> Objective:
    return build_objective(keys(kind), labels, EMBEDDER, seed)


def batch_of(objective: Objective) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Vectors and labels of a batch."""
    batch = next(iter(objective.batches(0, 1)))
    x = paddle.to_tensor(generator(0, "x").standard_normal((len(LABELS), 18)).astype(np.float32)[batch])
    x.stop_gradient = False
    return x, paddle.to_tensor(LABELS[batch])


@pytest.mark.parametrize("kind", KINDS)
def test_each_name_builds_its_objective_and_its_method(kind: str) -> None:
    objective = build(kind)
    own, method = TYPES[KINDS[kind]["name"]]
    assert type(objective) is own
    assert (objective.method is None) if method is None else (type(objective.method) is method)
    # What the configuration says of an objective without building it.
    assert (objective.head is not None) == has_layers(keys(kind))
    assert (objective.method is not None) == trains_method(keys(kind))
    if objective.method is not None:
        assert objective.method.layer is objective.head


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_pure_functions_of_seed_and_epoch(kind: str) -> None:
    def batches(epoch: int, seed: int = 0) -> list[list[int]]:
        return [batch.tolist() for batch in build(kind, seed).batches(epoch, 5)]

    assert batches(3) == batches(3)
    assert batches(3) != batches(4)
    assert batches(3) != batches(3, seed=1)
    objective = build(kind)
    consumed = [list(objective.batches(epoch, 5)) for epoch in (9, 3)]  # an earlier epoch leaves no trace
    assert [batch.tolist() for batch in consumed[1]] == batches(3)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if TYPES[KINDS[kind]["name"]][0] not in NUMBERED])
def test_a_shorter_epoch_is_the_beginning_of_a_longer_one(kind: str) -> None:
    short, long = ([batch.tolist() for batch in build(kind).batches(3, steps)] for steps in (2, 5))
    assert short == long[:2]


@pytest.mark.parametrize("kind", BY_LOSS)
def test_the_loss_reaches_the_vectors_and_every_weight_of_the_head(kind: str) -> None:
    objective = build(kind)
    x, labels = batch_of(objective)
    loss, terms = objective.loss(x, labels, generator(0, "chance"))
    assert loss.shape == []
    assert all(isinstance(value, float) for value in terms.values())
    loss.backward()
    assert np.isfinite(x.grad.numpy()).all()
    assert x.grad.numpy().any()
    if objective.head is not None:
        for name, parameter in objective.head.named_parameters():
            if not name.endswith(("_mean", "_variance")):  # which Paddle counts among the parameters
                assert parameter.grad is not None, name
                assert np.isfinite(parameter.grad.numpy()).all(), name


@pytest.mark.parametrize("kind", BY_LOSS)
def test_the_loss_is_a_pure_function_of_batch_chance_and_seed(kind: str) -> None:
    def loss(key: int = 0, seed: int = 0) -> float:
        objective = build(kind, seed)
        x, labels = batch_of(build(kind))
        return objective.loss(x, labels, generator(key, "chance"))[0].item()

    assert loss() == loss()
    by_chance = kind.startswith(("siamese", "contrastive", "memory_augmented"))
    assert (loss() != loss(key=1)) == by_chance
    with_heads = ("cross_entropy", "relation", "matching, full context", "anil", "learned_optimizer")
    drawn = kind in with_heads or kind.startswith(("siamese", "memory_augmented"))
    assert (loss() != loss(seed=1)) == drawn  # the head's first weights


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("cross_entropy", "weight"),
        ("siamese", "linears.0.weight"),
        ("anil", "linear.weight"),
        ("maml", "linear.weight"),
    ],
)
def test_vectors_are_as_long_as_the_shape_is_large(kind: str, inputs: str) -> None:
    head = build(kind).head
    assert head is not None
    assert dict(head.state_dict())[inputs].shape[0] == 2 * 3 * 3


def test_shape_and_dimension_reach_the_methods_layers() -> None:
    assert build("relation").head.arguments == {"shape": [2, 3, 3], "width": 4, "hidden": 3}
    assert build("matching, full context").head.arguments == {"dim": 18, "steps": 5}
    assert (build("memory_augmented").head.arguments["dim"], build("memory_augmented").head.arguments["way"]) == (18, 3)
    assert build("lstm_meta_learner").head.arguments["dim"] == 18


@pytest.mark.parametrize(
    "kind",
    [
        *("cross_entropy", "cosine", "prototypical", "matching", "matching, full context", "relation"),
        *("anil", "maml", "maml, first order", "meta_sgd", "reptile", "lstm_meta_learner", "learned_optimizer"),
        "memory_augmented",
    ],
)
def test_objectives_that_cannot_collapse_do_not_complain(kind: str) -> None:
    assert build(kind).complaint({"loss": 99.0, "accuracy": 0.0}) is None


@pytest.mark.parametrize("kind", KINDS)
def test_one_base_class_is_refused(kind: str) -> None:
    with pytest.raises(UserError) as caught:
        build(kind, labels=np.zeros(50, dtype=np.int64))
    assert str(caught.value) == (
        "training needs two base classes, not 1; raise the first share of data.split_ratio, or choose another "
        "data.split"
    )


@pytest.mark.parametrize(
    ("objective", "needs"),
    [
        ({"name": "maml"}, True),
        ({"name": "maml", "order": 1}, False),
        ({"name": "meta_sgd"}, True),
        ({"name": "reptile"}, False),
    ],
)
def test_second_order_is_refused_where_paddle_gets_it_wrong(
    objective: dict[str, Any], needs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "self_test", lambda: 0.5)
    monkeypatch.delenv(selftest.SKIP, raising=False)
    config = TypeAdapter(Keys).validate_python({**objective, "way": 2, "shot": 1, "query": 1, "episodes_per_batch": 1})
    if needs:
        with pytest.raises(UserError, match="second-order gradients are wrong in the installed PaddlePaddle"):
            build_objective(config, LABELS, EMBEDDER, 0)
        monkeypatch.setenv(selftest.SKIP, "1")
    build_objective(config, LABELS, EMBEDDER, 0)
