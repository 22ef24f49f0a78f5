"""Memory-augmented networks: a step by hand, what a label can reach, adapting, and that they learn to look up."""

from typing import Any

import numpy as np
import paddle
import pytest

from ppfsl.errors import UserError
from ppfsl.methods import memory_augmented
from ppfsl.methods.base import Support
from ppfsl.methods.layers import build_layer
from ppfsl.methods.memory_augmented import MemoryAugmented, MemoryNetwork, State
from ppfsl.randomness import generator

DIM, WAY, HIDDEN, SLOTS, WIDTH, HEADS = 4, 3, 5, 7, 6, 2
ARGUMENTS = {"dim": DIM, "way": WAY, "hidden": HIDDEN, "slots": SLOTS, "width": WIDTH, "heads": HEADS, "decay": 0.9}
BATCH, TIMES = 3, 8


def network(**changes: Any) -> MemoryNetwork:
    """In float64, nothing in it at zero."""
    layer: Any = build_layer({"name": "memory_augmented", "arguments": {**ARGUMENTS, **changes}}, 0)
    layer.to(dtype="float64")
    for name, parameter in layer.named_parameters():
        parameter.set_value(generator(0, "weights", name).normal(0, 0.8, parameter.shape))
    layer.eval()
    return layer


def draw(*shape: int, key: str) -> np.ndarray:
    return generator(0, "memory", key).normal(size=shape)


VECTORS = draw(BATCH, TIMES, DIM, key="vectors")
LABELS = generator(0, "labels").integers(0, WAY, (BATCH, TIMES))


def run(layer: MemoryNetwork, vectors: np.ndarray = VECTORS, labels: np.ndarray = LABELS) -> np.ndarray:
    return layer(paddle.to_tensor(vectors), paddle.to_tensor(labels))[0].numpy()


# --- by hand


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / lengths) if lengths else 0.0


