"""Learning to learn by gradient descent by gradient descent (Andrychowicz et al. 2016), on few-shot heads.

A small LSTM takes the place of the optimizer: it sees the gradient of every weight by itself, all of them alike, and
says how the weight is to change. It learns from the loss after the last step; as in the paper, gradients that it is
shown count as given, so that no second derivatives are needed. `examples/learned_optimizer.py` has the paper's first
experiment, random quadratics.
"""

from dataclasses import dataclass
from typing import Any, Literal

import paddle
import paddle.nn.functional as F
from paddle import nn

from ppfsl import losses
from ppfsl.methods.base import Classifier, Support
from ppfsl.methods.coordinate_lstm import lstm_cell, preprocessed

States = list[tuple[paddle.Tensor, paddle.Tensor]]


class LearnedOptimizer(nn.Layer):
    """A coordinate-wise LSTM of two layers: gradients to updates.

    Args:
        hidden: of each layer; 20 in the paper.
        scale: what its outputs are multiplied by; 0.1 in the paper.
    """

    def __init__(self, hidden: int = 20, scale: float = 0.1) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {"hidden": hidden, "scale": scale}
        self.cells = nn.LayerList([lstm_cell(2, hidden), lstm_cell(hidden, hidden)])
        self.output = nn.Linear(hidden, 1)

    def start(self, coordinates: int) -> States:
        """Before the first step: zeros."""
        zeros = paddle.zeros([coordinates, self.arguments["hidden"]], self.output.weight.dtype)
        return [(zeros, zeros) for _ in self.cells]

    def forward(self, gradients: paddle.Tensor, states: States) -> tuple[paddle.Tensor, States]:
        """One step.

        Args:
            gradients: of any shape with as many numbers as there are coordinates; taken as given.
            states: of the step before.

        Returns:
            What to add to the weights, of the gradients' shape, and the states.
        """
        signal = preprocessed(gradients.detach().reshape([-1]))
        after: States = []
        for cell, state in zip(self.cells, states, strict=True):
            signal, state = cell(signal, state)
            after.append(state)
        return self.arguments["scale"] * self.output(signal).reshape(gradients.shape), after


@dataclass(frozen=True)
class LearnedOptimizerHead:
    """A softmax head on embeddings, fitted to the support set by the learned optimizer.

    logits = scale * w_k . x, for embeddings x of length one; w starts at zero.

    Attributes:
        layer: the optimizer.
        steps: on a support set.
        scale: of the logits.
        name: in reports.
    """

    layer: LearnedOptimizer
    steps: int
    scale: float = 10.0
    name: str = "learned_optimizer"
    inputs: Literal["embedding"] = "embedding"
    transductive: bool = False

    def adapt(self, support: Support) -> Classifier:
        """Fit one head per episode; the episodes do not influence one another."""
        episodes, images, dim = support.inputs.shape
        weight = paddle.zeros([episodes, dim, support.way], support.inputs.dtype)
        states = self.layer.start(weight.size)
        for _ in range(self.steps):
            # The gradient of the mean cross-entropy, written out.
            error = F.softmax(self.scale * paddle.bmm(support.inputs, weight)) - support.membership
            gradient = self.scale * paddle.bmm(support.inputs.transpose([0, 2, 1]), error) / images
            update, states = self.layer(gradient, states)
            weight = weight + update
        return lambda queries: self.scale * paddle.bmm(queries, weight)

    def loss(self, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        """Cross-entropy."""
        return losses.cross_entropy(logits, labels)
