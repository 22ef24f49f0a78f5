"""Evaluate a method of easyfsl on the same cached embeddings; prints episodes per second. Runs without ppfsl."""

import argparse
import os
import random
import time

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks.programs.common import report
from benchmarks.programs.easyfsl_import import (
    FeaturesDataset,
    FewShotClassifier,
    Finetune,
    PrototypicalNetworks,
    SimpleShot,
    TaskSampler,
    evaluate,
)
from benchmarks.settings import EPISODES, HEAD


def main() -> None:
    """From the episodes' indices to accuracies, as easyfsl's own evaluation does it, a task at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("method", choices=["prototypical", "simple_shot", "finetune"])
    parser.add_argument("--draw", action="store_true", help="by easyfsl's sampler, loader and evaluation")
    parser.add_argument("--sample", type=int, default=None, help="so many of the episodes")
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    with np.load(arguments.file) as drawn:
        features, labels = torch.from_numpy(drawn["features"]), drawn["labels"].tolist()
        supports, queries = drawn["support"][: arguments.sample], drawn["query"][: arguments.sample]
        timed = f"{len(supports)} of {len(drawn['support'])}" if arguments.sample else str(len(supports))
    methods: dict[str, FewShotClassifier] = {
        "prototypical": PrototypicalNetworks(),
        "simple_shot": SimpleShot(),
        "finetune": Finetune(fine_tuning_steps=HEAD.steps, fine_tuning_lr=HEAD.lr, temperature=HEAD.scale),
    }
    model, count = methods[arguments.method].eval(), len(supports)
    run(model, features, supports[:20], queries[:20])
    if arguments.draw:
        seconds, accuracy = with_its_own_sampler(model, features, labels, count)
        report(episodes_per_second=count / seconds, accuracy=accuracy, timed=str(count))
        return
    start = time.perf_counter()
    right = run(model, features, supports, queries)
    seconds = time.perf_counter() - start
    accuracy = sum(right) / queries.size
    report(episodes_per_second=count / seconds, accuracy=accuracy, timed=timed, outputs=right)


@torch.no_grad()
def run(model: FewShotClassifier, features: torch.Tensor, supports: np.ndarray, queries: np.ndarray) -> list[int]:
    """The right queries of every episode."""
    way, shot = supports.shape[1:]
    labels, truth = (torch.arange(way).repeat_interleave(count) for count in (shot, queries.shape[2]))
    right = []
    for support, query in zip(supports, queries, strict=True):
        model.process_support_set(features[support.ravel()], labels)
        scores = model(features[query.ravel()])
        right.append(int((scores.argmax(1) == truth).sum()))
    return right


def with_its_own_sampler(
    model: FewShotClassifier, features: torch.Tensor, labels: list[int], count: int
) -> tuple[float, float]:
    """Seconds and accuracy of so many episodes as easyfsl draws and evaluates them."""
    random.seed(0)
    dataset = FeaturesDataset(labels, features, [str(label) for label in sorted(set(labels))])
    size = EPISODES
    start = time.perf_counter()
    sampler = TaskSampler(dataset, size.way, size.shot, size.query, count)
    loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=sampler.episodic_collate_fn)
    accuracy = evaluate(model, loader, device="cpu", use_tqdm=False)
    return time.perf_counter() - start, accuracy


if __name__ == "__main__":
    main()
