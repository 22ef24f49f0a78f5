"""What MAML and its relatives have in common: a network that a few gradient steps on the support set adapt."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import paddle

from ppfsl.autodiff import cross_entropy, twice_differentiable_operators
from ppfsl.methods.base import Classifier, Support
from ppfsl.methods.task_network import (
    BatchNormMode,
    TaskHead,
    TaskNetwork,
    Weights,
    copies,
    logits,
    mode,
    query_logits,
)
from ppfsl.randomness import generator


@dataclass(frozen=True)
class Task:
    """One task of training.

    Attributes:
        support: pixels [S, C, H, W] in 0..255.
        support_labels: int64 [S].
        queries: pixels [Q, C, H, W].
        query_labels: int64 [Q].
        chance: random numbers of this task.
    """

    support: paddle.Tensor
    support_labels: paddle.Tensor
    queries: paddle.Tensor
    query_labels: paddle.Tensor
    chance: np.random.Generator


@dataclass(frozen=True)
class GradientBased:
    """A network of the embedder and a linear classifier, both adapted to every support set.

    Attributes:
        network: where every task starts; adapting changes nothing in it.
        layer: the part of it beside the embedder.
        steps: gradient steps on a support set.
        lr: their size.
        batch_norm: `transductive`: every batch is normalised by itself, so that the queries are normalised together,
            and an answer depends on the other queries; `support_statistics`: the queries by the support images' mean
            and variance; `running`: all by the running statistics of training.
        name: in reports.
        seed: of random choices while adapting.
    """

    network: TaskNetwork
    layer: TaskHead
    steps: int
    lr: float
    batch_norm: BatchNormMode
    name: str
    seed: int = 0
    inputs: Literal["image"] = field(default="image", init=False)

    @property
    def transductive(self) -> bool:
        """Whether an answer depends on the other queries of its episode, here by their mean and variance."""
        return self.batch_norm == "transductive"

    def adapt(self, support: Support) -> Classifier:
        """Adapt to each of the episodes, one after another; gradients of first order suffice.

        Raises:
            UserError: when the episodes have another way than training had.
        """
        self.layer.check_way(support.way)
        weights = []
        with paddle.enable_grad(), mode(self.network, self.batch_norm):
            for number, images in zip(support.numbers.tolist(), support.inputs, strict=True):
                chance = generator(self.seed, "task", number)
                weights.append(self.adapted(copies(self.network.weights()), images, support.labels, False, chance))

        def classify(queries: paddle.Tensor) -> paddle.Tensor:
            with paddle.no_grad(), mode(self.network, self.batch_norm):
                return paddle.stack(
                    [
                        query_logits(self.network, own, images, asked, self.batch_norm)[0]
                        for own, images, asked in zip(weights, support.inputs, queries, strict=True)
                    ]
                )

        return classify

    def adapted(
        self,
        weights: Weights,
        images: paddle.Tensor,
        labels: paddle.Tensor,
        create_graph: bool,
        chance: np.random.Generator,
    ) -> Weights:
        """The weights after the gradient steps on a support set.

        Args:
            weights: where to start.
            images: pixels [S, C, H, W] in 0..255.
            labels: int64 [S].
            create_graph: whether the result can be differentiated by `weights`.
            chance: of this task.
        """
        raise NotImplementedError

    def learn(self, task: Task, share: float, epoch: int) -> tuple[float, float]:
        """Add a task's gradients to those of the network's parameters.

        Args:
            task: of base classes.
            share: what the gradients are multiplied by.
            epoch: of the stage, from 0.

        Returns:
            The adapted network's loss on the queries and its accuracy.
        """
        raise NotImplementedError

    def support_loss(
        self, weights: Weights, images: paddle.Tensor, labels: paddle.Tensor, twice: bool
    ) -> paddle.Tensor:
        """The mean cross-entropy of support images; `twice`: to be differentiated twice."""
        if not twice:
            return cross_entropy(logits(self.network, weights, images), labels)
        with twice_differentiable_operators():
            return cross_entropy(logits(self.network, weights, images), labels)


def share_of_right(answers: paddle.Tensor, labels: paddle.Tensor) -> float:
    """The accuracy of logits [Q, way]."""
    return float((answers.argmax(-1) == labels).astype("float32").mean())


def add_gradients(parameters: Weights, gradients: Weights) -> None:
    """Add to what the parameters' `grad` holds already."""
    total = sum((parameters[name] * gradient.detach()).sum() for name, gradient in gradients.items())
    assert isinstance(total, paddle.Tensor)
    total.backward()
