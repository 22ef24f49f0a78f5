"""Which method each objective gives, with what it learns drawn anew."""

from typing import Any

import pytest
from paddle import nn
from pydantic import TypeAdapter

from ppfsl.config import LstmMetaLearnerConfig, MemoryAugmentedConfig, Objective, SiameseConfig
from ppfsl.config.objectives import has_layers
from ppfsl.methods.anil import Anil
from ppfsl.methods.build import build_learner, build_memory_augmented, build_siamese, build_task_learner
from ppfsl.methods.layers import build_layer, describe
from ppfsl.methods.learned_optimizer import LearnedOptimizerHead
from ppfsl.methods.lstm_meta_learner import LstmMetaLearner
from ppfsl.methods.maml import Maml
from ppfsl.methods.matching import Matching
from ppfsl.methods.meta_baseline import MetaBaseline
from ppfsl.methods.meta_sgd import MetaSgd
from ppfsl.methods.prototypical import Prototypical
from ppfsl.methods.relation import Relation
from ppfsl.methods.reptile import Reptile
from tests.methods.building import EMBEDDER, FULL, WEIGHTS, build

SHAPE = (4, 3, 3)


def objective(**keys: Any) -> Any:
    return TypeAdapter(Objective).validate_python(keys)


@pytest.mark.parametrize(
    ("keys", "kind", "facts", "description"),
    [
        ({"name": "prototypical"}, Prototypical, {"metric": "squared_euclidean", "temperature": 1}, None),
        (
            {"name": "prototypical", "metric": "cosine", "temperature": 0.2},
            Prototypical,
            {"metric": "cosine", "temperature": 0.2},
            None,
        ),
        ({"name": "matching", "temperature": 0.2}, Matching, {"temperature": 0.2}, None),
        (
            {**FULL, "processing_steps": 3, "temperature": 0.2},
            Matching,
            {"temperature": 0.2},
            {"name": "matching", "arguments": {"dim": 36, "steps": 3}},
        ),
        (
            {"name": "relation", "width": 5, "hidden": 2},
            Relation,
            {},
            {"name": "relation", "arguments": {"shape": [4, 3, 3], "width": 5, "hidden": 2}},
        ),
        (
            {"name": "meta_baseline", "scale": 4.0},
            MetaBaseline,
            {},
            {"name": "meta_baseline", "arguments": {"initial": 4.0}},
        ),
        (
            {"name": "learned_optimizer", "inner_steps": 3, "scale": 2.0, "hidden": 4},
            LearnedOptimizerHead,
            {"steps": 3, "scale": 2},
            {"name": "learned_optimizer", "arguments": {"hidden": 4, "scale": 0.1}},
        ),
        (
            {"name": "anil", "way": 4, "inner_steps": 3, "inner_lr": 0.2},
            Anil,
            {"steps": 3, "lr": 0.2},
            {
                "name": "task",
                "arguments": {
                    **{"method": "anil", "dim": 36, "way": 4, "steps": 3, "lr": 0.2},
                    **{"batch_norm": "running", "rates": None},
                },
            },
        ),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) and "name" in value else "",
)
def test_each_episodic_objective_gives_its_method(
    keys: dict[str, Any], kind: type, facts: dict[str, Any], description: dict[str, Any] | None
) -> None:
    config = objective(**keys)
    learner = build_learner(config, SHAPE, 3)
    assert type(learner) is kind
    assert {name: getattr(learner, name) for name in facts} == facts
    assert has_layers(config) == (description is not None)
    if description is None:
        assert learner.layer is None
        return
    assert learner.layer is not None
    assert describe(learner.layer) == description
    expected = build_layer(description, 3).state_dict()
    assert all((value.numpy() == expected[name].numpy()).all() for name, value in learner.layer.state_dict().items())
    keys = {"name": keys["name"], **({"context": "full"} if "context" in keys else {})}
    assert type(build(keys, learner.layer)) is kind  # what one trains, the other takes


