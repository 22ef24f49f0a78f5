"""Memory-augmented networks (Santoro, Bartunov, Botvinick, Wierstra and Lillicrap 2016, "One-shot Learning with ...").

A recurrent network reads images one after another, each together with the label of the image before, and predicts the
label of each. To do better than chance it must bind an image to the label that comes one step later in an external
memory, and find it when an image of that class comes again. Nothing is fitted to a support set: reading it is adapting.

The memory is addressed by content, and written either to the slots just read or to those used least (the paper's least
recently used access). Beyond the paper, reading has a learned strength as in Neural Turing Machines (Graves et al.
2014), since cosines alone address many slots at once; and the images come as the embedder sees them, not as pixels.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from ppfsl import losses
from ppfsl.errors import UserError
from ppfsl.methods.base import Classifier, Support
from ppfsl.methods.coordinate_lstm import lstm_cell
from ppfsl.randomness import generator

_QUERIES_AT_ONCE = 2000  # each needs a memory of its own


class State(NamedTuple):
    """What the network carries from one image to the next.

    Attributes:
        hidden, cell: of the controller, [B, H].
        memory: [B, slots, width].
        read: what the heads read last, [B, heads * width].
        weights: where they read it, [B, heads, slots].
        usage: of the slots, decayed, [B, slots].
    """

    hidden: paddle.Tensor
    cell: paddle.Tensor
    memory: paddle.Tensor
    read: paddle.Tensor
    weights: paddle.Tensor
    usage: paddle.Tensor


class MemoryNetwork(nn.Layer):
    """An LSTM with an external memory.

    Args:
        dim: numbers in a vector.
        way: labels.
        hidden: of the LSTM.
        slots: of the memory.
        width: numbers in a slot.
        heads: that read, each of which also writes.
        decay: of the usage from one image to the next.
    """

    def __init__(
        self,
        dim: int,
        way: int,
        hidden: int = 200,
        slots: int = 128,
        width: int = 40,
        heads: int = 4,
        decay: float = 0.95,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            **{"dim": dim, "way": way, "hidden": hidden, "slots": slots},
            **{"width": width, "heads": heads, "decay": decay},
        }
        self.controller = lstm_cell(dim + way + heads * width, hidden)
        self.keys = nn.Linear(hidden, heads * width)
        # Sharp reading, and writing to unused slots, from the start: with strengths near 1 and half of every write
        # spread over the slots read before, all slots soon hold the same, and the network needs long to find a use for
        # them.
        sharp, unused = (paddle.ParamAttr(initializer=nn.initializer.Constant(value)) for value in (10.0, -3.0))
        self.strengths = nn.Linear(hidden, heads, bias_attr=sharp)
        self.gates = nn.Linear(hidden, heads, bias_attr=unused)
        self.output = nn.Linear(hidden + heads * width, way)

    def start(self, batch: int) -> State:
        """Before the first image: an empty memory (not quite, since cosines need a length)."""
        slots, width, heads, hidden = (self.arguments[name] for name in ("slots", "width", "heads", "hidden"))
        dtype = self.output.weight.dtype
        return State(
            paddle.zeros([batch, hidden], dtype),
            paddle.zeros([batch, hidden], dtype),
            paddle.full([batch, slots, width], 1e-6, dtype),
            paddle.zeros([batch, heads * width], dtype),
            paddle.zeros([batch, heads, slots], dtype),
            paddle.zeros([batch, slots], dtype),
        )

    def step(self, vectors: paddle.Tensor, previous: paddle.Tensor, state: State) -> tuple[paddle.Tensor, State]:
        """One image of every sequence.

        Args:
            vectors: [B, dim].
            previous: [B, way], the labels of the images before, one-hot; zeros before the first.
            state: after the image before.

        Returns:
            Logits [B, way], and the state.
        """
        heads, width, slots = (self.arguments[name] for name in ("heads", "width", "slots"))
        seen = paddle.concat([vectors, previous, state.read], axis=-1)
        _, (hidden, cell) = self.controller(seen, (state.hidden, state.cell))
        keys = paddle.tanh(self.keys(hidden)).reshape([-1, heads, width])
        gates = F.sigmoid(self.gates(hidden)).unsqueeze(-1)
        # The heads write to the slots used least, each to another, or to where it read before.
        least = paddle.topk(-state.usage.detach(), heads)[1]
        unused = F.one_hot(least, slots).astype(gates.dtype)
        writes = gates * state.weights + (1 - gates) * unused
        memory = state.memory * (1 - unused.sum(1)).unsqueeze(-1) + paddle.matmul(writes, keys, transpose_x=True)
        strengths = 1 + F.softplus(self.strengths(hidden)).unsqueeze(-1)
        similarity = paddle.matmul(F.normalize(keys, axis=-1), F.normalize(memory, axis=-1), transpose_y=True)
        weights = F.softmax(strengths * similarity)
        read = paddle.matmul(weights, memory).flatten(1)
        usage = self.arguments["decay"] * state.usage + weights.sum(1) + writes.sum(1)
        logits = self.output(paddle.concat([hidden, read], axis=-1))
        return logits, State(hidden, cell, memory, read, weights, usage)

    def forward(self, vectors: paddle.Tensor, labels: paddle.Tensor) -> tuple[paddle.Tensor, State]:
        """Whole sequences.

        Args:
            vectors: [B, T, dim].
            labels: int64 [B, T]; every image is shown with the label of the one before.

        Returns:
            Logits [B, T, way], and the state after the last image, whose label has not been shown yet.
        """
        way = self.arguments["way"]
        shown = F.one_hot(labels, way).astype(vectors.dtype)
        previous = paddle.concat([paddle.zeros_like(shown[:, :1]), shown[:, :-1]], axis=1)
        state, logits = self.start(vectors.shape[0]), []
        for place in range(vectors.shape[1]):
            answer, state = self.step(vectors[:, place], previous[:, place], state)
            logits.append(answer)
        return paddle.stack(logits, 1), state


@dataclass(frozen=True)
class MemoryAugmented:
    """A memory-augmented network that has read the support set.

    Attributes:
        layer: the network.
        name: in reports.
        seed: of the order in which support images are read.
    """

    layer: MemoryNetwork
    name: str = "memory_augmented"
    seed: int = 0
    inputs: Literal["projected"] = "projected"
    transductive: bool = False

    def adapt(self, support: Support) -> Classifier:
        """Read the support images in a random order; every query is asked next, each of a memory of its own.

        Raises:
            UserError: when the episodes have another way than training had.
        """
        way = self.layer.arguments["way"]
        if support.way != way:
            raise UserError(
                f"memory_augmented was trained {way}-way and serves no {support.way}-way episodes; "
                f"evaluate with {way} classes, in evaluation.way and in the support set"
            )
        count = len(support.labels)
        orders = np.stack(
            [generator(self.seed, "reading", number).permutation(count) for number in support.numbers.tolist()]
        )
        places = paddle.to_tensor(orders)
        labels = support.labels[places]
        vectors = paddle.take_along_axis(support.inputs, places.unsqueeze(-1), axis=1)
        _, state = self.layer(vectors, labels)
        last = F.one_hot(labels[:, -1], way).astype(vectors.dtype)

        def classify(queries: paddle.Tensor) -> paddle.Tensor:
            episodes, asked, dim = queries.shape
            size = max(1, _QUERIES_AT_ONCE // asked)
            answers = []
            for start in range(0, episodes, size):
                part = slice(start, start + size)
                own = State._make(paddle.repeat_interleave(tensor[part], asked, axis=0) for tensor in state)
                shown = paddle.repeat_interleave(last[part], asked, axis=0)
                answers.append(self.layer.step(queries[part].reshape([-1, dim]), shown, own)[0])
            return paddle.concat(answers).reshape([episodes, asked, way])

        return classify

    def loss(self, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        """Cross-entropy, over the whole sequence: logits [B, T, way], labels int64 [B, T]."""
        return losses.cross_entropy(logits, labels)
