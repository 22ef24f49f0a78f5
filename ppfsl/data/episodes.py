"""Episodes: which images are support and which are query, as pure functions of (seed, index)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ppfsl.errors import UserError
from ppfsl.randomness import generator


@dataclass(frozen=True)
class Episode:
    """One few-shot task, as indices.

    Attributes:
        classes: int64 [way], the data set's labels; label j inside the episode stands for `classes[j]`.
        support: int64 [way, shot], image indices.
        query: int64 [way, query], image indices, disjoint from `support`.
    """

    classes: np.ndarray
    support: np.ndarray
    query: np.ndarray


class EpisodeSampler:
    """Episodes by number: `sampler[i]` depends on (seed, i), the images and the classes alone.

    Queries are drawn before the support set, so samplers that differ in `shot` alone pose the same classes and queries,
    and the smaller support set is contained in the larger.

    Args:
        rows: int64 [N], indices of the images to draw from.
        labels: [N], their classes.
        way, shot, query: classes per episode; support and query images per class.
        seed: a non-negative integer.
        keys: of the configuration that ask for the episodes, for the errors.
        part: of the split that the images are of, for the errors.
        names: of the classes, by label, for the errors; None: they have none.

    Raises:
        UserError: when there are fewer classes than `way`, or a class has fewer images than shot + query.
    """

    def __init__(
        self,
        rows: np.ndarray,
        labels: np.ndarray | Sequence[int],
        way: int,
        shot: int,
        query: int,
        seed: int,
        keys: str = "evaluation",
        part: str | None = None,
        names: Mapping[int, str] | None = None,
    ) -> None:
        self.way, self.shot, self.query, self.seed = way, shot, query, seed
        order = np.argsort(rows)  # so that the caller's order does not matter
        self._rows_of = group_by_class(np.asarray(rows)[order], np.asarray(labels)[order])
        self._classes = np.asarray(sorted(self._rows_of), dtype=np.int64)
        part = part or {"objective": "base", "validation": "validation"}.get(keys)
        check_way(len(self._classes), way, f"{way}-way episodes need", f"{keys}.way", part)
        check_sizes(self._rows_of, shot, query, keys, names)

    def __getitem__(self, index: int) -> Episode:
        """The episode of that number (from 0)."""
        rng = generator(self.seed, "episode", index)
        classes = rng.choice(self._classes, self.way, replace=False)
        queries, supports = [], []
        for label in classes:
            # The prefix of a permutation, so that it does not depend on how long a prefix is taken.
            order = rng.permutation(self._rows_of[int(label)])
            queries.append(order[: self.query])
            supports.append(order[self.query : self.query + self.shot])
        return Episode(classes, np.stack(supports), np.stack(queries))

    def take(self, count: int, start: int = 0) -> Iterator[Episode]:
        """Episodes `start` to `start + count - 1`."""
        return (self[index] for index in range(start, start + count))


def group_by_class(rows: np.ndarray, labels: np.ndarray) -> dict[int, np.ndarray]:
    """label -> its image indices, in the order given."""
    if not len(rows):  # of which `split` would make one group
        return {}
    order = np.argsort(labels, kind="stable")
    classes, starts = np.unique(labels[order], return_index=True)
    return {
        int(label): np.asarray(group, dtype=np.int64)
        for label, group in zip(classes, np.split(np.asarray(rows)[order], starts[1:]), strict=True)
    }


def check_way(classes: int, way: int, what: str, key: str, part: str | None) -> None:
    """Raise unless there are so many classes.

    Args:
        classes: how many there are.
        way: how many there must be.
        what: needs them, the sentence's beginning.
        key: of the configuration, to be lowered where that helps.
        part: of the split that the classes are of; None: not known.

    Raises:
        UserError: saying how many are missing where.
    """
    if classes < way:
        named = f"{classes} {part} class{'es' * (classes != 1)}" if part else f"{classes}"
        remedy = (
            f"lower {key}"
            if classes > 1
            else "add classes, or give this part more by data.split_ratio or another data.split"
        )
        raise UserError(f"{what} {way} classes, but there {'is' if classes == 1 else 'are'} {named}; {remedy}")


def check_sizes(
    rows_of: Mapping[int, np.ndarray],
    shot: int,
    query: int,
    keys: str = "evaluation",
    names: Mapping[int, str] | None = None,
) -> None:
    """Raise unless every class can give `shot` support and `query` query images.

    Raises:
        UserError: naming the smallest class; of base classes, whose labels training numbers anew, only its size.
    """
    label, rows = min(rows_of.items(), key=lambda item: len(item[1]))
    if len(rows) < shot + query:
        name = "a base class" if keys == "objective" else f"class {label}"
        if names is not None:
            name += f" ({names[label]})"
        lower = " or ".join(f"{keys}.{key}" for key, value in (("shot", shot), ("query", query)) if value > 1)
        raise UserError(
            f"{name} has {len(rows)} image{'s' * (len(rows) != 1)}, but {shot} shot{'s' * (shot != 1)} and "
            f"{query} quer{'y' if query == 1 else 'ies'} need {shot + query}; "
            + (f"lower {lower}, or add images" if lower else "add images")
        )
