"""Which method each adaptation gives, and which layers it refuses."""

from typing import Any

import pytest
from paddle import nn

from ppfsl.config.adaptations import needs_trained
from ppfsl.errors import UserError
from ppfsl.methods.anil import Anil
from ppfsl.methods.baseline import Baseline
from ppfsl.methods.class_mean import ClassMean
from ppfsl.methods.finetune import Finetune, FinetuneAll
from ppfsl.methods.layers import build_layer
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
from tests.methods.building import EMBEDDER, FULL, WEIGHTS, adaptation, build

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


def task_head(method: str, **changes: Any) -> nn.Layer:
    rates = {**WEIGHTS, "linear.weight": 15, "linear.bias": 3} if method == "meta_sgd" else None
    arguments = {"dim": 5, "way": 3, "steps": 2, "lr": 0.3, "batch_norm": "support_statistics", "rates": rates}
    return build_layer({"name": "task", "arguments": {"method": method, **arguments, **changes}}, 0)


LAYERS = {name: build_layer({"name": name, "arguments": arguments}, 0) for name, arguments in ARGUMENTS.items()}
LAYERS |= {name: task_head(name) for name in BY_GRADIENT}
AS_TRAINED: dict[str, Any] = {"steps": 2, "lr": 0.3, "batch_norm": "support_statistics", "seed": 3}


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