def test_siamese_objective_gives_its_method() -> None:
    config = SiameseConfig(name="siamese", merge="concatenation", hidden=(6, 3))
    method = build_siamese(config, 4, 3)
    description = {"name": "siamese", "arguments": {"dim": 4, "merge": "concatenation", "hidden": [6, 3]}}
    assert describe(method.layer) == description
    expected = build_layer(description, 3).state_dict()
    assert all((value.numpy() == expected[name].numpy()).all() for name, value in method.layer.state_dict().items())
    assert build({"name": "siamese"}, method.layer).layer is method.layer  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("keys", "kind", "facts"),
    [
        (
            {"name": "maml"},
            Maml,
            {"order": 2, "first_order_epochs": 0, "batch_norm": "transductive", "steps": 1, "lr": 0.4},
        ),
        ({"name": "maml", "order": 1, "batch_norm": "running"}, Maml, {"order": 1, "batch_norm": "running"}),
        ({"name": "maml", "first_order_epochs": 4, "inner_steps": 3}, Maml, {"first_order_epochs": 4, "steps": 3}),
        ({"name": "meta_sgd"}, MetaSgd, {"order": 2, "first_order_epochs": 0, "lr": 0.1, "steps": 1}),
        ({"name": "meta_sgd", "inner_steps": 2, "inner_lr": 0.2}, MetaSgd, {"lr": 0.2, "steps": 2}),
        ({"name": "reptile"}, Reptile, {"steps": 5, "lr": 1e-3, "batch": 10}),
        (
            {"name": "reptile", "inner_batch": 3, "batch_norm": "support_statistics"},
            Reptile,
            {"batch": 3, "batch_norm": "support_statistics"},
        ),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) and "name" in value else "",
)
def test_each_objective_on_tasks_gives_its_method(keys: dict[str, Any], kind: type, facts: dict[str, Any]) -> None:
    config = objective(way=4, **keys)
    learner: Any = build_task_learner(config, EMBEDDER, 3)
    assert type(learner) is kind
    assert {name: getattr(learner, name) for name in facts} == facts
    assert (learner.name, learner.seed, learner.inputs) == (keys["name"], 3, "image")
    assert has_layers(config)
    assert learner.network.embedder is EMBEDDER
    assert learner.network.linear is learner.layer.linear
    description = describe(learner.layer)
    settings = {"steps": learner.steps, "lr": learner.lr, "batch_norm": learner.batch_norm}
    arguments = {"method": keys["name"], "dim": 5, "way": 4, **settings}
    rates = {**WEIGHTS, "linear.weight": 20, "linear.bias": 4} if kind is MetaSgd else None
    assert description == {"name": "task", "arguments": {**arguments, "rates": rates}}
    expected = build_layer(description, 3).state_dict()
    assert all((value.numpy() == expected[name].numpy()).all() for name, value in learner.layer.state_dict().items())
    # What one trains, the other takes, with its settings.
    method: Any = build({"name": keys["name"], **({"steps": learner.steps} if kind is Reptile else {})}, learner.layer)
    assert type(method) is kind
    assert {name: getattr(method, name) for name in settings} == settings


def test_lstm_meta_learner_objective_gives_its_method() -> None:
    config = LstmMetaLearnerConfig(name="lstm_meta_learner", way=4, inner_steps=3, inner_lr=0.2, hidden=6)
    learner: Any = build_task_learner(config, EMBEDDER, 3)
    assert type(learner) is LstmMetaLearner
    assert (learner.steps, learner.lr, learner.batch_norm) == (3, 0.2, "transductive")
    assert (learner.name, learner.seed, learner.inputs) == ("lstm_meta_learner", 3, "image")
    assert learner.network.embedder is EMBEDDER
    assert learner.network.linear is learner.layer.linear
    arguments = {"dim": 5, "way": 4, "steps": 3, "lr": 0.2, "batch_norm": "transductive", "hidden": 6}
    assert_fresh(learner.layer, {"name": "lstm_meta_learner", "arguments": arguments})
    method: Any = build({"name": "lstm_meta_learner"}, learner.layer)  # what one trains, the other takes
    assert (method.layer, method.steps, method.lr, method.batch_norm) == (learner.layer, 3, 0.2, "transductive")


def test_memory_augmented_objective_gives_its_method() -> None:
    sizes = {"hidden": 6, "slots": 5, "width": 3, "heads": 2, "decay": 0.5}
    config = MemoryAugmentedConfig(name="memory_augmented", way=4, instances=3, **sizes)  # type: ignore[arg-type]
    learner = build_memory_augmented(config, 7, 3)
    assert (learner.name, learner.seed, learner.inputs, learner.transductive) == (
        *("memory_augmented", 3, "projected"),
        False,
    )
    assert_fresh(learner.layer, {"name": "memory_augmented", "arguments": {"dim": 7, "way": 4, **sizes}})
    method: Any = build({"name": "memory_augmented"}, learner.layer)
    assert method.layer is learner.layer


def assert_fresh(layer: nn.Layer, description: dict[str, Any]) -> None:
    """As the seed 3 draws it."""
    assert describe(layer) == description
    expected = build_layer(description, 3).state_dict()
    assert all((value.numpy() == expected[name].numpy()).all() for name, value in layer.state_dict().items())
