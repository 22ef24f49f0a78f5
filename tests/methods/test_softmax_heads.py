"""Heads fitted in numpy are those that Paddle's gradients and optimizers fit."""

import itertools
from typing import Any

import numpy as np
import paddle
import pytest

from ppfsl.config import FinetuneConfig
from ppfsl.distances import normalized
from ppfsl.methods import softmax_heads
from ppfsl.methods.base import Support
from ppfsl.methods.finetune import Finetune

WAY, SHOT, QUERY, DIM = 4, 3, 5, 17

OPTIMIZERS: list[dict[str, Any]] = [
    {"name": "adam", "lr": 0.01},
    {"name": "adam", "lr": 0.01, "weight_decay": 0.3},
    {"name": "adamw", "lr": 0.01, "weight_decay": 0.3},
    {"name": "momentum", "lr": 0.05},
    {"name": "momentum", "lr": 0.05, "weight_decay": 0.1, "momentum": 0.5},
    {"name": "sgd", "lr": 0.1},
    {"name": "sgd", "lr": 0.1, "weight_decay": 0.1},
]


def support(episodes: int, scale: float = 1.0) -> Support:
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(episodes, WAY, 1, DIM))
    shots, queries = (
        normalized((centres + rng.normal(size=(episodes, WAY, each, DIM))).astype(np.float32)).reshape(
            episodes, -1, DIM
        )
        for each in (SHOT, QUERY)
    )
    order = rng.permutation(WAY * SHOT)
    labels = np.repeat(np.arange(WAY), SHOT)[order]
    numbers = np.arange(episodes)
    return Support(
        paddle.to_tensor(scale * shots[:, order]), paddle.to_tensor(labels), WAY, numbers, paddle.to_tensor(queries)
    )


def logits(config: FinetuneConfig, given: Support) -> np.ndarray:
    queries = given.unlabelled
    assert queries is not None
    return Finetune(config, 0).adapt(given)(queries).numpy()


@pytest.fixture
def by_paddle(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The logits as computed where numpy does not serve."""

    def compute(config: FinetuneConfig, given: Support) -> np.ndarray:
        with monkeypatch.context() as patched:
            patched.setattr(paddle, "get_device", lambda: "gpu:0")
            patched.setattr("ppfsl.methods.finetune.fit_heads", None)
            return logits(config, given)

    return compute


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize(
    ("entropy", "similarity"), list(itertools.product(["none", "support", "query"], ["cosine", "inner_product"]))
)
def test_the_same_as_by_paddle(optimizer: dict[str, Any], entropy: str, similarity: str, by_paddle: Any) -> None:
    tree = {"name": "finetune", "entropy": entropy, "similarity": similarity, "optimizer": optimizer, "steps": 30}
    if entropy != "none":
        tree["entropy_weight"] = 0.7
    config, given = FinetuneConfig.model_validate(tree), support(3, 1.0 if similarity == "cosine" else 1.5)
    found, expected = logits(config, given), by_paddle(config, given)
    start = logits(config.model_copy(update={"steps": 1}), given)
    assert np.abs(expected - start).max() > 0.05, "the steps are to change something"
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-3)


def test_the_random_start_is_the_same(by_paddle: Any) -> None:
    config = FinetuneConfig(name="finetune", initialization="random", steps=5)
    np.testing.assert_allclose(logits(config, support(2)), by_paddle(config, support(2)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("block", [1, WAY * DIM, 5 * WAY * DIM, 1 << 20])
def test_blocks_of_episodes_change_no_bit(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config = FinetuneConfig(name="finetune", entropy="query", steps=10)
    expected = logits(config, support(7))
    monkeypatch.setattr(softmax_heads, "_BLOCK", block)
    assert np.array_equal(logits(config, support(7)), expected)


def test_inputs_are_left_alone() -> None:
    config, given = FinetuneConfig(name="finetune", entropy="query", steps=5), support(2)
    assert given.unlabelled is not None
    before = given.inputs.numpy().copy(), given.unlabelled.numpy().copy()
    logits(config, given)
    assert np.array_equal(given.inputs.numpy(), before[0]) and np.array_equal(given.unlabelled.numpy(), before[1])


def test_large_scales_overflow_nothing(by_paddle: Any) -> None:
    config = FinetuneConfig(name="finetune", entropy="support", scale=1e4, steps=10)
    with np.errstate(all="raise", under="ignore"):
        found = logits(config, support(2))
    assert np.isfinite(found).all()


def test_a_weight_of_zero_stays_finite() -> None:
    given = support(2)
    zeros = Support(given.inputs * 0, given.labels, WAY, given.numbers, given.unlabelled)
    assert np.isfinite(logits(FinetuneConfig(name="finetune", entropy="none", steps=3), zeros)).all()


def test_entropy_over_queries_needs_them() -> None:
    given = support(1)
    alone = Support(given.inputs, given.labels, WAY, given.numbers)
    with pytest.raises(ValueError, match="needs the unlabelled queries"):
        Finetune(FinetuneConfig(name="finetune", entropy="query"), 0).adapt(alone)
