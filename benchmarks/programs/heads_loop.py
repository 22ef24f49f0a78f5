"""Fine-tune a head in Paddle, one episode after another, plainly; prints episodes per second."""

import argparse
import time

import numpy as np
import paddle
import paddle.nn.functional as F

from benchmarks.programs.common import report
from benchmarks.settings import HEAD

Head = tuple[paddle.Tensor, paddle.Tensor]
"""Weight [D, way] and bias [way] of a cosine classifier."""


def fine_tuned(support: paddle.Tensor, labels: paddle.Tensor, way: int, entropy: bool, head: dict[str, float]) -> Head:
    """A cosine classifier that starts at the class means.

    Args:
        support: [S, D], of length one.
        labels: int64 [S].
        way: classes.
        entropy: whether the mean entropy of the support images' predictions is added to the loss.
        head: steps, lr and scale.
    """
    means = paddle.stack([support[labels == label].mean(0) for label in range(way)], axis=1)
    weight = paddle.create_parameter(means.shape, "float32")
    weight.set_value(F.normalize(means, axis=0))
    bias = paddle.create_parameter([way], "float32", is_bias=True)
    optimizer = paddle.optimizer.Adam(head["lr"], parameters=[weight, bias])
    for _ in range(int(head["steps"])):
        logits = head["scale"] * (support @ F.normalize(weight, axis=0)) + bias
        loss = F.cross_entropy(logits, labels)
        if entropy:
            loss = loss - (F.softmax(logits) * F.log_softmax(logits)).sum(-1).mean()
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
    return weight.detach(), bias.detach()


def right_queries(query: paddle.Tensor, truth: np.ndarray, head: Head, scale: float) -> int:
    """How many of the queries [Q, D], of length one, get their true label (int64 [Q])."""
    weight, bias = head
    logits = scale * (query @ F.normalize(weight, axis=0)) + bias
    return int((logits.argmax(-1).numpy() == truth).sum())


def main() -> None:
    """A sample of the episodes: the rate is theirs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--sample", type=int, required=True, help="episodes that are timed, after one that is not")
    parser.add_argument("--entropy", choices=["none", "support"], default="none")
    arguments = parser.parse_args()
    with np.load(arguments.file) as drawn:
        features, supports, queries = drawn["features"], drawn["support"], drawn["query"]
    way, shot = supports.shape[1:]
    labels = paddle.to_tensor(np.repeat(np.arange(way), shot))
    truth = np.repeat(np.arange(way), queries.shape[2])

    def run(count: int) -> list[int]:
        right = []
        for support, query in zip(supports[:count], queries[:count], strict=True):
            inputs = paddle.to_tensor(features[support.ravel()])
            head = fine_tuned(inputs, labels, way, arguments.entropy == "support", HEAD._asdict())
            right.append(right_queries(paddle.to_tensor(features[query.ravel()]), truth, head, HEAD.scale))
        return right

    run(1)
    count = min(arguments.sample, len(supports))
    start = time.perf_counter()
    right = run(count)
    seconds = time.perf_counter() - start
    accuracy = sum(right) / (count * len(truth))
    timed = f"{count} of {len(supports)}" if count < len(supports) else str(count)
    report(episodes_per_second=count / seconds, accuracy=accuracy, timed=timed, outputs=right)


if __name__ == "__main__":
    main()
