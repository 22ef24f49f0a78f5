"""Asking a classifier about pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ppfsl.backbones.embedder import Architecture
from ppfsl.classifier.model import THUMBNAIL, Classifier
from ppfsl.classifier.pictures import Unreadable
from ppfsl.data.augmentation import center_crop
from ppfsl.data.decode import jpeg_of, read_square, thumbnails_of
from ppfsl.inference.cache import NO_CACHE, EmbeddingCache
from ppfsl.inference.engine import predictor, to_pixels
from ppfsl.inference.saved import Run

BATCH = 32


@dataclass(frozen=True)
class Answer:
    """What a classifier says of a picture.

    Attributes:
        name: of the picture.
        label: its most probable class.
        probabilities: class -> probability, the most probable first; they sum to 1.
        similarity: greatest cosine to a class mean.
        unlike: whether that is below the rejection threshold: it is probably of none of the classes.
        nearest: (file, class, cosine) of the support pictures most like it, the nearest first.
        places: of the same among the classifier's support pictures.
        thumbnail: a small JPEG of the picture, if asked for.
    """

    name: str
    label: str
    probabilities: dict[str, float]
    similarity: float
    unlike: bool
    nearest: tuple[tuple[str, str, float], ...]
    places: tuple[int, ...] = ()
    thumbnail: bytes | None = None

    @property
    def probability(self) -> float:
        """Of the label."""
        return self.probabilities[self.label]


@dataclass(frozen=True)
class Embedded:
    """A picture that was read: uint8 [S, S, C], and its embedding, float32 [D]."""

    square: np.ndarray
    embedding: np.ndarray


def embed_pictures(
    pictures: Sequence[tuple[str, Path | bytes]], resize: int, architecture: Architecture, run: Run
) -> list[Embedded | Unreadable]:
    """Read pictures and embed those that can be read, all at once.

    Args:
        pictures: (name, file or content).
        resize: pixels of the shorter side.
        architecture: of the embedder.
        run: the embedder as a function of pixels.
    """
    read: list[np.ndarray | Unreadable] = []
    for name, file in pictures:
        try:
            read.append(read_square(file, resize, architecture.channels))
        except ValueError as error:
            read.append(Unreadable(name, str(error)))
    squares = [one for one in read if not isinstance(one, Unreadable)]
    embeddings: Iterator[np.ndarray] = iter(())
    if squares:
        embeddings = iter(run(to_pixels(center_crop(np.stack(squares), architecture.image_size))))
    return [one if isinstance(one, Unreadable) else Embedded(one, next(embeddings)) for one in read]


class Labeller:
    """A classifier ready to be asked: its embedder is exported once, unless it is for a few pictures.

    Args:
        classifier: the classifier.
        nearest: how many support pictures each answer names.
        thumbnails: whether answers have one.
        pictures: how many it will be asked about; None: who knows.
        cache: keeps what the embedder makes of pictures.
    """

    def __init__(
        self,
        classifier: Classifier,
        nearest: int = 1,
        thumbnails: bool = False,
        pictures: int | None = None,
        cache: EmbeddingCache = NO_CACHE,
    ) -> None:
        self.classifier, self._nearest, self._thumbnails = classifier, nearest, thumbnails
        self._run: Run = cache.remembering(classifier.embedder, lambda: predictor(classifier.embedder, pictures))

    def label(self, files: Sequence[Path | Unreadable]) -> Iterator[Answer | Unreadable]:
        """One answer per file, in order, a batch at a time; a picture that cannot be read does not stop the rest."""
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            answers = iter(self.label_batch([(str(file), file) for file in batch if isinstance(file, Path)]))
            yield from (file if isinstance(file, Unreadable) else next(answers) for file in batch)

    def label_batch(self, pictures: Sequence[tuple[str, Path | bytes]]) -> list[Answer | Unreadable]:
        """The same for (name, file or content) of pictures that are held in memory at once."""
        classifier = self.classifier
        found = embed_pictures(pictures, classifier.resize, classifier.embedder.architecture, self._run)
        return [
            one if isinstance(one, Unreadable) else self._answer(name, one.embedding, one.square)
            for (name, _), one in zip(pictures, found, strict=True)
        ]

    def _answer(self, name: str, embedding: np.ndarray, square: np.ndarray) -> Answer | Unreadable:
        from scipy.special import softmax  # takes a tenth of a second

        classifier = self.classifier
        names = classifier.class_names
        with np.errstate(all="ignore"):  # of numbers that are then refused
            logits = classifier.logits(embedding).astype(np.float64)
        if not np.isfinite(logits).all():
            return Unreadable(name, "the classifier's numbers for it are not finite; build the classifier again")
        shares = softmax(logits)
        order = np.argsort(-shares, kind="stable")
        similarity = float((classifier.means @ embedding).max())
        cosines = classifier.embeddings @ embedding
        nearest = np.argsort(-cosines, kind="stable")[: self._nearest]
        rejection = classifier.rejection
        return Answer(
            name=name,
            label=names[order[0]],
            probabilities={names[place]: float(shares[place]) for place in order},
            similarity=similarity,
            unlike=rejection is not None and similarity < rejection.threshold,
            nearest=tuple(
                (classifier.files[place], names[classifier.labels[place]], float(cosines[place])) for place in nearest
            ),
            places=tuple(int(place) for place in nearest),
            thumbnail=jpeg_of(thumbnails_of(square[None], THUMBNAIL)[0]) if self._thumbnails else None,
        )
