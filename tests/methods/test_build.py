"""Which method each configuration gives."""

from typing import Any

import pytest
from paddle import nn
from pydantic import TypeAdapter

from ppfsl.backbones.embedder import Architecture, build_embedder
from ppfsl.config import Adaptation, LstmMetaLearnerConfig, MemoryAugmentedConfig, Objective, SiameseConfig
from ppfsl.config.adaptations import needs_trained
from ppfsl.config.objectives import has_layers
from ppfsl.errors import UserError
from ppfsl.methods.anil import Anil
from ppfsl.methods.base import Method
from ppfsl.methods.baseline import Baseline
from ppfsl.methods.build import (
    build_learner,
    build_memory_augmented,
    build_method,
    build_siamese,
    build_task_learner,
)
from ppfsl.methods.class_mean import ClassMean
from ppfsl.methods.finetune import Finetune, FinetuneAll
from ppfsl.methods.layers import build_layer, describe
from ppfsl.methods.learned_optimizer import LearnedOptimizerHead
from ppfsl.methods.lstm_meta_learner import LstmMetaLearner
from ppfsl.methods.maml import Maml
from ppfsl.methods.matching import Matching
from ppfsl.methods.memory_augmented import MemoryAugmented
from ppfsl.methods.meta_baseline import MetaBaseline
from ppfsl.methods.meta_sgd import MetaSgd
from ppfsl.methods.nearest_shot import NearestShot
from ppfsl.methods.prototypical import Prototypical
from ppfsl.methods.relation import Relation
from ppfsl.methods.reptile import Reptile
from ppfsl.methods.siamese import Siamese
from ppfsl.methods.soft_kmeans import SoftKMeans
from ppfsl.methods.task_network import TaskHead

EMBEDDER = build_embedder(Architecture("conv4", 16, 3, 5, "unit", (("width", 4),)), 0)
ARGUMENTS: dict[str, dict[str, Any]] = {
    "siamese": {"dim": 4, "merge": "absolute_difference", "hidden": []},
    "matching": {"dim": 4, "steps": 2},
    "relation": {"shape": [4, 1, 1], "width": 3, "hidden": 2},
    "meta_baseline": {"initial": 10.0},
    "lstm_meta_learner": {
        **{"dim": 5, "way": 3, "steps": 2, "lr": 0.3},
        **{"batch_norm": "support_statistics", "hidden": 4},
    },
    "learned_optimizer": {"hidden": 4},
    "memory_augmented": {"dim": 5, "way": 3, "hidden": 4, "slots": 6, "width": 3, "heads": 2},
}
BY_GRADIENT = ("anil", "maml", "meta_sgd", "reptile")
WEIGHTS = {f"embedder.{name}": int(w.size) for name, w in EMBEDDER.named_parameters() if w.trainable}


def task_head(method: str, **changes: Any) -> nn.Layer:
    rates = {**WEIGHTS, "linear.weight": 15, "linear.bias": 3} if method == "meta_sgd" else None
    arguments = {"dim": 5, "way": 3, "steps": 2, "lr": 0.3, "batch_norm": "support_statistics", "rates": rates}
    return build_layer({"name": "task", "arguments": {"method": method, **arguments, **changes}}, 0)


LAYERS = {name: build_layer({"name": name, "arguments": arguments}, 0) for name, arguments in ARGUMENTS.items()}
LAYERS |= {name: task_head(name) for name in BY_GRADIENT}
AS_TRAINED: dict[str, Any] = {"steps": 2, "lr": 0.3, "batch_norm": "support_statistics", "seed": 3}
FULL = {"name": "matching", "context": "full"}


def adaptation(**keys: Any) -> Adaptation:
    return TypeAdapter(Adaptation).validate_python(keys)


def objective(**keys: Any) -> Any:
    return TypeAdapter(Objective).validate_python(keys)


def build(keys: dict[str, Any], layer: nn.Layer | None = None, seed: int = 3) -> Method:
    return build_method(adaptation(**keys), EMBEDDER, seed, layer)


# --- adaptations


