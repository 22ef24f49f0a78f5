"""What methods learn: built from a description and a seed, and described again."""

import json
from typing import Any

import numpy as np
import paddle
import pytest

from ppfsl.methods.layers import build_layer, describe
from ppfsl.methods.learned_optimizer import LearnedOptimizer
from ppfsl.methods.lstm_meta_learner import LstmTaskHead
from ppfsl.methods.matching import FullContext
from ppfsl.methods.memory_augmented import MemoryNetwork
from ppfsl.methods.meta_baseline import LearnedScale
from ppfsl.methods.relation import RelationModule
from ppfsl.methods.siamese import PairHead
from ppfsl.methods.task_network import TaskHead

TASK: dict[str, Any] = {"dim": 4, "way": 3, "steps": 2, "lr": 0.5, "batch_norm": "support_statistics"}
MEMORY: dict[str, Any] = {"slots": 5, "width": 3, "heads": 2, "decay": 0.9}
DESCRIPTIONS: list[dict[str, Any]] = [
    {"name": "siamese", "arguments": {"dim": 4, "merge": "absolute_difference", "hidden": []}},
    {"name": "siamese", "arguments": {"dim": 4, "merge": "concatenation", "hidden": [6, 3]}},
    {"name": "matching", "arguments": {"dim": 4, "steps": 3}},
    {"name": "relation", "arguments": {"shape": [2, 7, 7], "width": 5, "hidden": 3}},
    {"name": "relation", "arguments": {"shape": [6, 1, 1], "width": 64, "hidden": 8}},
    {"name": "meta_baseline", "arguments": {"initial": 7.5}},
    {"name": "task", "arguments": {**TASK, "method": "maml", "rates": None}},
    {"name": "task", "arguments": {**TASK, "method": "meta_sgd", "rates": {"a.weight": 6, "b.bias": 2, "b.weight": 8}}},
    {"name": "lstm_meta_learner", "arguments": {**TASK, "hidden": 6}},
    {"name": "learned_optimizer", "arguments": {"hidden": 6, "scale": 0.2}},
    {"name": "memory_augmented", "arguments": {"dim": 4, "way": 3, "hidden": 6, **MEMORY}},
]
KINDS = {
    "siamese": PairHead,
    "matching": FullContext,
    "relation": RelationModule,
    "meta_baseline": LearnedScale,
    "task": TaskHead,
    "lstm_meta_learner": LstmTaskHead,
    "learned_optimizer": LearnedOptimizer,
    "memory_augmented": MemoryNetwork,
}
# Of biases; the logit of a rate of 0.5 is 0.
STARTS = {"forget_gate.bias": 5.0, "input_gate.bias": 0.0, "gates.bias": -3.0, "strengths.bias": 10.0}
every = pytest.mark.parametrize("description", DESCRIPTIONS, ids=lambda value: json.dumps(value["arguments"]))


def weights(description: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in build_layer(description, seed).state_dict().items()}


def equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@every
def test_weights_are_a_pure_function_of_description_and_seed(description: dict[str, Any]) -> None:
    found = []
    for state in (1, 2):  # of Paddle's global generator, which must not matter
        paddle.seed(state)
        found.append(weights(description, 5))
    assert equal(*found)
    assert equal(found[0], weights(description, 6)) == (description["name"] == "meta_baseline")


@every
def test_numpys_global_generator_is_left_alone(description: dict[str, Any]) -> None:
    before = np.random.get_state()  # noqa: NPY002
    build_layer(description, 0)
    after = np.random.get_state()  # noqa: NPY002
    assert before[2] == after[2]
    assert np.array_equal(before[1], after[1])


@every
def test_description_survives_json_and_comes_back(description: dict[str, Any]) -> None:
    layer = build_layer(description, 3)
    assert type(layer) is KINDS[description["name"]]
    assert describe(layer) == description
    again = json.loads(json.dumps(describe(layer)))
    assert again == description
    assert equal(weights(again, 3), weights(description, 3))


@every
def test_weights_start_small_and_vectors_at_their_constants(description: dict[str, Any]) -> None:
    layer = build_layer(description, 0)
    for name, parameter in layer.named_parameters():
        value = parameter.numpy()
        assert parameter.stop_gradient == name.endswith(("_mean", "_variance"))  # running statistics alone
        assert np.isfinite(value).all()
        if value.ndim > 1:
            assert 0.02 < value.std() < 1.5
        elif name == "scale":
            assert value.tolist() == [7.5]
        elif name.startswith("rates."):
            assert set(value.tolist()) == {0.5}
        else:
            one = name.endswith("_variance") or ("norms" in name and name.endswith("weight"))
            assert set(value.tolist()) == {STARTS.get(name, float(one))}


@every
def test_weights_of_one_layer_fit_another_of_that_description(description: dict[str, Any]) -> None:
    source, target = build_layer(description, 0), build_layer(description, 1)
    assert target.set_state_dict({name: value.numpy() for name, value in source.state_dict().items()}) == ([], [])
    assert equal(weights(description, 0), {name: value.numpy() for name, value in target.state_dict().items()})


def test_weights_of_a_layer_differ_from_one_another() -> None:
    values = [value.ravel()[:4].tolist() for value in weights(DESCRIPTIONS[3], 0).values() if value.ndim > 1]
    assert len(values) == 5
    assert len({tuple(value) for value in values}) == 5


@pytest.mark.parametrize(
    ("description", "error"),
    [
        ({"name": "prototypical", "arguments": {}}, KeyError),
        ({"arguments": {}}, KeyError),
        ({"name": "matching"}, KeyError),
        ({"name": "matching", "arguments": {"dim": 4}}, TypeError),
        ({"name": "matching", "arguments": {"dim": 4, "steps": 3, "more": 1}}, TypeError),
    ],
)
def test_what_is_no_description_raises(description: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        build_layer(description, 0)
