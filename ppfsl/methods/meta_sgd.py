"""Meta-SGD (Li, Zhou, Chen and Li 2017, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning").

MAML whose steps are learned, one size for every number of every weight: theta' = theta - alpha * gradient, number by
number; theta and alpha learn from the queries' loss at theta'. Sizes may become negative.
"""

from dataclasses import dataclass

import paddle

from ppfsl.methods.maml import Maml


@dataclass(frozen=True)
class MetaSgd(Maml):
    """Gradient steps of learned sizes, which start at `lr`; they learn by order 2 alone."""

    def rates(self) -> dict[str, paddle.Tensor]:
        """The learned step sizes, in the weights' shapes."""
        shapes = {name: weight.shape for name, weight in self.network.weights().items()}
        flat = zip(self.layer.arguments["rates"], self.layer.rates, strict=True)
        return {name: rate.reshape(shapes[name]) for name, rate in flat}
