"""Episodes to accuracy: mean, 95 % interval, per class, confusion."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle

from ppfsl.data.episodes import Episode
from ppfsl.distributed import ALONE, World
from ppfsl.methods.base import Method, Support
from ppfsl.progress import progress_bar

Gather = Callable[[np.ndarray], np.ndarray]
"""Image indices [E, M] -> what the method works on, float32 [E, M, ...]."""


@dataclass(frozen=True)
class Evaluation:
    """What a method scored.

    Attributes:
        way, shot, query: of the episodes.
        accuracies: float64 [episodes], each the fraction of an episode's queries that were right.
        classes: int64 [K], the labels of all classes that episodes could draw, ascending.
        confusion: int64 [K, K], queries of class i that were taken for class j.
        seconds: for adaptation and classification, without the embedding of images.
        unanswered: queries with logits that are not finite: wrong, and not in `confusion`.
    """

    way: int
    shot: int
    query: int
    accuracies: np.ndarray
    classes: np.ndarray
    confusion: np.ndarray
    seconds: float
    unanswered: int = 0

    @property
    def accuracy(self) -> float:
        """The mean over episodes, 0..1."""
        return float(self.accuracies.mean())

    @property
    def ci95(self) -> float:
        """Half the 95 % interval of the mean: 1.96 x standard deviation over episodes / sqrt(episodes)."""
        return float(1.96 * self.accuracies.std() / math.sqrt(len(self.accuracies)))

    def per_class(self, names: dict[int, str]) -> list[dict[str, Any]]:
        """Label, name, correct, total and accuracy of every class that was drawn."""
        rows = []
        for place, label in enumerate(self.classes.tolist()):
            total = int(self.confusion[place].sum())
            if total:
                correct = int(self.confusion[place, place])
                rows.append(
                    {
                        "label": label,
                        "name": names[label],
                        "correct": correct,
                        "total": total,
                        "accuracy": correct / total,
                    }
                )
        return rows

    def confusion_of_drawn(self) -> list[list[int]]:
        """The confusion matrix, rows and columns in the order of `per_class`."""
        drawn = self.confusion.sum(1) > 0
        return self.confusion[np.ix_(drawn, drawn)].tolist()


def evaluate(
    method: Method,
    gather: Gather,
    episodes: Sequence[Episode],
    classes: np.ndarray,
    progress: str | None = None,
    batch_bytes: int = 1 << 23,
    world: World = ALONE,
) -> Evaluation:
    """Run a method over episodes.

    Args:
        method: what adapts and classifies.
        gather: gives embeddings or images, as the method's `inputs` says.
        episodes: all of one way, shot and query.
        classes: all labels that an episode could hold.
        progress: the progress bar's text, or None for no bar.
        batch_bytes: episodes are put together until their inputs take about so much memory.
        world: the processes that divide these batches among themselves; each gets the whole result, which is that of
            one process.
    """
    way, shot = episodes[0].support.shape
    query = episodes[0].query.shape[1]
    classes = np.sort(classes)
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    accuracies, unanswered = np.zeros(len(episodes)), np.zeros(1, dtype=np.int64)
    truth = np.repeat(np.arange(way), query)
    one = gather(episodes[0].query[:1, :1].reshape(1, 1))
    size = max(1, min(200, batch_bytes // (one.nbytes * way * (shot + query))))
    start_time = time.perf_counter()
    with progress_bar(len(episodes), progress, "ep") as bar:
        for start in world.share(range(0, len(episodes), size)):
            batch = episodes[start : start + size]
            found = answers(method, gather, batch, start)
            accuracies[start : start + len(batch)] = (found == truth).mean(1)
            for episode, answer in zip(batch, found, strict=True):
                places = np.searchsorted(classes, episode.classes)
                given = answer >= 0
                np.add.at(confusion, (places[truth[given]], places[answer[given]]), 1)
            unanswered += (found < 0).sum()
            bar.update(min(len(batch) * world.size, len(episodes) - bar.n))
    accuracies, confusion, unanswered = (world.total(part) for part in (accuracies, confusion, unanswered))
    seconds = time.perf_counter() - start_time
    return Evaluation(way, shot, query, accuracies, classes, confusion, seconds, int(unanswered[0]))


def answers(method: Method, gather: Gather, batch: Sequence[Episode], start: int = 0) -> np.ndarray:
    """The label inside the episode that each query gets: int64 [E, way * query]; arguments as for `scores`.

    It is -1 where a logit is not finite, which argmax would take for class 0.
    """
    found = scores(method, gather, batch, start)
    return np.where(np.isfinite(found).all(-1), found.argmax(-1), -1)


def scores(method: Method, gather: Gather, batch: Sequence[Episode], start: int = 0) -> np.ndarray:
    """What a method makes of each query: logits [E, way * query, way].

    Args:
        method, gather: as for `evaluate`.
        batch: E episodes of one way, shot and query.
        start: the first one's number, by which methods key their random choices.
    """
    way, shot = batch[0].support.shape
    queries = paddle.to_tensor(gather(np.stack([episode.query.ravel() for episode in batch])))
    support = Support(
        inputs=paddle.to_tensor(gather(np.stack([episode.support.ravel() for episode in batch]))),
        labels=paddle.to_tensor(np.repeat(np.arange(way), shot)),
        way=way,
        numbers=np.arange(start, start + len(batch)),
        unlabelled=queries if method.transductive else None,
    )
    classify = method.adapt(support)
    with paddle.no_grad():
        return classify(queries).numpy()
