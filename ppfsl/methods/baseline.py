"""Baseline and Baseline++ (Chen, Liu, Kira, Wang and Huang 2019, "A Closer Look at Few-shot Classification").

A new classifier is fitted to the support set's embeddings, from random weights, while the embedder stays as it was
pretrained. Baseline: a linear classifier. Baseline++: scale x cosine similarity to a weight per class.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import paddle
import paddle.nn.functional as F
from scipy.special import softmax

from ppfsl.config import BaselineConfig
from ppfsl.methods.base import Classifier, Support
from ppfsl.randomness import generator


@dataclass(frozen=True)
class Baseline:
    """A linear or cosine classifier per episode, fitted by stochastic gradient descent with momentum and dampening.

    Many episodes are fitted at once; they do not influence one another. The order of the support images matters, as it
    does to the paper's code: it decides which of them share a mini-batch, unless a batch holds them all.

    Attributes:
        config: which classifier, and how it is fitted.
        seed: of the first weights and of the order of the support images.
    """

    config: BaselineConfig
    seed: int = 0
    inputs: Literal["projected"] = "projected"
    transductive: bool = False

    @property
    def name(self) -> str:
        """In reports."""
        return self.config.label or self.config.name

    def adapt(self, support: Support) -> Classifier:
        """Fit the classifiers.

        Every step adds multiples of support vectors and shrinks what is there. So a weight stays a combination of the
        support vectors and the first weights, and its coefficients and the inner products of these say all that a step
        needs, whatever the dimension.
        """
        vectors = support.inputs.detach()
        if self.config.name == "baseline++":
            vectors = F.normalize(vectors, axis=-1)
        basis = np.concatenate([vectors.numpy().astype(np.float64), self._first_weights(support)], axis=1)
        coefficients, bias = self._fitted(basis @ basis.swapaxes(1, 2), support)
        dtype = support.inputs.dtype
        parameters = [paddle.to_tensor(values).astype(dtype) for values in (basis.swapaxes(1, 2) @ coefficients, bias)]
        return lambda query: self._logits(parameters, query)

    def _fitted(self, products: np.ndarray, support: Support) -> tuple[np.ndarray, np.ndarray]:
        """Gradient descent on the coefficients of the weights.

        Args:
            products: float64 [E, M, M], the inner products of support vectors and first weights.
            support: S images; M is S + way.

        Returns:
            Coefficients [E, M, way], and biases [E, 1, way], which stay zero for baseline++.
        """
        config, episodes, way = self.config, len(products), support.way
        which, labels = np.arange(episodes)[:, None], support.labels.numpy()
        coefficients = np.zeros((episodes, products.shape[1], way))
        coefficients[:, -way:] = np.eye(way)
        parameters = [coefficients, np.zeros((episodes, 1, way))]
        velocities: list[np.ndarray] = []
        for places in self._batches(support):
            slopes = self._slopes(products, parameters, (which, places), np.eye(way)[labels[places]])
            slopes = [slope + config.weight_decay * old for slope, old in zip(slopes, parameters, strict=True)]
            velocities = (
                [
                    config.momentum * velocity + (1 - config.dampening) * slope
                    for velocity, slope in zip(velocities, slopes, strict=True)
                ]
                if velocities
                else slopes  # as PyTorch does, whose optimizer the paper's code uses
            )
            parameters = [old - config.lr * velocity for old, velocity in zip(parameters, velocities, strict=True)]
        return parameters[0], parameters[1]

    def _slopes(
        self,
        products: np.ndarray,
        parameters: list[np.ndarray],
        shown: tuple[np.ndarray, np.ndarray],
        truth: np.ndarray,
    ) -> list[np.ndarray]:
        """The gradient of a batch's mean cross-entropy by weights and biases, that by the weights as coefficients.

        Args:
            products: [E, M, M].
            parameters: coefficients [E, M, way] and biases [E, 1, way].
            shown: indices of the batch's support vectors, [E, 1] and [E, B].
            truth: [E, B, way], one-hot.
        """
        coefficients, bias = parameters
        reached = products @ coefficients
        if self.config.name == "baseline":
            error = (softmax(reached[shown] + bias, axis=-1) - truth) / truth.shape[1]
            slope = np.zeros_like(coefficients)
            slope[shown] = error
            return [slope, error.sum(1, keepdims=True)]
        # d cos(x, w) / dw = (x - cos w / |w|) / |w|, for x of length one
        lengths = np.sqrt((coefficients * reached).sum(1, keepdims=True))
        cosines, scale = reached[shown] / lengths, self.config.scale
        error = scale * (softmax(scale * cosines, axis=-1) - truth) / truth.shape[1] / lengths
        slope = -coefficients * ((error * cosines).sum(1, keepdims=True) / lengths)
        slope[shown] += error
        return [slope, np.zeros_like(bias)]

    def _logits(self, parameters: list[paddle.Tensor], inputs: paddle.Tensor) -> paddle.Tensor:
        """[E, Q, D] -> [E, Q, way]."""
        weight = parameters[0]
        if self.config.name == "baseline++":
            return self.config.scale * F.normalize(inputs, axis=-1) @ F.normalize(weight, axis=1)
        return inputs @ weight + parameters[1]

    def _first_weights(self, support: Support) -> np.ndarray:
        """Uniform within 1 / sqrt(D): float64 [E, way, D]."""
        dim = support.inputs.shape[-1]
        draws = [
            generator(self.seed, "classifier", int(number)).uniform(-1, 1, (dim, support.way)).T * dim**-0.5
            for number in support.numbers
        ]
        return np.stack(draws)

    def _batches(self, support: Support) -> Iterator[np.ndarray]:
        """Places in the support set of each episode's next images: int64 [E, batch]."""
        count, size = support.inputs.shape[1], self.config.batch_size
        passes = np.tile(np.arange(count), (self.config.epochs, 1))
        orders = [generator(self.seed, "order", int(number)).permuted(passes, axis=1) for number in support.numbers]
        for order in np.stack(orders, axis=1):
            for start in range(0, count, size):
                yield order[:, start : start + size]
