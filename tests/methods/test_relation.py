"""Relation Networks against one convolution of concatenated maps, pair by pair, in float64."""

from collections.abc import Iterator

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from ppfsl.methods import relation
from ppfsl.methods.base import Support
from ppfsl.methods.relation import Relation, RelationModule
from ppfsl.randomness import generator

EPISODES, WAY, QUERIES, CHANNELS, WIDTH, HIDDEN = 2, 3, 4, 2, 5, 12
SIDES = (7, 3, 2, 1)


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    before = paddle.get_default_dtype()
    paddle.set_default_dtype("float64")
    yield
    paddle.set_default_dtype(before)


def draw(*shape: int, key: str = "x") -> np.ndarray:
    return generator(0, "relation", key, *shape).standard_normal(shape)


def module(side: int, training: bool = False) -> RelationModule:
    """Every weight and every running statistic drawn at random."""
    layer = RelationModule((CHANNELS, side, side), WIDTH, HIDDEN)
    for number, (name, tensor) in enumerate(layer.state_dict().items()):
        value = generator(1, "module", number).standard_normal(tuple(tensor.shape))
        tensor.set_value(np.abs(value) + 0.5 if "norms" in name and not name.endswith(("bias", "_mean")) else value)
    if not training:
        layer.eval()
    return layer


