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

from ppfsl import losses
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
        """Fit the classifiers."""
        config, shots = self.config, support.inputs.detach()
        parameters = self._first_weights(support)
        velocities: list[paddle.Tensor] = []
        for places in self._batches(support):
            index = paddle.to_tensor(places)
            chosen = paddle.take_along_axis(shots, index.unsqueeze(-1), 1, broadcast=True)
            for parameter in parameters:
                parameter.stop_gradient = False
            # The mean over episodes times their number: each classifier gets the gradient it would get alone.
            loss = losses.cross_entropy(self._logits(parameters, chosen), support.labels[index]) * len(places)
            with paddle.no_grad():
                slopes = [
                    slope + config.weight_decay * parameter
                    for slope, parameter in zip(paddle.grad(loss, parameters), parameters, strict=True)
                ]
                velocities = (
                    [
                        config.momentum * velocity + (1 - config.dampening) * slope
                        for velocity, slope in zip(velocities, slopes, strict=True)
                    ]
                    if velocities
                    else slopes  # as PyTorch does, whose optimizer the paper's code uses
                )
                parameters = [
                    (parameter - config.lr * velocity)
                    for parameter, velocity in zip(parameters, velocities, strict=True)
                ]
        return lambda query: self._logits(parameters, query)

    def _logits(self, parameters: list[paddle.Tensor], inputs: paddle.Tensor) -> paddle.Tensor:
        """[E, Q, D] -> [E, Q, way]."""
        weight = parameters[0]
        if self.config.name == "baseline++":
            return self.config.scale * F.normalize(inputs, axis=-1) @ F.normalize(weight, axis=1)
        return inputs @ weight + parameters[1]

    def _first_weights(self, support: Support) -> list[paddle.Tensor]:
        """Weights [E, D, way], uniform within 1 / sqrt(D); Baseline: also biases [E, 1, way] of zero."""
        dim = support.inputs.shape[-1]
        draws = [
            generator(self.seed, "classifier", int(number)).uniform(-1, 1, (dim, support.way)) * dim**-0.5
            for number in support.numbers
        ]
        weight = paddle.to_tensor(np.stack(draws)).astype(support.inputs.dtype)
        if self.config.name == "baseline++":
            return [weight]
        return [weight, paddle.zeros([len(draws), 1, support.way], support.inputs.dtype)]

    def _batches(self, support: Support) -> Iterator[np.ndarray]:
        """Places in the support set of each episode's next images: int64 [E, batch]."""
        count, size = support.inputs.shape[1], self.config.batch_size
        for epoch in range(self.config.epochs):
            orders = [
                generator(self.seed, "order", int(number), epoch).permutation(count) for number in support.numbers
            ]
            for start in range(0, count, size):
                yield np.stack(orders)[:, start : start + size]
