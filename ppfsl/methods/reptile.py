"""Reptile (Nichol, Achiam and Schulman 2018, "On First-Order Meta-Learning Algorithms").

phi' comes from phi by some steps of Adam (beta1 = 0) on minibatches of a task; phi <- phi + rate * mean over tasks of
(phi' - phi). The outer optimizer sees phi - phi' as the gradient: plain SGD with the rate is the paper's update.
"""

from dataclasses import dataclass

import numpy as np
import paddle

from ppfsl.autodiff import cross_entropy
from ppfsl.methods.gradient_based import GradientBased, Task, add_gradients, share_of_right
from ppfsl.methods.inner_loop import adam, minibatches
from ppfsl.methods.task_network import Weights, keep_statistics, query_logits


@dataclass(frozen=True)
class Reptile(GradientBased):
    """Adam on minibatches of the support set; no queries are needed in training.

    Attributes:
        batch: images in a minibatch.
    """

    batch: int = 10

    def adapted(
        self,
        weights: Weights,
        images: paddle.Tensor,
        labels: paddle.Tensor,
        create_graph: bool,
        chance: np.random.Generator,
    ) -> Weights:
        """Steps of Adam from fresh moments.

        Raises:
            ValueError: with `create_graph`, since Reptile has no use for it.
        """
        if create_graph:
            raise ValueError("Reptile's steps are not differentiated")
        places = minibatches(len(images), self.batch, self.steps, chance)

        def loss(weights: Weights, step: int) -> paddle.Tensor:
            chosen = paddle.to_tensor(places[step])
            return self.support_loss(weights, images[chosen], labels[chosen], False)

        return adam(loss, weights, self.steps, self.lr)

    def learn(self, task: Task, share: float, epoch: int) -> tuple[float, float]:
        """phi - phi', the negative displacement; the queries only show how good phi' is."""
        own = self.network.weights()
        weights = self.adapted(own, task.support, task.support_labels, False, task.chance)
        with paddle.no_grad():
            displacement = {name: (own[name] - weights[name]) * share for name in own}
            queries = (task.support, task.queries, self.batch_norm)
            answers, statistics = query_logits(self.network, weights, *queries)
            loss = cross_entropy(answers, task.query_labels).item()
        add_gradients(own, displacement)
        keep_statistics(self.network, statistics)
        return loss, share_of_right(answers, task.query_labels)
