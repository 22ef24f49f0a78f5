"""Random numbers as pure functions of a key: no global state, hence no dependence on workers or order."""

import hashlib
import json
import operator

import numpy as np


def generator(seed: int, *key: int | str) -> np.random.Generator:
    """The numpy generator of a key, such as `generator(seed, "augment", epoch, step)`.

    Equal keys give equal streams on every machine; different keys give independent ones. The key is hashed, because
    numpy's own seeding from a list takes [1] and [1, 0], or [2**32 + 5] and [5, 1], for the same.

    Args:
        seed: the run's seed, a non-negative integer.
        key: what the numbers are for: words and non-negative integers.
    """
    text = json.dumps([part if isinstance(part, str) else operator.index(part) for part in (seed, *key)])
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest(), "little"))
