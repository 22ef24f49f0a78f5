"""A data set that ppfsl draws itself, so that a first run needs no download: blossoms of many kinds.

A class is a combination of petals, pattern, colours and centre; light, pose, background and neighbours vary inside it.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from itertools import count
from operator import ne
from typing import TypeVar

import numpy as np
from PIL import Image

from ppfsl.data.blossoms import CENTRES, DRAWING, PATTERNS, Kind, paint
from ppfsl.data.scenery import Colour, rgb
from ppfsl.data.source import Load, Source
from ppfsl.errors import UserError
from ppfsl.randomness import generator

T = TypeVar("T")

# Families of petal colours: a class takes one shade of one family, and every family has as many classes as the others.
_FAMILIES: tuple[dict[str, Colour], ...] = (
    {"white": (0.15, 0.04, 0.97), "ivory": (0.13, 0.20, 0.96), "silver": (0.62, 0.10, 0.90)},
    {"yellow": (0.15, 0.85, 0.97), "golden": (0.12, 0.90, 0.95), "lemon": (0.16, 0.60, 0.98)},
    {"orange": (0.07, 0.88, 0.96), "apricot": (0.07, 0.55, 0.98), "amber": (0.09, 0.85, 0.92)},
    {"red": (0.00, 0.85, 0.86), "crimson": (0.97, 0.85, 0.75), "scarlet": (0.02, 0.90, 0.92)},
    {"pink": (0.93, 0.45, 0.96), "rose": (0.95, 0.62, 0.92), "salmon": (0.99, 0.48, 0.97)},
    {"magenta": (0.88, 0.72, 0.84), "purple": (0.82, 0.65, 0.70), "plum": (0.85, 0.62, 0.60)},
    {"violet": (0.74, 0.62, 0.84), "lilac": (0.77, 0.38, 0.92), "mauve": (0.80, 0.34, 0.86)},
    {"blue": (0.63, 0.72, 0.87), "azure": (0.57, 0.62, 0.94), "indigo": (0.68, 0.70, 0.72)},
)
# Second colours and colours of the centre: all families share them.
_MARKS: tuple[Colour, ...] = (
    (0.14, 0.06, 0.98),  # white
    (0.14, 0.70, 0.97),  # yellow
    (0.96, 0.85, 0.50),  # maroon
    (0.78, 0.65, 0.50),  # purple
    (0.94, 0.40, 0.97),  # pink
)
_CENTRES: tuple[Colour, ...] = (
    (0.13, 0.88, 0.95),  # yellow
    (0.07, 0.65, 0.32),  # brown
    (0.25, 0.60, 0.62),  # green
    (0.12, 0.12, 0.96),  # cream
    (0.80, 0.60, 0.28),  # dark purple
)
_CENTRE_SIZES = (0.13, 0.20, 0.29)
# Each flower with the shape of its petals, how many of them a ring may have, and how many rings there may be.
_FLOWERS: tuple[tuple[str, str, tuple[int, ...], tuple[int, ...]], ...] = (
    ("daisy", "strap", (8, 10, 13, 17), (1, 2)),
    ("lily", "lance", (4, 5, 6, 8), (1, 2)),
    ("buttercup", "round", (4, 5, 6, 8), (1, 2)),
    ("primrose", "heart", (4, 5, 6), (1, 2)),
    ("carnation", "fringe", (4, 5, 6, 8), (1, 2, 3)),
    ("cosmos", "spoon", (5, 6, 8, 10), (1, 2)),
)
_RINGS = ("", "double ", "triple ")


def synthetic_source(classes: int = 64, images_per_class: int = 40, seed: int = 0, size: int = 64) -> Source:
    """The drawn data set: labels 1..classes, RGB images of `size` x `size` pixels.

    An image depends on the seed, its label, its number and `size` alone: a larger data set holds the smaller one. At
    another size it is the same picture, drawn finer or coarser.

    Args:
        classes: 10..500.
        images_per_class: 2..9999.
        seed: of the kinds and of the pictures, 0 or more.
        size: pixels, 16..1024.

    Raises:
        UserError: for an argument out of these bounds.
    """
    for key, value, low, high in (
        ("data.synthetic.classes", classes, 10, 500),
        ("data.synthetic.images_per_class", images_per_class, 2, 9999),
        ("data.image_size", size, 16, 1024),
    ):
        if not low <= value <= high:
            raise UserError(f"{key} is {value}; set it to a whole number from {low} to {high}")
    if seed < 0:
        raise UserError(f"data.synthetic.seed is {seed}; set it to 0 or more")
    labels = np.repeat(np.arange(1, classes + 1, dtype=np.int64), images_per_class)
    numbers = np.tile(np.arange(1, images_per_class + 1), classes)

    def images() -> Iterator[tuple[int, Load]]:
        for row, (label, number) in enumerate(zip(labels.tolist(), numbers.tolist(), strict=True)):
            yield row, partial(draw_blossom, seed, label, number, size)

    return Source(
        name="synthetic",
        files=tuple(f"class_{label:03d}/blossom_{k:04d}.png" for label, k in zip(labels, numbers, strict=True)),
        labels=labels,
        class_names={label: class_kind(seed, label).name for label in range(1, classes + 1)},
        identity={
            "root": f"{classes}x{images_per_class}-seed{seed}",
            "drawing": DRAWING,
            "classes": classes,
            "images_per_class": images_per_class,
            "seed": seed,
            "size": size,
        },
        images=images,
    )


def draw_blossom(seed: int, label: int, index: int, size: int) -> Image.Image:
    """One picture of a class: RGB, `size` x `size` pixels.

    The same arguments give the same bytes, in any thread and order; other versions of numpy or Pillow may round
    otherwise.

    Args:
        seed: of the data set.
        label: the class, from 1.
        index: which of its pictures, from 1 (the number in the file's name).
        size: pixels.
    """
    return paint(class_kind(seed, label), generator(seed, "blossom", label, index), size)


def class_kind(seed: int, label: int) -> Kind:
    """The kind of flower that a class is, by the data set's seed and the label, from 1."""
    block, place = divmod(label - 1, len(_FAMILIES))
    if block < 0:
        raise ValueError(f"labels begin at 1, not {label}")
    return _kinds(seed, block + 1)[block * len(_FAMILIES) + place]


@lru_cache(maxsize=256)
def _kinds(seed: int, blocks: int) -> tuple[Kind, ...]:
    """The kinds of the first labels, in blocks that hold every colour family once; each is unlike all before it."""
    if blocks == 0:
        return ()
    kinds = list(_kinds(seed, blocks - 1))
    rng = generator(seed, "blossom kinds", blocks)
    for family in rng.permutation(len(_FAMILIES)):
        names, taken = {kind.name for kind in kinds}, [_traits(kind) for kind in kinds]
        for attempt in count():
            kind = _some_kind(rng, _FAMILIES[family])
            apart = max(1, 4 - attempt // 50)  # in so many traits, while there is room
            traits = _traits(kind)
            if kind.name not in names and all(sum(map(ne, traits, other)) >= apart for other in taken):
                break
        kinds.append(kind)
    return tuple(kinds)


def _some_kind(rng: np.random.Generator, family: dict[str, Colour]) -> Kind:
    colour, petal = _one_of(rng, tuple(family.items()))
    flower, shape, petal_counts, ring_counts = _one_of(rng, _FLOWERS)
    petals, rings, pattern = _one_of(rng, petal_counts), _one_of(rng, ring_counts), _one_of(rng, PATTERNS)
    visible = [mark for mark in _MARKS if np.abs(rgb(mark) - rgb(petal)).max() > 0.45]
    adjective = "" if pattern == "plain" else f"{pattern} "
    return Kind(
        name=f"{_RINGS[rings - 1]}{adjective}{colour} {petals}-petal {flower}",
        petals=petals,
        rings=rings,
        shape=shape,
        petal=petal,
        pattern=pattern,
        mark=_one_of(rng, visible),
        centre_style=_one_of(rng, CENTRES),
        centre_size=_one_of(rng, _CENTRE_SIZES),
        centre=_one_of(rng, _CENTRES),
    )


def _one_of(rng: np.random.Generator, values: Sequence[T]) -> T:
    return values[int(rng.integers(len(values)))]


def _traits(kind: Kind) -> tuple[object, ...]:
    """What must tell classes apart: all but the petals' colour, which light and weather blur."""
    mark = None if kind.pattern == "plain" else kind.mark
    centre = (kind.centre_style, kind.centre_size, kind.centre)
    return (kind.shape, kind.petals, kind.rings, kind.pattern, mark, *centre)