def pooled(maps: np.ndarray) -> np.ndarray:
    """ReLU and 2 x 2 max pooling of [C, H, W], which drops an odd row; a map of one pixel stays."""
    maps = np.maximum(maps, 0)
    side = maps.shape[-1]
    if side == 1:
        return maps
    found = np.empty((len(maps), side // 2, side // 2))
    for c, y, x in np.ndindex(*found.shape):
        found[c, y, x] = max(maps[c, 2 * y + dy, 2 * x + dx] for dy in (0, 1) for dx in (0, 1))
    return found


def convolved(maps: list[np.ndarray], weight: np.ndarray) -> list[np.ndarray]:
    return list(F.conv2d(paddle.to_tensor(np.stack(maps)), paddle.to_tensor(weight), padding=1).numpy())


def normalised(maps: list[np.ndarray], state: dict[str, np.ndarray], number: int, training: bool) -> list[np.ndarray]:
    """Batch norm: by the running statistics, or by those of all the maps."""
    per_channel = np.stack(maps).transpose(1, 0, 2, 3).reshape(WIDTH, -1)
    mean = per_channel.mean(1) if training else state[f"norms.{number}._mean"]
    variance = per_channel.var(1) if training else state[f"norms.{number}._variance"]
    factor = state[f"norms.{number}.weight"] / np.sqrt(variance + 1e-5)
    shift = state[f"norms.{number}.bias"] - mean * factor
    return [one * factor[:, None, None] + shift[:, None, None] for one in maps]


def numpy_scores(
    layer: RelationModule, inputs: np.ndarray, labels: np.ndarray, query: np.ndarray, training: bool = False
) -> np.ndarray:
    """The paper's relation module on every [class map, query map]."""
    state = {name: tensor.numpy().copy() for name, tensor in layer.state_dict().items()}
    shape = tuple(layer.arguments["shape"])
    pairs = []
    for e, q, k in np.ndindex(len(inputs), query.shape[1], WAY):
        of_class = sum(inputs[e, image] for image in range(len(labels)) if labels[image] == k)
        pairs.append(np.concatenate([of_class.reshape(shape), query[e, q].reshape(shape)]))
    whole = np.concatenate([state["of_class.weight"], state["of_query.weight"]], axis=1)
    maps = [pooled(one) for one in normalised(convolved(pairs, whole), state, 0, training)]
    maps = [pooled(one) for one in normalised(convolved(maps, state["second.weight"]), state, 1, training)]
    scores = []
    for one in maps:
        hidden = np.maximum(one.ravel() @ state["linears.0.weight"] + state["linears.0.bias"], 0)
        scores.append((hidden @ state["linears.1.weight"] + state["linears.1.bias"]).item())
    return np.reshape(scores, (len(inputs), query.shape[1], WAY))


def task(side: int, shot: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Support [E, S, D], labels in any order, query [E, Q, D]; D = C x H x W."""
    labels = generator(0, "order", shot).permutation(np.repeat(np.arange(WAY), shot))
    dim = CHANNELS * side * side
    return draw(EPISODES, WAY * shot, dim), labels, draw(EPISODES, QUERIES, dim, key="query")


def scores(layer: RelationModule, inputs: np.ndarray, labels: np.ndarray, query: np.ndarray) -> paddle.Tensor:
    support = Support(paddle.to_tensor(inputs), paddle.to_tensor(labels), WAY, np.arange(len(inputs)))
    return Relation(layer).adapt(support)(paddle.to_tensor(query))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("shot", [1, 3])
@pytest.mark.parametrize("training", [False, True])
def test_two_convolutions_equal_one_of_concatenated_maps(side: int, shot: int, training: bool) -> None:
    layer, (inputs, labels, query) = module(side, training), task(side, shot)
    expected = numpy_scores(layer, inputs, labels, query, training)
    found = scores(layer, inputs, labels, query).numpy()
    assert found.shape == (EPISODES, QUERIES, WAY)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_class_map_is_the_sum_or_the_mean_of_its_shots() -> None:
    layer, (inputs, labels, query) = module(3), task(3, 3)
    sums = np.stack([inputs[:, labels == k].sum(1) for k in range(WAY)], axis=1)
    np.testing.assert_allclose(
        scores(layer, inputs, labels, query).numpy(), scores(layer, sums, np.arange(WAY), query).numpy(), atol=1e-9
    )
    means = scores(layer, sums / 3, np.arange(WAY), query).numpy()
    assert np.abs(means - scores(layer, inputs, labels, query).numpy()).max() > 0.01
    support = Support(paddle.to_tensor(inputs), paddle.to_tensor(labels), WAY, np.arange(EPISODES))
    found = Relation(layer, "mean").adapt(support)(paddle.to_tensor(query)).numpy()
    np.testing.assert_allclose(found, means, atol=1e-9)


@pytest.mark.parametrize("training", [False, True])
def test_queries_are_scored_in_parts_but_in_training(monkeypatch: pytest.MonkeyPatch, training: bool) -> None:
    """Batch norm would normalise the parts of a training batch each by itself."""
    layer, (inputs, labels, query) = module(3, training), task(3, 2)
    pairs: list[int] = []
    layer.second.register_forward_pre_hook(lambda _, maps: pairs.append(len(maps[0])))
    monkeypatch.setattr(relation, "_MOST_NUMBERS", 3 * EPISODES * WAY * WIDTH * 3 * 3)  # three queries at a time
    expected = numpy_scores(layer, inputs, labels, query, training)
    found = scores(layer, inputs, labels, query).numpy()
    assert pairs == [EPISODES * WAY * queries for queries in ([QUERIES] if training else [3, 1])]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    monkeypatch.setattr(relation, "_MOST_NUMBERS", 1)  # as small as it can be
    pairs.clear()
    assert scores(layer, inputs, labels, query).shape == list(expected.shape)
    assert pairs == [EPISODES * WAY * queries for queries in ([QUERIES] if training else [1] * QUERIES)]


def test_only_training_moves_the_running_statistics() -> None:
    inputs, labels, query = task(3, 2)
    for training in (False, True):
        layer = module(3, training)
        before = {name: tensor.numpy().copy() for name, tensor in layer.state_dict().items()}
        scores(layer, inputs, labels, query)
        moved = {
            name for name, tensor in layer.state_dict().items() if not np.array_equal(tensor.numpy(), before[name])
        }
        running = {f"norms.{number}._{name}" for number in (0, 1) for name in ("mean", "variance")}
        assert moved == (running if training else set())


def test_loss_is_the_mean_squared_error_of_sigmoids() -> None:
    inputs, labels, query = task(1, 2)
    layer = module(1)
    truth = generator(0, "truth").integers(0, WAY, (EPISODES, QUERIES))
    expected = numpy_scores(layer, inputs, labels, query)
    total = 0.0
    for e, q, k in np.ndindex(*expected.shape):
        total += (1 / (1 + np.exp(-expected[e, q, k])) - (truth[e, q] == k)) ** 2
    found = Relation(layer).loss(scores(layer, inputs, labels, query), paddle.to_tensor(truth))
    assert found.shape == []
    assert found.item() == pytest.approx(total / expected.size, rel=1e-9)


def test_loss_by_hand() -> None:
    truth = paddle.to_tensor(np.asarray([[1]]))
    loss = Relation(module(1)).loss(paddle.to_tensor(np.asarray([[[0.0, 50.0, -50.0]]])), truth)
    assert loss.item() == pytest.approx(0.5**2 / 3)


@pytest.mark.parametrize(("side", "left"), [(7, 1), (5, 1), (4, 1), (8, 4), (3, 1), (2, 1), (1, 1)])
def test_first_linear_layer_takes_what_the_pooling_leaves(side: int, left: int) -> None:
    layer = RelationModule((CHANNELS, side, side), WIDTH, HIDDEN)
    assert layer.linears[0].weight.shape == [WIDTH * left, HIDDEN]
    assert layer.linears[1].weight.shape == [HIDDEN, 1]


def test_facts() -> None:
    method = Relation(module(1), name="mine")
    assert (method.name, method.inputs, method.transductive) == ("mine", "projected", False)
