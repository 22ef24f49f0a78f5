"""MAML (Finn, Abbeel and Levine 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks").

theta' = theta - lr * gradient of the support set's loss at theta, a few times; theta learns from the gradient of the
queries' loss at theta'. Order 2 differentiates through the inner steps, as the paper does; order 1 (first-order MAML,
in the same paper) takes the gradient by theta' for that by theta.
"""

from dataclasses import dataclass

import numpy as np
import paddle

from ppfsl.autodiff import cross_entropy, grad
from ppfsl.methods.gradient_based import GradientBased, Task, add_gradients, share_of_right
from ppfsl.methods.inner_loop import sgd
from ppfsl.methods.task_network import Weights, keep_statistics, query_logits


@dataclass(frozen=True)
class Maml(GradientBased):
    """Gradient steps of one size over the whole support set.

    Attributes:
        order: 2 or 1, in training.
        first_order_epochs: epochs of training before which order 2 begins.
    """

    order: int = 2
    first_order_epochs: int = 0

    def adapted(
        self,
        weights: Weights,
        images: paddle.Tensor,
        labels: paddle.Tensor,
        create_graph: bool,
        chance: np.random.Generator,
    ) -> Weights:
        """Steps of the sizes `rates`, each over the whole support set."""

        def loss(weights: Weights) -> paddle.Tensor:
            return self.support_loss(weights, images, labels, create_graph)

        return sgd(loss, weights, self.steps, self.rates(), create_graph)

    def rates(self) -> float | dict[str, paddle.Tensor]:
        """The step size, or one for every number of every weight, in the weights' shapes."""
        return self.lr

    def learn(self, task: Task, share: float, epoch: int) -> tuple[float, float]:
        """The gradient of the queries' loss by the first weights, or by the adapted ones (order 1)."""
        second = self.order == 2 and epoch >= self.first_order_epochs
        own = self.network.weights()
        weights = self.adapted(own, task.support, task.support_labels, second, task.chance)
        answers, statistics = query_logits(self.network, weights, task.support, task.queries, self.batch_norm)
        loss = cross_entropy(answers, task.query_labels)
        if second:
            (loss * share).backward()
        else:
            add_gradients(own, grad(loss * share, weights))
        keep_statistics(self.network, statistics)
        return loss.item(), share_of_right(answers, task.query_labels)
