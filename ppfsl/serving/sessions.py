"""What visitors of the page have brought: pictures and classifiers, in memory alone, each visitor's apart."""

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ppfsl.classifier.build import Built, Source, SupportSet, classifier_from
from ppfsl.classifier.model import THUMBNAIL, classifier_file
from ppfsl.classifier.pictures import Unreadable
from ppfsl.classifier.predict import BATCH, Answer, Labeller, embed_pictures
from ppfsl.config import ClassMeanConfig, FinetuneConfig
from ppfsl.data.decode import jpeg_of, thumbnails_of
from ppfsl.errors import UserError
from ppfsl.inference.engine import predictor

LONGEST_NAME = 100  # characters


@dataclass(frozen=True)
class Limits:
    """What a visitor may bring, and how many visitors there may be."""

    classes: int = 50
    pictures_per_class: int = 50
    pictures_per_request: int = 50
    request_bytes: int = 64_000_000
    sessions: int = 100
    idle_seconds: float = 1800.0
    pictures: int = 20_000
    """Support pictures of all visitors together."""
    uploads: int = 10
    """Requests whose pictures are on their way or at work; more are sent away."""
    waiting: int = 8
    """Requests that wait for their turn; more are sent away."""


class LimitError(UserError):
    """More than the limits allow."""


class UnknownSessionError(UserError):
    """There is no such session, or no longer."""


@dataclass(frozen=True)
class Picture:
    """A support picture: its name, class, embedding [D] and small copy [THUMBNAIL, THUMBNAIL, C]."""

    name: str
    label: str
    embedding: np.ndarray
    thumbnail: np.ndarray

    def jpeg(self) -> bytes:
        """The small copy as a file."""
        return jpeg_of(self.thumbnail)


@dataclass
class Session:
    """One visitor's pictures by number, and the classifier that was last built of them."""

    pictures: dict[int, Picture] = field(default_factory=dict)
    built: tuple[Labeller, tuple[int, ...]] | None = None  # with the numbers of the pictures that it was built of
    next_number: int = 1
    used: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def labels(self) -> list[str]:
        """The classes, in the order in which they came."""
        return list(dict.fromkeys(picture.label for picture in self.pictures.values()))


class Sessions:
    """All visitors.

    Args:
        source: the embedder that serves all.
        adaptation: how heads are made.
        limits: of visitors and what they bring.
        clock: seconds, never backwards.
    """

    def __init__(
        self,
        source: Source,
        adaptation: ClassMeanConfig | FinetuneConfig,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits or Limits()
        self._source, self._adaptation, self._clock = source, adaptation, clock
        self._embed = predictor(source.embedder)
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def open(self) -> str:
        """A new session's token.

        Raises:
            LimitError: when there are too many.
        """
        with self._lock:
            self._sweep()
            if len(self._sessions) >= self.limits.sessions:
                raise LimitError("there are too many visitors at the moment; come back later")
            token = secrets.token_urlsafe(24)
            self._sessions[token] = Session(used=self._clock())
        return token

    def get(self, token: str) -> Session:
        """The session of a token.

        Raises:
            UnknownSessionError: when it has ended, or never was.
        """
        with self._lock:
            self._sweep()
            if token not in self._sessions:
                raise UnknownSessionError("this session has ended; reload the page")
            session = self._sessions[token]
            session.used = self._clock()
        return session

    def close(self, token: str) -> None:
        """Forget a session, if there is one."""
        with self._lock:
            self._sessions.pop(token, None)

    def _sweep(self) -> None:
        oldest = self._clock() - self.limits.idle_seconds
        for token in [token for token, session in self._sessions.items() if session.used < oldest]:
            del self._sessions[token]

    def add(self, session: Session, label: str, files: Sequence[tuple[str, bytes]]) -> list[int | Unreadable]:
        """Add pictures (name, content) to a class: each one's number, or why it cannot be read.

        Raises:
            UserError: for an empty or long name of a class.
            LimitError: when there would be too many classes or pictures; nothing is added then.
        """
        label = label.strip()
        if not label or len(label) > LONGEST_NAME or not label.isprintable():
            raise UserError(f"a class needs a name of 1 to {LONGEST_NAME} printable characters")
        with self._lock:
            held = sum(len(session.pictures) for session in self._sessions.values())
        if held + len(files) > self.limits.pictures:
            raise LimitError("there are too many pictures of all visitors at the moment; come back later")
        read: list[Picture | Unreadable] = []
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            found = embed_pictures(batch, self._source.resize, self._source.embedder.architecture, self._embed)
            read += [
                one
                if isinstance(one, Unreadable)
                else Picture(name, label, one.embedding, thumbnails_of(one.square[None], THUMBNAIL)[0])
                for (name, _), one in zip(batch, found, strict=True)
            ]
        with session.lock:
            of_class = sum(picture.label == label for picture in session.pictures.values())
            if not of_class and len(session.labels()) >= self.limits.classes:
                raise LimitError(f"there are {self.limits.classes} classes already, which is the most")
            if of_class + sum(isinstance(one, Picture) for one in read) > self.limits.pictures_per_class:
                raise LimitError(f"a class may have {self.limits.pictures_per_class} pictures at most")
            answers: list[int | Unreadable] = []
            for one in read:
                if isinstance(one, Picture):
                    session.pictures[session.next_number] = one
                    answers.append(session.next_number)
                    session.next_number += 1
                else:
                    answers.append(one)
        return answers

    def remove(self, session: Session, numbers: Sequence[int]) -> None:
        """Forget support pictures; unknown numbers are passed over."""
        with session.lock:
            for number in numbers:
                session.pictures.pop(number, None)

    def build(self, session: Session) -> Built:
        """Build a classifier of the session's pictures as they are now.

        Raises:
            UserError: when there are fewer than two classes.
        """
        with session.lock:
            pictures = dict(session.pictures)
            names = session.labels()
        if len(names) < 2:
            raise UserError("a classifier needs pictures of two classes or more")
        given = SupportSet(
            class_names=tuple(names),
            labels=np.array([names.index(picture.label) for picture in pictures.values()], dtype=np.int64),
            embeddings=np.stack([picture.embedding for picture in pictures.values()]),
            thumbnails=np.stack([picture.thumbnail for picture in pictures.values()]),
            files=tuple(picture.name for picture in pictures.values()),
        )
        built = classifier_from(self._source, self._adaptation, given)
        with session.lock:
            session.built = Labeller(built.classifier, nearest=3), tuple(pictures)
        return built

    def answer(
        self, session: Session, files: Sequence[tuple[str, bytes]]
    ) -> list[tuple[Answer | Unreadable, tuple[int, ...]]]:
        """Label pictures by the classifier that was last built; with each answer the numbers of its nearest pictures.

        Raises:
            UserError: when none has been built.
        """
        labeller, numbers = _built(session)
        answers = labeller.label_batch(files)
        places = [answer.places if isinstance(answer, Answer) else () for answer in answers]
        return [(one, tuple(numbers[place] for place in of)) for one, of in zip(answers, places, strict=True)]

    def file(self, session: Session) -> bytes:
        """The classifier that was last built as tools/finetune.py would have written it.

        Raises:
            UserError: when none has been built.
        """
        return classifier_file(_built(session)[0].classifier)


def _built(session: Session) -> tuple[Labeller, tuple[int, ...]]:
    with session.lock:
        built = session.built
    if built is None:
        raise UserError("there is no classifier yet; build one first")
    return built