@pytest.mark.parametrize(
    ("keys", "kind", "facts"),
    [
        ({"name": "class_mean", "scale": 4}, ClassMean, {"scale": 4}),
        ({"name": "finetune"}, Finetune, {"seed": 3}),
        ({"name": "finetune", "trainable": "all"}, FinetuneAll, {"seed": 3, "embedder": EMBEDDER}),
        ({"name": "baseline"}, Baseline, {"seed": 3}),
        ({"name": "baseline++", "scale": 4}, Baseline, {"seed": 3}),
        ({"name": "nearest_shot"}, NearestShot, {"shots": "max"}),
        ({"name": "nearest_shot", "shots": "mean"}, NearestShot, {"shots": "mean"}),
        ({"name": "soft_kmeans"}, SoftKMeans, {"scale": 10.0, "steps": 10, "balanced": False}),
        (
            {"name": "soft_kmeans", "scale": 4.0, "steps": 3, "balanced": True},
            SoftKMeans,
            {"scale": 4.0, "steps": 3, "balanced": True},
        ),
        ({"name": "prototypical"}, Prototypical, {"metric": "squared_euclidean", "temperature": 1}),
        (
            {"name": "prototypical", "metric": "cosine", "temperature": 0.1},
            Prototypical,
            {"metric": "cosine", "temperature": 0.1},
        ),
        ({"name": "matching", "temperature": 0.1}, Matching, {"layer": None, "temperature": 0.1}),
        ({**FULL, "temperature": 0.1}, Matching, {"layer": LAYERS["matching"], "temperature": 0.1}),
        ({"name": "relation"}, Relation, {"layer": LAYERS["relation"], "shots": "sum"}),
        ({"name": "relation", "shots": "mean"}, Relation, {"layer": LAYERS["relation"], "shots": "mean"}),
        ({"name": "siamese"}, Siamese, {"layer": LAYERS["siamese"], "shots": "mean"}),
        ({"name": "siamese", "shots": "max"}, Siamese, {"layer": LAYERS["siamese"], "shots": "max"}),
        ({"name": "meta_baseline"}, MetaBaseline, {"layer": LAYERS["meta_baseline"]}),
        ({"name": "anil"}, Anil, {"layer": LAYERS["anil"], "steps": 2, "lr": 0.3}),
        ({"name": "anil", "steps": 7, "lr": 0.5}, Anil, {"layer": LAYERS["anil"], "steps": 7, "lr": 0.5}),
        ({"name": "maml"}, Maml, {"layer": LAYERS["maml"], **AS_TRAINED}),
        (
            {"name": "maml", "steps": 7, "lr": 0.5, "batch_norm": "running"},
            Maml,
            {"layer": LAYERS["maml"], "steps": 7, "lr": 0.5, "batch_norm": "running", "seed": 3},
        ),
        ({"name": "meta_sgd"}, MetaSgd, {"layer": LAYERS["meta_sgd"], **AS_TRAINED}),
        (
            {"name": "meta_sgd", "steps": 7, "batch_norm": "transductive"},
            MetaSgd,
            {"layer": LAYERS["meta_sgd"], "steps": 7, "batch_norm": "transductive"},
        ),
        ({"name": "reptile"}, Reptile, {"layer": LAYERS["reptile"], **AS_TRAINED, "steps": 50, "batch": 5}),
        (
            {"name": "reptile", "steps": 7, "lr": 0.5, "batch": 9, "batch_norm": "running"},
            Reptile,
            {"layer": LAYERS["reptile"], "steps": 7, "lr": 0.5, "batch": 9, "batch_norm": "running"},
        ),
        ({"name": "lstm_meta_learner"}, LstmMetaLearner, {"layer": LAYERS["lstm_meta_learner"], **AS_TRAINED}),
        (
            {"name": "lstm_meta_learner", "steps": 7, "batch_norm": "running"},
            LstmMetaLearner,
            {"layer": LAYERS["lstm_meta_learner"], "steps": 7, "lr": 0.3, "batch_norm": "running"},
        ),
        (
            {"name": "learned_optimizer"},
            LearnedOptimizerHead,
            {"layer": LAYERS["learned_optimizer"], "steps": 10, "scale": 10},
        ),
        (
            {"name": "learned_optimizer", "inner_steps": 7, "scale": 3.0},
            LearnedOptimizerHead,
            {"layer": LAYERS["learned_optimizer"], "steps": 7, "scale": 3},
        ),
        ({"name": "memory_augmented"}, MemoryAugmented, {"layer": LAYERS["memory_augmented"], "seed": 3}),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) and "name" in value else "",
)
def test_each_adaptation_gives_its_method(keys: dict[str, Any], kind: type, facts: dict[str, Any]) -> None:
    layer = LAYERS.get(keys["name"])
    method = build(keys, layer)
    assert type(method) is kind
    assert method.name == keys["name"]
    assert build({**keys, "label": "row 1"}, layer).name == "row 1"
    if kind in (Finetune, FinetuneAll, Baseline):
        assert method.config == adaptation(**keys)  # type: ignore[attr-defined]
    for name, value in facts.items():
        found = getattr(method, name)
        assert found is value if isinstance(value, nn.Layer) else found == value


