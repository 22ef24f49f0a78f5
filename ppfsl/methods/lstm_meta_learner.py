"""The LSTM meta-learner (Ravi and Larochelle 2017, "Optimization as a Model for Few-Shot Learning").

A gradient step looks like the update of an LSTM's cell: weight_t = forget_t * weight_{t-1} - input_t * gradient_t. The
meta-learner is an LSTM whose cell state is the network's weights: it computes both gates from the gradient, the loss,
the weight and the gates before, number by number and all numbers alike, and learns the first cell state, the weights
from which tasks start. As in the paper, gradients and losses that it is shown count as given.
"""

from dataclasses import dataclass

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from ppfsl.autodiff import cross_entropy, grad
from ppfsl.methods.coordinate_lstm import lstm_cell, preprocessed
from ppfsl.methods.gradient_based import GradientBased, Task, share_of_right
from ppfsl.methods.task_network import BatchNormMode, TaskHead, Weights, copies, keep_statistics, query_logits


class LstmTaskHead(TaskHead):
    """The classifier's first weights, and the networks of the gates.

    Args:
        dim, way, steps, batch_norm: as for `TaskHead`.
        lr: near which the input gate starts; the forget gate starts near 1.
        hidden: of the LSTM that reads gradients and losses.
    """

    def __init__(self, dim: int, way: int, steps: int, lr: float, batch_norm: BatchNormMode, hidden: int) -> None:
        super().__init__("lstm_meta_learner", dim, way, steps, lr, batch_norm)
        del self.arguments["rates"], self.arguments["method"]
        self.arguments["hidden"] = hidden
        self.cell = lstm_cell(4, hidden)
        self.forget_gate, self.input_gate = nn.Linear(hidden + 2, 1), nn.Linear(hidden + 2, 1)
        for gate, start in ((self.forget_gate, 5.0), (self.input_gate, np.log(lr / (1 - lr)))):
            gate.bias.set_value(np.full(1, start, np.float32))


@dataclass(frozen=True)
class LstmMetaLearner(GradientBased):
    """Steps whose sizes, and whose forgetting, are learned."""

    def adapted(
        self,
        weights: Weights,
        images: paddle.Tensor,
        labels: paddle.Tensor,
        create_graph: bool,
        chance: np.random.Generator,
    ) -> Weights:
        """Steps over the whole support set; `create_graph`: differentiable by `weights` and the gates' networks."""
        head = self.layer
        assert isinstance(head, LstmTaskHead)
        with paddle.set_grad_enabled(create_graph):
            values = _flat(weights)
            state = tuple(paddle.zeros([len(values), head.arguments["hidden"]], values.dtype) for _ in range(2))
            forget, take = paddle.ones_like(values), paddle.full_like(values, head.arguments["lr"])
        for _ in range(self.steps):
            leaves = copies(_unflat(values, weights))
            with paddle.enable_grad():
                loss = self.support_loss(leaves, images, labels, False)
            gradient, loss = _flat(grad(loss, leaves)).detach(), loss.detach()
            with paddle.set_grad_enabled(create_graph):
                of_loss = preprocessed(loss.reshape([1])).expand([len(values), 2])
                seen = paddle.concat([preprocessed(gradient), of_loss], -1)
                signal, state = head.cell(seen, state)
                forget, take = (
                    F.sigmoid(gate(paddle.concat([signal, values.unsqueeze(-1), before.unsqueeze(-1)], -1)))[:, 0]
                    for gate, before in ((head.forget_gate, forget), (head.input_gate, take))
                )
                values = forget * values - take * gradient
        found = _unflat(values, weights)
        return found if create_graph else copies(found)

    def learn(self, task: Task, share: float, epoch: int) -> tuple[float, float]:
        """The gradient of the queries' loss at the last weights, by the first ones and by the gates' networks."""
        weights = self.adapted(self.network.weights(), task.support, task.support_labels, True, task.chance)
        answers, statistics = query_logits(self.network, weights, task.support, task.queries, self.batch_norm)
        loss = cross_entropy(answers, task.query_labels)
        (loss * share).backward()
        keep_statistics(self.network, statistics)
        return loss.item(), share_of_right(answers, task.query_labels)


def _flat(weights: Weights) -> paddle.Tensor:
    """All numbers in a row."""
    return paddle.concat([weight.reshape([-1]) for weight in weights.values()])


def _unflat(values: paddle.Tensor, like: Weights) -> Weights:
    """The row cut into tensors of such names and shapes."""
    parts = values.split([int(weight.size) for weight in like.values()])
    return {name: part.reshape(like[name].shape) for name, part in zip(like, parts, strict=True)}
