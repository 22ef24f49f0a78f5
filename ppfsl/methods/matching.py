"""Matching Networks (Vinyals, Blundell, Lillicrap, Kavukcuoglu and Wierstra 2016, "Matching Networks for One Shot
Learning").

p(k | q) = the attention that falls on class k's shots; attention = softmax over all shots of cos(f(q), g(s)).
Without context f and g are the embedder. With full context embeddings, g is a bidirectional LSTM over the support set
and f an LSTM that reads the support set by attention, K times.
"""

from dataclasses import dataclass
from typing import Any, Literal

import paddle
import paddle.nn.functional as F
from paddle import nn

from ppfsl import losses
from ppfsl.distances import cosine
from ppfsl.methods.base import Classifier, Support


@dataclass(frozen=True)
class Matching:
    """Attention over the support images.

    Attributes:
        layer: the full context embeddings, or None for none; with them the order of the support set matters.
        temperature: divides the cosines; 1 in the paper.
        name: in reports.
    """

    layer: "FullContext | None" = None
    temperature: float = 1.0
    name: str = "matching"
    inputs: Literal["embedding"] = "embedding"
    transductive: bool = False

    def adapt(self, support: Support) -> Classifier:
        """Embed the support set in its own context, where that was learned."""
        context, shots = self.layer, support.inputs
        if context is not None:
            shots = context.of_support(shots)

        def classify(query: paddle.Tensor) -> paddle.Tensor:
            query = query if context is None else context.of_query(query, shots)
            # The logarithm of each class's attention, but for a constant, which a softmax over classes takes away.
            return support.over_shots(cosine(query, shots) / self.temperature, "logsumexp")

        return classify

    def loss(self, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        """The negative logarithm of the right class's share of the attention."""
        return losses.cross_entropy(logits, labels)


class FullContext(nn.Layer):
    """Full context embeddings, from embeddings of length one.

    The LSTMs' weights start with variance 1 / (4 D), a quarter of a linear layer's, so that training begins near the
    embeddings without context.

    Args:
        dim: D, of the embeddings.
        steps: K, how often a query reads the support set.
    """

    def __init__(self, dim: int, steps: int) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {"dim": dim, "steps": steps}
        zero = paddle.ParamAttr(initializer=nn.initializer.Constant(0.0))
        self.reader = nn.LSTM(dim, dim, direction="bidirect", bias_ih_attr=zero, bias_hh_attr=zero)
        # Takes [query, what it read]; the paper's state [h, r] is the same with r moved from the state to the input.
        self.cell = nn.LSTMCell(2 * dim, dim, bias_ih_attr=zero, bias_hh_attr=zero)

    def of_support(self, shots: paddle.Tensor) -> paddle.Tensor:
        """g(s) = s + the LSTM's outputs in both directions: [E, S, D] -> [E, S, D]."""
        forwards, backwards = self.reader(shots)[0].split(2, axis=-1)
        return shots + forwards + backwards

    def of_query(self, query: paddle.Tensor, shots: paddle.Tensor) -> paddle.Tensor:
        """f(q): K times r = the shots by attention softmax(h . g), then h = q + LSTM([q, r], h); h starts at 0.

        [E, Q, D] and [E, S, D] -> [E, Q, D].
        """
        episodes, queries, dim = query.shape
        flat = query.reshape([-1, dim])
        hidden, memory = paddle.zeros_like(flat), paddle.zeros_like(flat)
        for _ in range(self.arguments["steps"]):
            grouped = hidden.reshape([episodes, queries, dim])
            attention = F.softmax(paddle.matmul(grouped, shots, transpose_y=True), axis=-1)
            read = paddle.matmul(attention, shots).reshape([-1, dim])
            _, (output, memory) = self.cell(paddle.concat([flat, read], -1), (hidden, memory))
            hidden = flat + output
        return hidden.reshape([episodes, queries, dim])