def test_fine_tuning_on_queries_and_batch_norm_over_them_alone_are_transductive() -> None:
    assert build({"name": "finetune", "entropy": "query"}).transductive
    for name in ("maml", "meta_sgd", "reptile"):
        assert build({"name": name, "batch_norm": "transductive"}, LAYERS[name]).transductive
        assert build({"name": name}, task_head(name, batch_norm="transductive")).transductive
        assert not build(
            {"name": name, "batch_norm": "running"}, task_head(name, batch_norm="transductive")
        ).transductive
    assert build({"name": "lstm_meta_learner", "batch_norm": "transductive"}, LAYERS["lstm_meta_learner"]).transductive
    for name in ("class_mean", "finetune", "baseline", "nearest_shot", "prototypical", "matching", *LAYERS):
        assert not build({"name": name}, LAYERS.get(name)).transductive


@pytest.mark.parametrize("keys", [*({"name": name} for name in LAYERS if name != "matching"), FULL], ids=str)
def test_layer_that_is_missing_or_of_another_method_is_refused(keys: dict[str, Any]) -> None:
    name = "matching with context: full" if keys == FULL else keys["name"]
    expected = (
        f"adaptation {name} needs what the objective of that name learns, which this checkpoint lacks; "
        "evaluate a run whose last stage has it"
    )
    others = [layer for owner, layer in LAYERS.items() if owner != keys["name"]]
    for layer in (None, *others):
        if name in BY_GRADIENT and isinstance(layer, TaskHead):
            continue  # whose sentence says what it is
        with pytest.raises(UserError) as caught:
            build(keys, layer)
        assert str(caught.value) == expected


@pytest.mark.parametrize("trained", [*BY_GRADIENT, "lstm_meta_learner"])
@pytest.mark.parametrize("name", BY_GRADIENT)
def test_a_network_that_another_method_trained_to_adapt_is_refused(name: str, trained: str) -> None:
    if name == trained:
        assert build({"name": name}, LAYERS[trained]).name == name
        return
    with pytest.raises(UserError) as caught:
        build({"name": name, "label": "a row"}, LAYERS[trained])
    assert str(caught.value) == (
        f"adaptation {name} needs what the objective of that name learns, but this checkpoint holds that of {trained}; "
        f"evaluate another run, or adapt by {trained}"
    )


@pytest.mark.parametrize("name", ["maml", "meta_sgd", "reptile", "lstm_meta_learner"])
def test_methods_that_adapt_the_embedder_start_from_its_very_weights(name: str) -> None:
    method: Any = build({"name": name}, LAYERS[name])
    assert method.network.embedder is EMBEDDER
    assert method.network.linear is LAYERS[name].linear


@pytest.mark.parametrize("name", ["class_mean", "finetune", "baseline", "baseline++", "nearest_shot", "prototypical"])
def test_methods_without_a_layer_take_any_checkpoint(name: str) -> None:
    for layer in (None, *LAYERS.values()):
        assert build({"name": name}, layer).name == name


def test_those_that_need_training_are_those_that_refuse_to_go_without() -> None:
    names = ("class_mean", "finetune", "baseline", "baseline++", "nearest_shot", "prototypical", "matching", *LAYERS)
    for keys in (*({"name": name} for name in names), FULL):
        try:
            build(keys)
            refused = False
        except UserError:
            refused = True
        assert needs_trained(adaptation(**keys)) == refused


# --- objectives


SHAPE = (4, 3, 3)


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
