"""Random streams are functions of their key."""

import itertools
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfsl.randomness import generator

PART = st.one_of(st.integers(0, 2**70), st.text(max_size=5))
KEY = st.tuples(st.integers(0, 2**70), st.lists(PART, max_size=4))


def first(seed: int, *key: int | str) -> int:
    return int(generator(seed, *key).integers(2**63))


@settings(deadline=None)
@given(one=KEY, other=KEY)
def test_streams_are_equal_exactly_where_keys_are(one: tuple, other: tuple) -> None:
    (seed, key), (other_seed, other_key) = one, other
    assert (first(seed, *key) == first(other_seed, *other_key)) == (one == other)
    assert first(seed, *key) == first(seed, *key)


def test_similar_keys_differ() -> None:
    keys: list[tuple] = [
        (0,), (0, 0), (0, 0, 0), (1,), (0, 1), (1, 0), (0, ""), (0, "", ""), (0, "a"), (0, "a", 0), (0, "a", 0, 0),
        (0, "0"), (0, "a", "b"), (0, "b", "a"), (0, "ab"), (0, 5, 1), (0, 2**32 + 5), (2**32, 0), (0, 0, 1), (0, "a0"),
        (0, '", "'), (0, "é"), (0, "\\u00e9"),
    ]  # fmt: skip
    assert len({first(*key) for key in keys}) == len(keys)


def test_stream_is_the_same_in_every_process_and_for_ever() -> None:
    script = "from ppfsl.randomness import generator; print(generator(7, 'episode', 3).integers(0, 1000, 5).tolist())"
    here = str(generator(7, "episode", 3).integers(0, 1000, 5).tolist())
    for salt in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=Path(__file__).parents[1], env={"PYTHONHASHSEED": salt},
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert done.stdout.strip() == here
    assert here == "[160, 858, 389, 91, 573]"


def test_numpy_integers_count_as_integers() -> None:
    assert first(np.int64(3), "x", np.int32(4)) == first(3, "x", 4)  # type: ignore[arg-type]


def test_fractions_are_no_keys() -> None:
    with pytest.raises(TypeError):
        generator(0, 0.5)  # type: ignore[arg-type]


def test_streams_of_neighbouring_keys_are_uncorrelated() -> None:
    streams = np.stack([generator(0, "episode", k).standard_normal(2000) for k in range(20)])
    correlations = np.corrcoef(streams)[np.triu_indices(20, 1)]
    assert np.abs(correlations).max() < 0.1  # 4.5 standard deviations
    heads = np.asarray([generator(0, "episode", k).random() for k in range(2000)])
    assert abs(heads.mean() - 0.5) < 0.03
    assert len(set(itertools.chain(heads))) == 2000


def test_global_generators_are_neither_read_nor_touched() -> None:
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    before = first(1, "x")
    expected = np.random.RandomState(0).random_sample(), random.Random(0).random()
    assert (np.random.random_sample(), random.random()) == expected  # noqa: NPY002
    assert first(1, "x") == before
