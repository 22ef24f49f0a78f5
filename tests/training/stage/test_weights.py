"""A stage's weights from outside: continued bit by bit after an interruption, and as they are judged."""

from typing import Any

import numpy as np
import pytest

from ppfsl.backbones.embedder import build_embedder
from ppfsl.backbones.weights import load_strictly, weights_of
from ppfsl.data.table import ImageTable
from ppfsl.training.stage import Stage
from tests.training.stage.toy import (
    ARCHITECTURE,
    CROSS_ENTROPY,
    METHODS,
    TASKS,
    TRIPLET,
    all_weights,
    changed,
    config,
    same,
    stage_of,
    train,
)

pytestmark = pytest.mark.usefixtures("as_in_a_run")


# --- interruption


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "momentum", "sgd"])
@pytest.mark.parametrize(
    ("objective", "trainable"),
    [
        (CROSS_ENTROPY, "all"),
        (CROSS_ENTROPY, "last_block"),
        (TRIPLET, "all"),
        (METHODS["relation"], "all"),
        (METHODS["full context"], "all"),
        (METHODS["siamese"], "projection"),
        (METHODS["anil"], "all"),
        (METHODS["learned_optimizer"], "all"),
        (METHODS["memory_augmented"], "all"),
        *((objective, "all") for objective in TASKS.values()),
    ],
    ids=[
        *("cross_entropy", "last_block", "triplet", "relation", "full context", "siamese", "anil"),
        *("learned_optimizer", "memory_augmented", *TASKS),
    ],
)
def test_continuation_is_bit_identical(
    table: ImageTable, rows: np.ndarray, optimizer: str, objective: dict[str, Any], trainable: str
) -> None:
    settings = config(
        objective=objective,
        trainable=trainable,
        optimizer={"name": optimizer, "lr": 0.01, "weight_decay": 0.01},
        schedule={"name": "cosine", "warmup_epochs": 1},
        augmentation={"crop": "random", "flip": True, "jitter": 0.2},
        clip_norm=1.0,
    )
    # As after an earlier stage of the same process, which gives Paddle's names other counters.
    straight = stage_of(table, rows, settings)
    train(straight, range(1))
    straight = Stage(settings, straight.embedder, table, rows, 3)
    train(straight, range(2))
    weights, state = weights_of(straight.embedder), straight.state()
    expected = [step.terms["loss"] for step in train(straight, range(2, 4))]

    embedder = build_embedder(ARCHITECTURE, 9)
    load_strictly(embedder, weights, "here")
    resumed = Stage(settings, embedder, table, rows, 3)
    resumed.load_state(state)
    assert [step.terms["loss"] for step in train(resumed, range(2, 4))] == expected
    assert same(all_weights(resumed), all_weights(straight))
    assert same(resumed.state(), straight.state())


def test_state_is_a_copy(table: ImageTable, rows: np.ndarray) -> None:
    stage = stage_of(table, rows, config())
    train(stage, range(1))
    state = stage.state()
    kept = {name: value.copy() for name, value in state.items()}
    train(stage, range(1, 3))
    assert same(state, kept)
    assert {"head.weight", "head.bias"} <= set(state)
    assert any(name.startswith("optimizer.") for name in state)


# --- weights that are kept


def test_kept_weights_are_mixed_in_where_the_embedder_is_judged_alone(table: ImageTable, rows: np.ndarray) -> None:
    stage = stage_of(table, rows, config(keep_start=0.25))
    before = weights_of(stage.embedder)
    train(stage, range(1))
    trained = weights_of(stage.embedder)
    with stage.as_judged():
        judged = weights_of(stage.embedder)
    assert same(weights_of(stage.embedder), trained)
    for name, value in judged.items():
        kept = 0.25 if name.startswith("backbone.") else 0
        np.testing.assert_allclose(value, (1 - kept) * trained[name] + kept * before[name], atol=1e-6)
    assert changed(trained, judged) == {name for name in trained if name.startswith("backbone.")}


def test_trained_weights_come_back_when_judging_fails(table: ImageTable, rows: np.ndarray) -> None:
    stage = stage_of(table, rows, config(keep_start=0.25))
    train(stage, range(1))
    trained = weights_of(stage.embedder)
    with pytest.raises(KeyError), stage.as_judged():
        raise KeyError
    assert same(weights_of(stage.embedder), trained)


def test_kept_weights_are_those_of_the_stages_beginning_after_an_interruption(
    table: ImageTable, rows: np.ndarray
) -> None:
    whole = stage_of(table, rows, config(keep_start=0.25))
    train(whole, range(1))
    state, embedder = whole.state(), build_embedder(ARCHITECTURE, 0)
    load_strictly(embedder, weights_of(whole.embedder), "a test")  # as a run does before it makes the stage
    resumed = Stage(config(keep_start=0.25), embedder, table, rows, 0)
    resumed.load_state(state)
    for stage in (whole, resumed):
        train(stage, range(1, 2))
    with whole.as_judged(), resumed.as_judged():
        assert same(weights_of(whole.embedder), weights_of(resumed.embedder))


def test_without_kept_weights_the_embedder_is_judged_as_it_is(table: ImageTable, rows: np.ndarray) -> None:
    stage = stage_of(table, rows, config())
    train(stage, range(1))
    trained = weights_of(stage.embedder)
    with stage.as_judged():
        assert same(weights_of(stage.embedder), trained)
    assert not any(name.startswith("start.") for name in stage.state())
