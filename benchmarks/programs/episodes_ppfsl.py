"""Evaluate a method of ppfsl on cached embeddings; prints episodes per second."""

import argparse
import os
import time

import numpy as np

from benchmarks.programs.common import median_of, report
from benchmarks.settings import EPISODES, HEAD
from ppfsl.runtime import prepare


def main() -> None:
    """All episodes, from their indices to accuracies; the first twenty are run before, uncounted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("method", choices=["prototypical", "class_mean", "finetune"])
    parser.add_argument("--draw", action="store_true", help="draw the episodes as well")
    parser.add_argument("--repeats", type=int, default=1, help="the median of so many times counts")
    parser.add_argument("--entropy", choices=["none", "support"], default="none")
    arguments = parser.parse_args()
    prepare(int(os.environ["OMP_NUM_THREADS"]))
    from ppfsl.config import FinetuneConfig, OptimizerConfig
    from ppfsl.data.episodes import Episode, EpisodeSampler
    from ppfsl.evaluation import Evaluation, evaluate
    from ppfsl.methods.base import Method
    from ppfsl.methods.class_mean import ClassMean
    from ppfsl.methods.finetune import Finetune
    from ppfsl.methods.prototypical import Prototypical

    head = FinetuneConfig(
        name="finetune",
        scale=HEAD.scale,
        entropy=arguments.entropy,
        steps=HEAD.steps,
        optimizer=OptimizerConfig(lr=HEAD.lr),
    )
    methods: dict[str, Method] = {
        "prototypical": Prototypical(),
        "class_mean": ClassMean(),
        "finetune": Finetune(head),
    }
    method = methods[arguments.method]
    with np.load(arguments.file) as drawn:
        features, labels = drawn["features"], drawn["labels"]
        given = [Episode(*parts) for parts in zip(drawn["classes"], drawn["support"], drawn["query"], strict=True)]

    def gather(rows: np.ndarray) -> np.ndarray:
        return features[rows]

    evaluate(method, gather, given[:20], np.unique(labels))

    def run() -> tuple[float, Evaluation]:
        start = time.perf_counter()
        episodes = given
        if arguments.draw:
            size = EPISODES
            sampler = EpisodeSampler(np.arange(len(labels)), labels, size.way, size.shot, size.query, seed=1)
            episodes = list(sampler.take(len(given)))
        done = evaluate(method, gather, episodes, np.unique(labels))
        return time.perf_counter() - start, done

    seconds, done = median_of(run, arguments.repeats)
    right = np.rint(done.accuracies * done.way * done.query).astype(int).tolist()
    report(episodes_per_second=len(given) / seconds, accuracy=done.accuracy, timed=str(len(given)), outputs=right)


if __name__ == "__main__":
    main()
