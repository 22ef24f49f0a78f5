"""What the tests of all objectives share: vectors to judge, and the loss as a plain number."""

from collections.abc import Callable

import numpy as np
import paddle
import pytest

from ppfsl.randomness import generator
from ppfsl.training.objectives.base import Objective


@pytest.fixture(scope="session")
def vectors() -> Callable[..., np.ndarray]:
    """Gives so many vectors of three numbers, float32; others for another key."""

    def draw(count: int, key: int = 0) -> np.ndarray:
        return generator(0, "projected", key).standard_normal((count, 3)).astype(np.float32)

    return draw


@pytest.fixture(scope="session")
def loss_of() -> Callable[..., tuple[float, dict[str, float]]]:
    """Gives an objective's loss and terms; other random numbers for another key."""

    def of(objective: Objective, x: np.ndarray, labels: np.ndarray, key: int = 0) -> tuple[float, dict[str, float]]:
        loss, terms = objective.loss(paddle.to_tensor(x), paddle.to_tensor(labels), generator(0, "chance", key))
        return loss.item(), terms

    return of
