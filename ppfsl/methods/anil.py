"""ANIL (Raghu, Raghu, Bengio and Vinyals 2020, "Rapid Learning or Feature Reuse?"): MAML that adapts the head alone.

The embedder learns to serve a linear classifier which a few gradient steps on the support set make. The gradient of a
linear classifier's cross-entropy is written out below, so that the steps of many episodes are a few matrix products and
the second order comes by itself.
"""

from dataclasses import dataclass
from typing import Literal

import paddle
import paddle.nn.functional as F

from ppfsl import losses
from ppfsl.methods.base import Classifier, Support
from ppfsl.methods.task_network import TaskHead


@dataclass(frozen=True)
class Anil:
    """A linear classifier of learned first weights, adapted by gradient steps.

    Batch norm is the embedder's: whole meta-batches in training, running statistics afterwards. Hence inductive.

    Attributes:
        layer: the first weights.
        steps: gradient steps on a support set.
        lr: their size.
        name: in reports.
    """

    layer: TaskHead
    steps: int
    lr: float
    name: str = "anil"
    inputs: Literal["projected"] = "projected"
    transductive: bool = False

    def adapt(self, support: Support) -> Classifier:
        """weight - lr * gradient, for every episode.

        Raises:
            UserError: when the episodes have another way than training had.
        """
        self.layer.check_way(support.way)
        episodes, images, _ = support.inputs.shape
        weight = self.layer.linear.weight.unsqueeze(0).expand([episodes, -1, -1])
        bias = self.layer.linear.bias.reshape([1, 1, -1]).expand([episodes, -1, -1])
        for _ in range(self.steps):
            error = (F.softmax(paddle.bmm(support.inputs, weight) + bias) - support.membership) / images
            weight = weight - self.lr * paddle.bmm(support.inputs.transpose([0, 2, 1]), error)
            bias = bias - self.lr * error.sum(1, keepdim=True)
        return lambda queries: paddle.bmm(queries, weight) + bias

    def loss(self, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        """Cross-entropy."""
        return losses.cross_entropy(logits, labels)
