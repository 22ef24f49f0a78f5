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
        head_decay: share of the classifier's weights that is lost with every batch of training tasks.
    """

    batch: int = 10
    head_decay: float = 0.0

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

    def _decay(self, share: float) -> None:
        """A task's part in the decay of the classifier's weights."""
        if not self.head_decay:
            return
        with paddle.no_grad():
            for parameter in self.layer.linear.parameters():
                parameter.set_value(parameter * (1 - self.head_decay) ** share)

    def learn(self, task: Task, share: float, epoch: int) -> tuple[float, float]:
        """phi - phi', the negative displacement; the queries only show how good phi' is.

        The classifier's share in phi decays first: the tasks that number their classes otherwise pull it nowhere, but
        the outer optimizer makes steps of their noise.
        """
        self._decay(share)
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
