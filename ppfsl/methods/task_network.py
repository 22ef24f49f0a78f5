"""The network of MAML and its relatives: an embedder and a linear classifier, run with the weights of one task."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import paddle
from paddle import nn

from ppfsl.autodiff import call_with_statistics, first_rows_statistics
from ppfsl.backbones.embedder import Embedder
from ppfsl.config.objectives import BatchNormMode
from ppfsl.errors import UserError

Weights = dict[str, paddle.Tensor]


class TaskHead(nn.Layer):
    """What these methods learn beside the embedder: the classifier's first weights, and step sizes if they are learned.

    Args:
        method: whose it is.
        dim: numbers in the embedder's output.
        way: classes of a task.
        steps: of the inner loop in training.
        lr: of the inner loop in training; what learned step sizes start at.
        batch_norm: the mode in training.
        rates: learned step sizes: how many numbers each of the network's weights has, by name, in any order; None: no
            such sizes.
    """

    def __init__(
        self,
        method: str,
        dim: int,
        way: int,
        steps: int,
        lr: float,
        batch_norm: BatchNormMode,
        rates: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "method": method,
            "dim": dim,
            "way": way,
            "steps": steps,
            "lr": lr,
            "batch_norm": batch_norm,
            # In an order that JSON's sorted keys keep: the sizes are told apart by their places alone.
            "rates": None if rates is None else dict(sorted(rates.items())),
        }
        self.method = method
        self.linear = nn.Linear(dim, way)
        constant = nn.initializer.Constant(lr)
        # Flat, so that nobody takes them for weights and draws them at random.
        sizes = (self.arguments["rates"] or {}).values()
        self.rates = nn.ParameterList(self.create_parameter([size], default_initializer=constant) for size in sizes)

    def check_way(self, way: int) -> None:
        """Raise when episodes have another number of classes than those of training.

        Raises:
            UserError: saying so.
        """
        trained = self.arguments["way"]
        if way != trained:
            raise UserError(
                f"{self.method} was trained {trained}-way and serves no {way}-way episodes; "
                f"evaluate with {trained} classes, in evaluation.way and in the support set"
            )


class TaskNetwork(nn.Layer):
    """Images to the logits of a task: [N, C, S, S], pixels in 0..255 -> [N, way].

    Shares all weights with its parts.
    """

    def __init__(self, embedder: Embedder, head: TaskHead) -> None:
        super().__init__()
        self.embedder, self.linear = embedder, head.linear

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        """[N, C, S, S] -> [N, way]."""
        return self.linear(self.embedder.projected(images))

    def weights(self) -> Weights:
        """What a task's gradient steps change: all parameters but the running statistics of batch norm."""
        running = ("._mean", "._variance")
        return {name: tensor for name, tensor in self.named_parameters() if not name.endswith(running)}


def copies(weights: Mapping[str, paddle.Tensor]) -> Weights:
    """Leaves with the same numbers, by which a loss can be differentiated."""
    leaves = {name: tensor.detach() for name, tensor in weights.items()}
    for leaf in leaves.values():
        leaf.stop_gradient = False
    return leaves


def logits(network: TaskNetwork, weights: Weights, images: paddle.Tensor) -> paddle.Tensor:
    """Logits [N, way] with such weights, in the network's present mode; its running statistics stay."""
    return call_with_statistics(network, weights, images)[0]


def query_logits(
    network: TaskNetwork,
    weights: Weights,
    support: paddle.Tensor,
    queries: paddle.Tensor,
    batch_norm: BatchNormMode,
) -> tuple[paddle.Tensor, dict[str, paddle.Tensor]]:
    """The logits of a task's queries [Q, way], and the running statistics that batch norm would have afterwards.

    Args:
        network: in training mode; for `running` on novel classes in evaluation mode. (Base classes are trained on in
            training mode, where `running` is the same as `transductive` and gathers the statistics.)
        weights: the task's.
        support: pixels [S, C, H, W] in 0..255.
        queries: pixels [Q, C, H, W] in 0..255.
        batch_norm: whose mean and variance count: the queries' own, the support images', or what the mode says.
    """
    if batch_norm != "support_statistics":
        return call_with_statistics(network, weights, queries)
    with first_rows_statistics(len(support)):
        both, statistics = call_with_statistics(network, weights, paddle.concat([support, queries]))
    return both[len(support) :], statistics


@contextmanager
def mode(network: TaskNetwork, batch_norm: BatchNormMode) -> Iterator[None]:
    """The network in the mode in which tasks of novel classes are to be run; afterwards as it was."""
    before = [(layer, layer.training) for layer in network.sublayers(include_self=True)]
    (network.eval if batch_norm == "running" else network.train)()
    try:
        yield
    finally:
        for layer, training in before:
            layer.training = training


def keep_statistics(network: TaskNetwork, statistics: Mapping[str, paddle.Tensor]) -> None:
    """Make the running statistics of a call the network's own; other buffers of the call are left out."""
    own = dict(network.named_parameters())
    with paddle.no_grad():
        for name, value in statistics.items():
            if name in own:
                own[name].set_value(value)
