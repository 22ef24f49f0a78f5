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
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    with np.load(arguments.file) as drawn:
        features, labels = torch.from_numpy(drawn["features"]), drawn["labels"].tolist()
        supports, queries = drawn["support"], drawn["query"]
    methods: dict[str, FewShotClassifier] = {
        "prototypical": PrototypicalNetworks(),
        "simple_shot": SimpleShot(),
        "finetune": Finetune(fine_tuning_steps=HEAD.steps, fine_tuning_lr=HEAD.lr, temperature=HEAD.scale),
    }
    model = methods[arguments.method].eval()
    if arguments.draw:
        _with_its_own_sampler(model, features, labels, len(supports))
        return
    run(model, features, supports[:20], queries[:20])
    start = time.perf_counter()
    right = run(model, features, supports, queries)
    seconds = time.perf_counter() - start
    accuracy = sum(right) / queries.size
    report(episodes_per_second=len(supports) / seconds, accuracy=accuracy, timed=str(len(supports)), outputs=right)


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


def _with_its_own_sampler(model: FewShotClassifier, features: torch.Tensor, labels: list[int], count: int) -> None:
    random.seed(0)
    dataset = FeaturesDataset(labels, features, [str(label) for label in sorted(set(labels))])
    size = EPISODES
    start = time.perf_counter()
    sampler = TaskSampler(dataset, size.way, size.shot, size.query, count)
    loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=sampler.episodic_collate_fn)
    accuracy = evaluate(model, loader, device="cpu", use_tqdm=False)
    seconds = time.perf_counter() - start
    report(episodes_per_second=count / seconds, accuracy=accuracy, timed=str(count))


if __name__ == "__main__":
    main()
