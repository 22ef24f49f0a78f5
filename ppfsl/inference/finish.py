"""Finishing a trained embedder: mirror images, power transform, centring, whitening (`embedding` in configurations).

What classes that were never trained on gain from: Hu, Gripon and Pateux 2021 ("Leveraging the Feature Distribution in
Transfer-Based Few-Shot Learning") take roots of embeddings, so that few large numbers do not decide alone; Wang, Chao,
Weinberger and van der Maaten 2019 ("SimpleShot") subtract the mean embedding of the base classes; Hatch, Kajarekar and
Stolcke 2006 ("Within-Class Covariance Normalization for SVM-based Speaker Recognition") divide by the square root of
the covariance within the classes that they trained on.
"""

from dataclasses import replace

import numpy as np

from ppfsl.backbones.embedder import CENTER, WHITENING, Architecture, Embedder
from ppfsl.backbones.weights import embedder_with, weights_of
from ppfsl.config import EmbeddingConfig
from ppfsl.data.class_split import part_images
from ppfsl.distances import normalized
from ppfsl.distributed import ALONE, World
from ppfsl.errors import UserError
from ppfsl.inference.cache import EmbeddingCache
from ppfsl.subject import Data


def finished(
    embedder: Embedder, config: EmbeddingConfig, data: Data, cache: EmbeddingCache, world: World = ALONE
) -> Embedder:
    """The embedder as the configuration wants it finished; the same one where there is nothing to do.

    Args:
        embedder: trained; left as it was.
        config: what to do.
        data: which `check_finish` has passed, whose base images mean and covariance are of.
        cache: keeps what the backbone makes of these.
        world: the processes that divide the work.

    Raises:
        UserError: when base images are needed that do not vary.
    """
    wanted, result = planned(embedder.architecture, config), uncentered(embedder, config)
    if not (wanted.centered or wanted.whitened):
        return result
    rows = part_images(data.table, data.split, "base")
    projected = cache.projected(result, data.table, rows, "embedding base images", world)
    straight = projected if result.architecture.straightens else normalized(projected)
    weights = weights_of(result)
    if wanted.centered:
        weights[CENTER] = straight.mean(0, dtype=np.float64).astype(np.float32)
    if config.whitening is not None:
        weights[WHITENING] = whitening(straight, data.table.labels[rows], config.whitening).astype(np.float32)
    return embedder_with(wanted, weights, "a finished embedder")


def check_finish(config: EmbeddingConfig, data: Data) -> None:
    """Raise where the data cannot serve `finished`; nothing is embedded.

    Raises:
        UserError: when base images are needed, but the split has no base classes, or one without images.
    """
    if config.center == "none" and config.whitening is None:
        return
    if not data.split.base.classes:
        key = "center: base" if config.center == "base" else "whitening"
        raise UserError(f"embedding.{key} needs base classes, but split {data.split.name} has none; leave it out")
    part_images(data.table, data.split, "base")


def planned(architecture: Architecture, config: EmbeddingConfig) -> Architecture:
    """What an embedder's architecture is when it has been finished as the configuration wants."""
    return replace(
        architecture,
        mirror=config.mirror,
        power=float(config.power),
        centered=config.center == "base",
        whitened=config.whitening is not None,
    )


def whitening(vectors: np.ndarray, labels: np.ndarray, shrinkage: float) -> np.ndarray:
    """(S + shrinkage * v I)^(-1/2) times sqrt(v), S the covariance within classes and v its mean variance.

    Args:
        vectors: [N, D].
        labels: int64 [N].
        shrinkage: greater than 0.

    Returns:
        float64 [D, D], symmetric; for a great shrinkage s about the identity divided by sqrt(s).

    Raises:
        UserError: when no class's vectors differ.
    """
    places = np.unique(labels, return_inverse=True)[1]
    sums = np.zeros((int(places.max()) + 1, vectors.shape[1]))
    np.add.at(sums, places, vectors)
    apart = vectors - (sums / np.bincount(places)[:, None])[places]
    variances, directions = np.linalg.eigh(apart.T @ apart / len(apart))
    mean = variances.mean()
    if not mean > 1e-12:
        raise UserError("embedding.whitening needs base classes whose images differ; leave it out")
    return (directions * np.sqrt(mean / (variances.clip(0) + shrinkage * mean))) @ directions.T


def uncentered(embedder: Embedder, config: EmbeddingConfig) -> Embedder:
    """The embedder with mirror images and power transform as the configuration wants them, which takes no images."""
    architecture = replace(planned(embedder.architecture, config), centered=False, whitened=False)
    return embedder if architecture == embedder.architecture else _rebuilt(embedder, architecture)


def unfinished(embedder: Embedder) -> Embedder:
    """What an embedder was before it was finished; the same one where it was not."""
    architecture = embedder.architecture.unfinished()
    return embedder if architecture == embedder.architecture else _rebuilt(embedder, architecture)


def _rebuilt(embedder: Embedder, architecture: Architecture) -> Embedder:
    """Of a like architecture, with the trained weights alone."""
    weights = {name: value for name, value in weights_of(embedder).items() if name not in (CENTER, WHITENING)}
    return embedder_with(architecture, weights, "a trained embedder")