def step_by_hand(
    layer: Any, vector: np.ndarray, previous: np.ndarray, state: dict[str, np.ndarray], decay: float = 0.9
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """One sequence's; the paper's equations 2 to 8 with a strength of reading, a slot and a head at a time."""
    cell = layer.controller
    w, u, b, c = (getattr(cell, name).numpy() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return x @ getattr(layer, name).weight.numpy() + getattr(layer, name).bias.numpy()

    seen = np.concatenate([vector, previous, state["read"]])
    take, forget, candidate, out = np.split(w @ seen + b + u @ state["hidden"] + c, 4)
    memory_cell = sigmoid(forget) * state["cell"] + sigmoid(take) * np.tanh(candidate)
    hidden = sigmoid(out) * np.tanh(memory_cell)
    keys = np.tanh(linear("keys", hidden)).reshape(HEADS, WIDTH)
    gates, strengths = sigmoid(linear("gates", hidden)), 1 + np.log1p(np.exp(linear("strengths", hidden)))
    least = np.argsort(state["usage"], kind="stable")[:HEADS]  # a head's own each
    memory, writes = state["memory"].copy(), np.zeros((HEADS, SLOTS))
    memory[least] = 0
    for head in range(HEADS):
        for slot in range(SLOTS):
            alone = float(slot == least[head])
            writes[head, slot] = gates[head] * state["weights"][head, slot] + (1 - gates[head]) * alone
            memory[slot] += writes[head, slot] * keys[head]
    weights = np.zeros((HEADS, SLOTS))
    for head in range(HEADS):
        odds = np.asarray([np.exp(strengths[head] * cosine(keys[head], memory[slot])) for slot in range(SLOTS)])
        weights[head] = odds / odds.sum()
    read = (weights @ memory).ravel()
    usage = decay * state["usage"] + weights.sum(0) + writes.sum(0)
    logits = linear("output", np.concatenate([hidden, read]))
    parts = (hidden, memory_cell, memory, read, weights, usage)
    return logits, dict(zip(State._fields, parts, strict=True))


def some_state(key: str) -> dict[str, np.ndarray]:
    rng = generator(0, "state", key)
    weights = rng.dirichlet(np.ones(SLOTS), HEADS)
    return {
        "hidden": np.tanh(rng.normal(size=HIDDEN)),
        "cell": rng.normal(size=HIDDEN),
        "memory": rng.normal(size=(SLOTS, WIDTH)),
        "read": rng.normal(size=HEADS * WIDTH),
        "weights": weights,
        "usage": rng.uniform(0, 3, SLOTS),
    }


def test_a_step_by_hand() -> None:
    layer, states = network(), [some_state(key) for key in "abc"]
    together = State(*(paddle.to_tensor(np.stack([one[field] for one in states])) for field in State._fields))
    previous = np.eye(WAY)[[2, 0, 1]]
    logits, after = layer.step(paddle.to_tensor(VECTORS[:, 0]), paddle.to_tensor(previous), together)
    assert (logits.shape, logits.dtype) == ([BATCH, WAY], paddle.float64)
    for row, state in enumerate(states):
        expected, expected_state = step_by_hand(layer, VECTORS[row, 0], previous[row], state)
        np.testing.assert_allclose(logits[row].numpy(), expected, rtol=1e-9)
        for field in State._fields:
            np.testing.assert_allclose(
                getattr(after, field)[row].numpy(), expected_state[field], rtol=1e-9, err_msg=field
            )


def test_whole_sequences_by_hand() -> None:
    """From an empty memory, each image with the label of the one before, more images than slots."""
    layer = network()
    found, state = layer(paddle.to_tensor(VECTORS), paddle.to_tensor(LABELS))
    for row in range(BATCH):
        first = layer.start(1)
        own = {field: getattr(first, field)[0].numpy() for field in State._fields}
        previous = np.zeros(WAY)
        for time in range(TIMES):
            logits, own = step_by_hand(layer, VECTORS[row, time], previous, own)
            np.testing.assert_allclose(found[row, time].numpy(), logits, rtol=1e-8)
            previous = np.eye(WAY)[LABELS[row, time]]
        # Slots are alike in the beginning, so their order is left open.
        np.testing.assert_allclose(np.sort(state.usage[row].numpy()), np.sort(own["usage"]), rtol=1e-8)


def test_the_memory_starts_empty() -> None:
    start = network().start(2)
    shapes = {field: getattr(start, field).shape for field in State._fields}
    assert shapes == {
        **{"hidden": [2, HIDDEN], "cell": [2, HIDDEN], "memory": [2, SLOTS, WIDTH]},
        **{"read": [2, HEADS * WIDTH], "weights": [2, HEADS, SLOTS], "usage": [2, SLOTS]},
    }
    assert start.memory.numpy() == pytest.approx(1e-6)
    assert not any(getattr(start, field).numpy().any() for field in State._fields if field != "memory")


def test_reading_is_sharp_and_writing_goes_to_unused_slots_before_training() -> None:
    layer: Any = build_layer({"name": "memory_augmented", "arguments": ARGUMENTS}, 0)
    state = layer.start(1)
    for time in range(3):
        _, state = layer.step(paddle.to_tensor(VECTORS[:1, time].astype(np.float32)), paddle.zeros([1, WAY]), state)
        written = (np.linalg.norm(state.memory[0].numpy(), axis=-1) > 0.01).sum()
        assert written == min(HEADS * (time + 1), SLOTS)
        assert state.weights.numpy().max() > 0.5


# --- what reaches what


@pytest.mark.parametrize("time", [0, 3, TIMES - 2])
def test_a_label_is_seen_one_step_later_and_not_before(time: int) -> None:
    layer, other = network(), LABELS.copy()
    other[:, time] = (other[:, time] + 1) % WAY
    before, after = run(layer), run(layer, labels=other)
    assert np.array_equal(after[:, : time + 1], before[:, : time + 1])
    assert (np.abs(after - before)[:, time + 1 :].max((1, 2)) > 1e-3).all()


def test_the_last_label_is_never_seen() -> None:
    layer, other = network(), LABELS.copy()
    other[:, -1] = (other[:, -1] + 1) % WAY
    assert np.array_equal(run(layer, labels=other), run(layer))


def test_an_image_is_seen_at_once() -> None:
    layer, other = network(), VECTORS.copy()
    other[:, 3] += 1
    before, after = run(layer), run(layer, other)
    assert np.array_equal(after[:, :3], before[:, :3])
    assert (np.abs(after - before)[:, 3].max(-1) > 1e-3).all()


def test_sequences_are_independent() -> None:
    layer = network()
    together = run(layer)
    for row in range(BATCH):
        one = slice(row, row + 1)
        np.testing.assert_allclose(run(layer, VECTORS[one], LABELS[one]), together[one], rtol=1e-9)


@pytest.mark.parametrize("cut", [1, 4])
def test_the_state_is_all_that_is_carried(cut: int) -> None:
    """Reading a sequence's beginning and going on step by step equals reading all of it."""
    layer, expected = network(), run(network())
    _, state = layer(paddle.to_tensor(VECTORS[:, :cut]), paddle.to_tensor(LABELS[:, :cut]))
    for time in range(cut, TIMES):
        previous = paddle.to_tensor(np.eye(WAY)[LABELS[:, time - 1]])
        logits, state = layer.step(paddle.to_tensor(VECTORS[:, time]), previous, state)
        np.testing.assert_allclose(logits.numpy(), expected[:, time], rtol=1e-12)


def test_gradients_match_finite_differences() -> None:
    """Of a loss at the end of a sequence, by every weight; through memory, reading weights and states."""
    layer = network()
    layer.train()

    def loss() -> paddle.Tensor:
        logits, _ = layer(paddle.to_tensor(VECTORS[:, :5]), paddle.to_tensor(LABELS[:, :5]))
        return (logits * paddle.to_tensor(draw(BATCH, 5, WAY, key="weighted"))).sum()

    for parameter in layer.parameters():
        parameter.stop_gradient = False
    loss().backward()
    for name, parameter in layer.named_parameters():
        direction, before, ends = generator(0, "direction", name).normal(size=parameter.shape), parameter.numpy(), []
        for step in (1e-6, -1e-6):
            parameter.set_value(before + step * direction)
            ends.append(loss().item())
        parameter.set_value(before)
        expected = (ends[0] - ends[1]) / 2e-6
        assert (parameter.grad.numpy() * direction).sum() == pytest.approx(expected, rel=1e-4, abs=1e-7), name
        assert abs(expected) > 1e-3, name


# --- adapting


SUPPORT, QUERY = draw(4, 6, DIM, key="support"), draw(4, 5, DIM, key="query")
SHOWN = np.asarray([1, 0, 2, 2, 1, 0])
NUMBERS = np.asarray([5, 0, 9, 3])


def adapt(
    layer: MemoryNetwork,
    query: np.ndarray = QUERY,
    numbers: np.ndarray = NUMBERS,
    seed: int = 0,
    part: Any = slice(None),
) -> np.ndarray:
    support = Support(paddle.to_tensor(SUPPORT[part]), paddle.to_tensor(SHOWN), WAY, numbers[part])
    return MemoryAugmented(layer, seed=seed).adapt(support)(paddle.to_tensor(query[part])).numpy()


def test_a_query_is_asked_after_the_support_set_and_with_the_last_images_label() -> None:
    layer, found = network(), adapt(network())
    for episode, number in enumerate(NUMBERS.tolist()):
        order = generator(0, "reading", number).permutation(6)
        for asked in range(5):
            vectors = np.vstack([SUPPORT[episode, order], QUERY[episode, asked]])
            labels = np.append(SHOWN[order], 0)
            expected = run(layer, vectors[None], labels[None])[0, -1]
            np.testing.assert_allclose(found[episode, asked], expected, rtol=1e-9)


def test_a_query_is_answered_alone() -> None:
    layer = network()
    together, others = adapt(layer), QUERY.copy()
    others[:, 1:] += 1
    np.testing.assert_allclose(adapt(layer, others)[:, 0], together[:, 0], rtol=1e-12)
    np.testing.assert_allclose(adapt(layer, QUERY[:, 2:3])[:, 0], together[:, 2], rtol=1e-12)


@pytest.mark.parametrize("at_once", [1, 7, 10, 12])
def test_many_queries_are_answered_in_parts(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    layer = network()
    expected = adapt(layer)
    monkeypatch.setattr(memory_augmented, "_QUERIES_AT_ONCE", at_once)
    np.testing.assert_allclose(adapt(layer), expected, rtol=1e-12)


def test_reading_order_is_a_pure_function_of_seed_and_number() -> None:
    layer, together = network(), adapt(network())
    assert np.array_equal(adapt(layer), together)
    for episode in range(4):
        alone = adapt(layer, part=slice(episode, episode + 1))
        np.testing.assert_allclose(alone[0], together[episode], rtol=1e-9)
    for other in (adapt(layer, seed=1), adapt(layer, numbers=NUMBERS + 20)):
        assert (np.abs(other - together).max((1, 2)) > 1e-6).all()


def test_adapting_changes_nothing() -> None:
    layer = network()
    before = {name: tensor.numpy().copy() for name, tensor in layer.state_dict().items()}
    support = Support(paddle.to_tensor(SUPPORT), paddle.to_tensor(SHOWN), WAY, NUMBERS)
    classify = MemoryAugmented(layer).adapt(support)
    first = classify(paddle.to_tensor(QUERY)).numpy()
    classify(paddle.to_tensor(-QUERY))
    assert np.array_equal(classify(paddle.to_tensor(QUERY)).numpy(), first)  # queries leave no trace in the memory
    assert np.array_equal(support.inputs.numpy(), SUPPORT)
    assert all(np.array_equal(before[name], tensor.numpy()) for name, tensor in layer.state_dict().items())


def test_another_way_than_in_training_is_refused() -> None:
    support = Support(paddle.to_tensor(SUPPORT), paddle.to_tensor(np.asarray([0, 0, 0, 1, 1, 1])), 2, NUMBERS)
    with pytest.raises(UserError) as caught:
        MemoryAugmented(network()).adapt(support)
    assert str(caught.value) == (
        "memory_augmented was trained 3-way and serves no 2-way episodes; "
        "evaluate with 3 classes, in evaluation.way and in the support set"
    )


def test_the_loss_is_the_mean_cross_entropy_of_all_answers() -> None:
    logits, labels = draw(2, 3, WAY, key="logits"), np.asarray([[0, 1, 2], [2, 2, 0]])
    own = np.take_along_axis(logits, labels[..., None], -1)[..., 0]
    expected = (np.log(np.exp(logits).sum(-1)) - own).mean()
    found = MemoryAugmented(network()).loss(paddle.to_tensor(logits), paddle.to_tensor(labels))
    assert found.item() == pytest.approx(expected, rel=1e-9)
