"""Meta-SGD (Li, Zhou, Chen and Li 2017, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning").

MAML whose steps are learned, one size for every number of every weight: theta' = theta - alpha * gradient, number by
number; theta and alpha learn from the queries' loss at theta'. Sizes may become negative.
"""

from dataclasses import dataclass

import numpy as np
import paddle

from ppfsl.methods.inner_loop import sgd
from ppfsl.methods.maml import Maml
from ppfsl.methods.task_network import Weights


@dataclass(frozen=True)
class MetaSgd(Maml):
    """Gradient steps of learned sizes."""

    def rates(self) -> dict[str, paddle.Tensor]:
        """The learned step sizes, in the weights' shapes."""
        shapes = {name: weight.shape for name, weight in self.network.weights().items()}
        flat = zip(self.layer.arguments["rates"], self.layer.rates, strict=True)
        return {name: rate.reshape(shapes[name]) for name, rate in flat}

    def adapted(
        self,
        weights: Weights,
        images: paddle.Tensor,
        labels: paddle.Tensor,
        create_graph: bool,
        chance: np.random.Generator,
    ) -> Weights:
        """Steps of the learned sizes, each over the whole support set."""

        def loss(weights: Weights) -> paddle.Tensor:
            return self.support_loss(weights, images, labels, create_graph)

        return sgd(loss, weights, self.steps, self.rates(), create_graph)
