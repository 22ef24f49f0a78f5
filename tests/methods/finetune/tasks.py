"""Configurations of fine-tuning, and episodes to tune on."""

from typing import Any

import numpy as np
import paddle

from ppfsl.config import FinetuneConfig
from ppfsl.methods.base import Support
from ppfsl.randomness import generator

WAY, SHOT, QUERY, DIM = 3, 2, 4, 5
LABELS = np.repeat(np.arange(WAY), SHOT)
SGD = {"name": "sgd", "lr": 0.1}
ENTROPIES = ("none", "support", "query")


def config(**changes: Any) -> FinetuneConfig:
    return FinetuneConfig.model_validate({"name": "finetune", "steps": 5, **changes})


def draw(*shape: int, key: str = "x") -> np.ndarray:
    return generator(0, "finetune", key, *shape).standard_normal(shape).astype(np.float32)


def unit(x: np.ndarray, axis: int = -1) -> np.ndarray:
    return x / np.linalg.norm(x, axis=axis, keepdims=True)


def support_of(inputs: np.ndarray, query: np.ndarray, numbers: Any = None, labels: np.ndarray = LABELS) -> Support:
    numbers = np.arange(len(inputs)) if numbers is None else np.asarray(numbers)
    way = int(labels.max()) + 1
    return Support(paddle.to_tensor(inputs), paddle.to_tensor(labels), way, numbers, paddle.to_tensor(query))


def logits(method: Any, support: Support, query: np.ndarray) -> np.ndarray:
    return method.adapt(support)(paddle.to_tensor(query)).numpy()


def task(episodes: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Support and query embeddings of length one."""
    return unit(draw(episodes, WAY * SHOT, DIM)), unit(draw(episodes, QUERY, DIM, key="query"))


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def almost_untouched(**changes: Any) -> FinetuneConfig:
    return config(steps=1, optimizer={"name": "sgd", "lr": 1e-12}, entropy="none", **changes)
