"""Write embeddings of length one and episodes on them, for ppfsl and its peers alike."""

import argparse

import numpy as np

from benchmarks.programs.common import report
from benchmarks.settings import EPISODES
from ppfsl.data.episodes import EpisodeSampler


def main() -> None:
    """Classes overlap, so that accuracies tell answers apart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--episodes", type=int, required=True)
    arguments = parser.parse_args()
    size = EPISODES
    chance = np.random.default_rng(0)
    labels = np.repeat(np.arange(size.classes), size.images_per_class)
    centres = chance.normal(size=(size.classes, size.dim))
    features = centres[labels] + chance.normal(0, 5.0, (len(labels), size.dim))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    sampler = EpisodeSampler(np.arange(len(labels)), labels, size.way, size.shot, size.query, seed=0)
    episodes = list(sampler.take(arguments.episodes))
    np.savez(
        arguments.file,
        features=features.astype(np.float32),
        labels=labels,
        classes=np.stack([episode.classes for episode in episodes]),
        support=np.stack([episode.support for episode in episodes]),
        query=np.stack([episode.query for episode in episodes]),
    )
    report()


if __name__ == "__main__":
    main()
