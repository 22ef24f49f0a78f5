"""A run's embeddings on real images: pairs and triplets with their scores, one episode, the ROC curve."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from ppfsl.config import ClassMeanConfig, Config
from ppfsl.data.decode import thumbnails_of
from ppfsl.data.episodes import Episode, group_by_class
from ppfsl.errors import UserError
from ppfsl.evaluation import scores
from ppfsl.methods.base import Method
from ppfsl.methods.build import build_method
from ppfsl.methods.similarity import Similarity
from ppfsl.randomness import generator
from ppfsl.reporting.checks import episode_map, episode_points, pair_sheet, roc_plot, triplet_sheet
from ppfsl.reporting.mistakes import mistake_sheet, most_confident
from ppfsl.reporting.report import Picture
from ppfsl.subject import Data, Subject, gather_for, gather_vectors
from ppfsl.verification import draw_pairs

TITLES = ROC, PAIRS, TRIPLETS, EPISODE, MISTAKES = "ROC curve", "Pairs", "Triplets", "One episode", "Mistakes"
"""Of the pictures that a run may have; which it has depends on its configuration and images."""

_PAIRS = 16
_TRIPLETS = 6
_CANDIDATES = 500  # images among which a triplet's negative is the nearest
_THUMBNAIL = 96  # pixels
_MISTAKES = 6
_NEAREST = 3  # support images beside each
_MOST_WAY = 20  # classes in the map of an episode


def examples(config: Config, data: Data, subject: Subject, result: dict[str, Any], episode: Episode) -> list[Picture]:
    """The pictures of a run.

    Args:
        config: the run's.
        data: its images.
        subject: its embedder, and what that makes of the images.
        result: what is in result.json.
        episode: the one to draw.
    """
    trained, adaptations = subject.trained, (*config.adaptations, ClassMeanConfig(name="class_mean"))

    @functools.cache
    def method(place: int) -> Method:
        return build_method(adaptations[place], trained.embedder, config.seed, trained.layer)

    @functools.cache  # both pictures of the episode are mostly of one method
    def logits(place: int) -> np.ndarray:
        return scores(method(place), gather_for(method(place), data, subject), [episode])[0]

    drawn = next(place for place in range(len(adaptations)) if method(place).inputs != "image")
    found = [*_verification(result), *_pairs(data, subject, result), *_triplets(data, subject)]
    if len(episode.classes) <= _MOST_WAY:
        found.append(_episode(data, subject, episode, method(drawn), logits(drawn)))
    return [*found, *_mistakes(data, subject, episode, method(0), logits(0))]


def _verification(result: dict[str, Any]) -> Iterator[Picture]:
    """The ROC curve, where pairs were evaluated."""
    pairs = result.get("verification")
    if pairs is None:
        return
    point = pairs["false_accept_rate"], pairs["true_accept_rate"]
    figure = roc_plot(pairs["roc"]["fpr"], pairs["roc"]["tpr"], pairs["roc_auc"], pairs["equal_error_rate"], point)
    yield Picture(ROC, f"Over {pairs['pairs']} pairs of images of {pairs['part']} classes.", figure)


def _pairs(data: Data, subject: Subject, result: dict[str, Any]) -> Iterator[Picture]:
    """Some pairs with their similarity."""
    similarity = Similarity.of(subject.trained.layer)
    try:
        pairs = draw_pairs(data.table.labels[data.rows], _PAIRS, seed=0, purpose="shown pairs")
    except UserError:  # too few images for pairs
        return
    scores = similarity(subject.projected[pairs.left], subject.projected[pairs.right])
    threshold = result["verification"]["threshold"] if "verification" in result else None
    left, right = (_thumbnails(data, data.rows[side]) for side in (pairs.left, pairs.right))
    figure = pair_sheet(left, right, scores, pairs.same, threshold, similarity.name)
    yield Picture(PAIRS, f"By chance; half of them show one class. The number is the {similarity.name}.", figure)


def _triplets(data: Data, subject: Subject) -> Iterator[Picture]:
    """Some anchors with another image of their class and the nearest image of another class."""
    rng = generator(0, "shown triplets")
    labels = data.table.labels[data.rows]
    groups = group_by_class(np.arange(len(labels)), labels)
    large = [label for label, places in groups.items() if len(places) > 1]
    if not large or len(groups) < 2:
        return
    chosen = rng.choice(large, min(_TRIPLETS, len(large)), replace=False)
    anchors, positives = np.transpose([rng.choice(groups[int(label)], 2, replace=False) for label in chosen])
    candidates = rng.permutation(len(labels))[:_CANDIDATES]
    others = [next(places[0] for label, places in groups.items() if label != own) for own in chosen]
    candidates = np.concatenate([candidates, others])  # so that each anchor has a negative

    def distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return ((subject.embeddings[left] - subject.embeddings[right]) ** 2).sum(-1)

    to_others = distances(anchors[:, None], candidates[None])
    to_others = np.where(labels[candidates] == chosen[:, None], np.inf, to_others)
    negatives = candidates[to_others.argmin(1)]
    name = data.table.class_names
    names = [(name[int(own)], name[int(other)]) for own, other in zip(chosen, labels[negatives], strict=True)]
    images = (_thumbnails(data, data.rows[places]) for places in (anchors, positives, negatives))
    figure = triplet_sheet(*images, distances(anchors, positives), distances(anchors, negatives), names)
    text = (
        "Anchor and positive by chance; the negative is the nearest image of another class among "
        f"{len(candidates)}. Squared Euclidean distances of embeddings of length one, 0 to 4."
    )
    yield Picture(TRIPLETS, text, figure)


def _episode(data: Data, subject: Subject, episode: Episode, method: Method, logits: np.ndarray) -> Picture:
    """The vectors of one episode in the plane, with the answers of a method that works on vectors."""
    way, shot = episode.support.shape
    gather = gather_for(method, data, subject)
    support, query = gather(episode.support), gather(episode.query)
    vectors = np.concatenate([support.mean(1), support.reshape(way * shot, -1), query.reshape(-1, query.shape[-1])])
    sizes = {"prototype": 1, "support": shot, "query": episode.query.shape[1]}
    labels = np.concatenate([np.repeat(np.arange(way), size) for size in sizes.values()])
    roles = np.repeat(list(sizes), [way * size for size in sizes.values()])
    names = [data.table.class_names[int(label)] for label in episode.classes]
    figure = episode_map(episode_points(vectors), labels, roles, logits.argmax(-1), names)
    text = (
        f"The run's support set and its queries, {way}-way {shot}-shot, with the answers of {method.name}, in the two "
        "directions of greatest variance; a prototype is the mean of its class's shots."
    )
    return Picture(EPISODE, text, figure)


def _mistakes(data: Data, subject: Subject, episode: Episode, method: Method, logits: np.ndarray) -> Iterator[Picture]:
    """What a method got wrong and was surest of."""
    truth, labels = (np.repeat(np.arange(len(part)), part.shape[1]) for part in (episode.query, episode.support))
    gather = gather_vectors(data, subject.embeddings)
    query, support = gather(episode.query.ravel()), gather(episode.support.ravel())
    found = most_confident(logits, truth, query, support, _MISTAKES, min(_NEAREST, len(labels)))
    if not len(found.queries):
        return
    images = (_thumbnails(data, part.ravel()) for part in (episode.query, episode.support))
    names = [data.table.class_names[int(label)] for label in episode.classes]
    text = (
        f"Queries of the run's support set that {method.name} got wrong, {int((logits.argmax(-1) != truth).sum())} of "
        f"{len(truth)} in all, the surest answers first (softmax probability), and the support images whose embeddings "
        "are most like the query's."
    )
    yield Picture(MISTAKES, text, mistake_sheet(*images, truth, labels, found, names))


def _thumbnails(data: Data, rows: np.ndarray) -> np.ndarray:
    """Images of the table, at most 96 pixels a side: uint8 [N, S, S, C]."""
    images = data.table.images[rows]
    return thumbnails_of(images, _THUMBNAIL) if images.shape[1] > _THUMBNAIL else images
