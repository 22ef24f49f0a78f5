"""How well rejection thresholds hold on classes and pictures that they were not chosen on.

    python examples/rejection.py -c configs/flowers102/frozen_mobilenet_v1.yaml

Support sets are drawn from the novel classes; the other pictures of their classes are known, pictures of the other
novel classes unknown. A threshold is chosen on each support set, and one on the validation classes; printed are the
shares that each promised, and those that came true, each with its standard deviation over the draws.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from ppfsl.cli import config_parser, read_config, run

SIZES, DRAWS, QUERIES = ((3, 5), (5, 2), (5, 5), (10, 5)), 300, 20
Embedded = tuple[np.ndarray, np.ndarray]  # embeddings of length one and their classes


def main() -> None:
    """Embed both parts, draw, print."""
    config, _ = read_config(config_parser(__doc__ or "").parse_args())
    from ppfsl.backbones.embedder import build_embedder
    from ppfsl.backbones.weights import load_pretrained
    from ppfsl.data.class_split import part_images
    from ppfsl.distances import normalized
    from ppfsl.pipeline import architecture_of, embedding_cache, open_data
    from ppfsl.runtime import choose_device

    choose_device(config.device)
    data, embedder = open_data(config), build_embedder(architecture_of(config), config.seed)
    load_pretrained(embedder, config.backbone.pretrained)
    parts: list[Embedded] = []
    for part in ("novel", "validation"):
        rows = part_images(data.table, data.split, part)
        projected = embedding_cache(config).projected(embedder, data.table, rows, f"embedding {part} images")
        parts.append((normalized(projected), data.table.labels[rows]))
    print("way shot  right  threshold by        promised: kept, rejected   true: kept, rejected")
    for way, shot in SIZES:
        _print(way, shot, *parts)


def _print(way: int, shot: int, novel: Embedded, validation: Embedded) -> None:
    from ppfsl.classifier.rejection import by_support_set, by_validation_classes

    chosen = by_validation_classes(*validation, way, shot, "")
    rng = np.random.default_rng(0)
    right: list[float] = []
    shares: dict[str, list[tuple[float, ...]]] = {"support set": [], "validation classes": []}
    for _ in range(DRAWS):
        support, own, cosines, classes, unknown = _draw(way, shot, *novel, rng)
        right.append((cosines.argmax(1) == classes).mean())
        for name, found in zip(shares, (by_support_set(support, own), chosen), strict=True):
            if found is not None:
                true = (cosines.max(1) >= found.threshold).mean(), (unknown < found.threshold).mean()
                shares[name].append((found.known_kept, found.unknown_rejected, *true))
    for name, values in shares.items():
        if values:
            statistics = zip(np.mean(values, 0), np.std(values, 0), strict=True)
            cells = (f"{100 * mean:3.0f} ± {100 * deviation:2.0f} %" for mean, deviation in statistics)
            print(f"{way:3} {shot:4} {100 * np.mean(right):5.1f} %  {name:18}", *cells, sep="  ")


def _draw(
    way: int, shot: int, embeddings: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Support embeddings and classes, known queries' cosines to class means and classes, unknown ones' greatest."""
    rows = [rng.permutation(np.flatnonzero(labels == label)) for label in rng.permutation(np.unique(labels))]
    queries = [of_class[shot : shot + QUERIES] for of_class in rows[:way]]
    support = embeddings[np.concatenate([of_class[:shot] for of_class in rows[:way]])]
    means = support.reshape(way, shot, -1).mean(1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    classes = np.repeat(np.arange(way), [len(of_class) for of_class in queries])
    unknown = np.concatenate([of_class[:QUERIES] for of_class in rows[way:]])
    return (
        support,
        np.repeat(np.arange(way), shot),
        embeddings[np.concatenate(queries)] @ means.T,
        classes,
        (embeddings[unknown] @ means.T).max(1),
    )


if __name__ == "__main__":
    run(main)
