"""The network of one task: whose weights, whose statistics, and that it is left as it was."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
import pytest

from ppfsl.errors import UserError
from ppfsl.methods.layers import build_layer, describe
from ppfsl.methods.task_network import (
    TaskHead,
    TaskNetwork,
    copies,
    keep_statistics,
    logits,
    mode,
    query_logits,
)
from ppfsl.randomness import generator

RATES = {"b": 2, "c": 3, "a": 5}  # in no order


def head(**changes: Any) -> TaskHead:
    arguments = {"method": "meta_sgd", "dim": 4, "way": 3, "steps": 2, "lr": 0.3, "batch_norm": "running"}
    layer = build_layer({"name": "task", "arguments": {**arguments, **changes}}, 0)
    assert isinstance(layer, TaskHead)
    return layer


@pytest.fixture
def network(convolutional: Callable[..., Any]) -> TaskNetwork:
    return convolutional(name="maml").network


@pytest.fixture
def images() -> Callable[..., paddle.Tensor]:
    """Gives so many images in float64; others for another key."""

    def draw(count: int, key: int = 0) -> paddle.Tensor:
        return paddle.to_tensor(generator(0, "images", key).uniform(0, 255, (count, 1, 16, 16)))

    return draw


def statistics(network: TaskNetwork) -> dict[str, list[float]]:
    parameters = dict(network.named_parameters())
    return {name: p.numpy().tolist() for name, p in parameters.items() if name.endswith(("_mean", "_variance"))}


# --- the head


def test_step_sizes_are_flat_vectors_that_start_alike() -> None:
    layer = head(rates=RATES, lr=0.3)
    assert [rate.shape for rate in layer.rates] == [[5], [2], [3]]
    assert all((rate.numpy() == np.float32(0.3)).all() for rate in layer.rates)
    assert len(head().rates) == 0
    assert [name for name, _ in head().named_parameters()] == ["linear.weight", "linear.bias"]


def test_step_sizes_keep_their_places_in_a_description_with_sorted_keys() -> None:
    layer = head(rates=RATES)
    again = json.loads(json.dumps(describe(layer), sort_keys=True))
    assert list(again["arguments"]["rates"]) == list(layer.arguments["rates"]) == ["a", "b", "c"]
    rebuilt = build_layer(again, 0)
    assert [rate.shape for rate in rebuilt.rates] == [rate.shape for rate in layer.rates]


def test_episodes_of_another_way_are_refused() -> None:
    head(way=3).check_way(3)
    for way in (2, 4):
        with pytest.raises(UserError) as caught:
            head(way=3).check_way(way)
        assert str(caught.value) == (
            f"meta_sgd was trained 3-way and serves no {way}-way episodes; "
            "evaluate with 3 classes, in evaluation.way and in the support set"
        )


# --- the network


def test_logits_are_the_linear_classifiers_of_what_is_not_yet_normalised(network: TaskNetwork, images: Any) -> None:
    network.eval()
    x = network.embedder.projected(images(5)).numpy()
    assert np.ptp(np.linalg.norm(x, axis=1)) > 0.1
    expected = x @ network.linear.weight.numpy() + network.linear.bias.numpy()
    np.testing.assert_allclose(network(images(5)).numpy(), expected, rtol=1e-9)


def test_weights_are_all_parameters_but_running_statistics(network: TaskNetwork) -> None:
    of_a_block = ("0.weight", "1.weight", "1.bias")
    expected = {f"embedder.backbone.blocks.{block}.{name}" for block in range(4) for name in of_a_block}
    assert network.weights().keys() == expected | {"linear.weight", "linear.bias"}
    parameters = dict(network.named_parameters())
    assert all(weight is parameters[name] for name, weight in network.weights().items())


def test_copies_are_leaves_with_the_same_numbers(network: TaskNetwork) -> None:
    for parameter in network.parameters():
        parameter.stop_gradient = True  # as after training
    before = {name: weight.numpy().copy() for name, weight in network.weights().items()}
    found = copies(network.weights())
    paddle.add_n([(weight**2).sum() for weight in found.values()]).backward()
    for name, weight in found.items():
        assert weight.is_leaf
        np.testing.assert_allclose(weight.grad.numpy(), 2 * before[name])
        assert network.weights()[name].grad is None
        assert network.weights()[name].stop_gradient


def test_logits_with_other_weights_leave_the_network_alone(network: TaskNetwork, images: Any) -> None:
    before, own = statistics(network), network(images(6)).numpy()
    keep = statistics(network)
    assert keep != before
    found = logits(network, {name: 2 * weight for name, weight in network.weights().items()}, images(6))
    assert not np.allclose(found.numpy(), own)
    np.testing.assert_allclose(logits(network, network.weights(), images(6)).numpy(), own, rtol=1e-12)
    assert statistics(network) == keep


# --- whose statistics


def test_transductive_queries_are_normalised_together_and_without_the_support_set(
    network: TaskNetwork, images: Any
) -> None:
    expected = network(images(6)).numpy()
    for support in (images(3, 1), images(4, 2)):
        found, _ = query_logits(network, network.weights(), support, images(6), "transductive")
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_support_statistics_are_those_with_which_the_support_set_itself_is_answered(
    network: TaskNetwork, images: Any
) -> None:
    support = images(6, 1)
    expected = network(support).numpy()
    order = [4, 2, 2, 0]
    for queries, answers in ((support, expected), (support[paddle.to_tensor(order)], expected[order])):
        found, _ = query_logits(network, network.weights(), support, queries, "support_statistics")
        np.testing.assert_allclose(found.numpy(), answers, rtol=1e-6)


def test_support_statistics_answer_each_query_alone(network: TaskNetwork, images: Any) -> None:
    support, queries = images(6, 1), images(4)
    found = query_logits(network, network.weights(), support, queries, "support_statistics")[0].numpy()
    for q in range(4):
        alone = query_logits(network, network.weights(), support, queries[q : q + 1], "support_statistics")[0]
        np.testing.assert_allclose(alone.numpy(), found[q : q + 1], rtol=1e-9)
    other = query_logits(network, network.weights(), images(6, 3), queries, "support_statistics")[0]
    assert not np.allclose(other.numpy(), found)


def test_running_statistics_are_the_networks_own_in_evaluation_mode(network: TaskNetwork, images: Any) -> None:
    for key in range(3):
        network(50 + images(8, key))
    network.eval()
    expected = network(images(6)).numpy()
    found, new = query_logits(network, network.weights(), images(3, 1), images(6), "running")
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)
    before = statistics(network)
    assert {name: new[name].numpy().tolist() for name in before} == before


@pytest.mark.parametrize("batch_norm", ["transductive", "support_statistics", "running"])
def test_statistics_are_handed_out_and_kept_on_demand(network: TaskNetwork, images: Any, batch_norm: Any) -> None:
    support, queries, before = images(6, 1), images(4), statistics(network)
    _, new = query_logits(network, network.weights(), support, queries, batch_norm)
    assert statistics(network) == before
    mean = "embedder.backbone.blocks.0.1._mean"
    maps = network.embedder.backbone.blocks[0][0]((support if batch_norm == "support_statistics" else queries) / 255)
    np.testing.assert_allclose(new[mean].numpy(), 0.1 * maps.numpy().mean((0, 2, 3)), rtol=1e-6)
    keep_statistics(network, new)
    after = statistics(network)
    assert after == {name: new[name].numpy().tolist() for name in before}
    assert all(after[name] != before[name] for name in before)
    assert network.embedder._mean.shape == [1, 1, 1, 1]


# --- modes


@pytest.mark.parametrize(
    ("batch_norm", "training"), [("transductive", True), ("support_statistics", True), ("running", False)]
)
def test_modes_hold_within_the_context_alone(network: TaskNetwork, batch_norm: Any, training: bool) -> None:
    layers = network.sublayers(include_self=True)
    network.eval()
    layers[3].training = layers[-1].training = True
    before = [layer.training for layer in layers]
    with mode(network, batch_norm):
        assert {layer.training for layer in layers} == {training}
    assert [layer.training for layer in layers] == before
    with pytest.raises(KeyError), mode(network, batch_norm):
        raise KeyError
    assert [layer.training for layer in layers] == before
