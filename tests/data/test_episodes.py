"""Episodes are pure functions of (seed, number); shots nest; what cannot be served is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfsl.data.episodes import Episode, EpisodeSampler, check_sizes, group_by_class
from ppfsl.errors import UserError
from ppfsl.randomness import generator


@st.composite
def tasks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Rows of some table (a subset, shuffled labels), and an episode layout that they can serve."""
    shot, query = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    sizes = draw(st.lists(st.integers(shot + query, shot + query + 4), min_size=2, max_size=6))
    way = draw(st.integers(2, len(sizes)))
    names = draw(st.lists(st.integers(0, 200), min_size=len(sizes), max_size=len(sizes), unique=True))
    labels = np.repeat(names, sizes)
    rng = generator(draw(st.integers(0, 1000)), "task")
    rows = rng.choice(5 * len(labels), len(labels), replace=False)
    return rows, rng.permutation(labels), {"way": way, "shot": shot, "query": query}


def same(one: Episode, other: Episode) -> bool:
    return all(np.array_equal(getattr(one, k), getattr(other, k)) for k in ("classes", "support", "query"))


SMALL = (np.arange(100, 160), np.repeat(np.arange(10), 6))


def sampler(way: int = 5, shot: int = 2, query: int = 3, seed: int = 0) -> EpisodeSampler:
    return EpisodeSampler(*SMALL, way, shot, query, seed)


@settings(deadline=None)
@given(task=tasks(), seed=st.integers(0, 2**40), index=st.integers(0, 10**6))
def test_episodes_are_balanced_disjoint_and_of_the_right_classes(
    task: tuple[np.ndarray, np.ndarray, dict[str, int]], seed: int, index: int
) -> None:
    rows, labels, layout = task
    label_of = dict(zip(rows.tolist(), labels.tolist(), strict=True))
    episode = EpisodeSampler(rows, labels, **layout, seed=seed)[index]
    way, shot, query = layout["way"], layout["shot"], layout["query"]
    assert episode.support.shape == (way, shot)
    assert episode.query.shape == (way, query)
    assert episode.classes.dtype == episode.support.dtype == episode.query.dtype == np.int64
    assert len(set(episode.classes.tolist())) == way
    images = np.concatenate([episode.support, episode.query], axis=1)
    assert len(set(images.ravel().tolist())) == way * (shot + query)
    for label, own in zip(episode.classes.tolist(), images.tolist(), strict=True):
        assert [label_of[row] for row in own] == [label] * (shot + query)


@settings(deadline=None)
@given(task=tasks(), seed=st.integers(0, 2**40), order=st.permutations(range(6)))
def test_episode_depends_on_seed_and_number_alone(
    task: tuple[np.ndarray, np.ndarray, dict[str, int]], seed: int, order: list[int]
) -> None:
    rows, labels, layout = task
    straight = list(EpisodeSampler(rows, labels, **layout, seed=seed).take(6))
    jumping = EpisodeSampler(rows, labels, **layout, seed=seed)
    for index in order:
        assert same(jumping[index], straight[index])


@settings(deadline=None)
@given(task=tasks(), seed=st.integers(0, 2**40), index=st.integers(0, 100))
def test_shots_share_classes_and_queries_and_nest(
    task: tuple[np.ndarray, np.ndarray, dict[str, int]], seed: int, index: int
) -> None:
    rows, labels, layout = task
    large = EpisodeSampler(rows, labels, **layout, seed=seed)[index]
    for shot in range(1, layout["shot"]):
        small = EpisodeSampler(rows, labels, **{**layout, "shot": shot}, seed=seed)[index]
        assert np.array_equal(small.classes, large.classes)
        assert np.array_equal(small.query, large.query)
        assert np.array_equal(small.support, large.support[:, :shot])


def test_other_seeds_and_numbers_give_other_episodes() -> None:
    episodes = [*sampler(seed=0).take(20), *sampler(seed=1).take(20)]
    assert len({episode.support.tobytes() + episode.query.tobytes() for episode in episodes}) == 40


def test_take_counts_from_its_start() -> None:
    assert [same(a, b) for a, b in zip(sampler().take(3, start=4), sampler().take(7), strict=False)] == [False] * 3
    tail = list(sampler().take(7))[4:]
    assert all(same(a, b) for a, b in zip(sampler().take(3, start=4), tail, strict=True))


def test_episodes_stay_the_same_for_ever() -> None:
    episode = sampler(way=3, shot=1, query=1)[7]
    assert (episode.classes.tolist(), episode.support.tolist(), episode.query.tolist()) == (
        [5, 4, 2],
        [[130], [125], [117]],
        [[135], [124], [112]],
    )


def test_all_classes_and_images_are_drawn_about_equally_often() -> None:
    episodes = list(sampler(way=5, shot=1, query=2).take(1000))
    _, counts = np.unique([episode.classes for episode in episodes], return_counts=True)
    assert len(counts) == 10
    assert np.abs(counts / 1000 - 0.5).max() < 0.08  # 5 standard deviations
    for part, share in (("support", 1 / 12), ("query", 2 / 12)):
        _, counts = np.unique([getattr(episode, part) for episode in episodes], return_counts=True)
        assert len(counts) == 60
        assert np.abs(counts / 1000 - share).max() < 0.06


def test_too_few_classes_are_refused() -> None:
    with pytest.raises(UserError, match=r"^11-way episodes need 11 classes, but there are 10; lower evaluation\.way$"):
        sampler(way=11)
    with pytest.raises(
        UserError,
        match=r"need 5 classes, but there are 0; add classes, or give this part more by data\.split_ratio or another",
    ):
        EpisodeSampler(np.arange(0), np.arange(0), 5, 1, 1, 0)


@pytest.mark.parametrize(
    ("keys", "part", "named"), [("evaluation", "novel", "novel"), ("objective", None, "base"), ("validation",) * 3]
)
def test_the_part_that_lacks_classes_is_named(keys: str, part: str | None, named: str) -> None:
    with pytest.raises(UserError) as caught:
        EpisodeSampler(*SMALL, 11, 1, 1, 0, keys, part)
    assert str(caught.value) == f"11-way episodes need 11 classes, but there are 10 {named} classes; lower {keys}.way"


def test_nobody_is_told_to_lower_what_cannot_be_lower() -> None:
    one_class = np.arange(5), np.ones(5, dtype=np.int64)
    with pytest.raises(UserError) as caught:
        EpisodeSampler(*one_class, 2, 1, 1, 0, "validation")
    assert str(caught.value).endswith(
        "there is 1 validation class; add classes, or give this part more by data.split_ratio or another data.split"
    )
    for shot, query, remedy in (
        (1, 1, "1 shot and 1 query need 2; add images"),
        (1, 2, "1 shot and 2 queries need 3; lower evaluation.query, or add images"),
        (2, 1, "2 shots and 1 query need 3; lower evaluation.shot, or add images"),
        (2, 2, "2 shots and 2 queries need 4; lower evaluation.shot or evaluation.query, or add images"),
    ):
        with pytest.raises(UserError) as caught:
            check_sizes({1: np.arange(1)}, shot, query)
        assert str(caught.value) == f"class 1 has 1 image, but {remedy}"


def test_small_class_is_refused_by_name() -> None:
    labels = np.asarray([1] * 6 + [7] * 4 + [9] * 5)
    assert EpisodeSampler(np.arange(15), labels, 2, 1, 3, 0)[0].support.shape == (2, 1)
    with pytest.raises(
        UserError,
        match=r"^class 7 has 4 images, but 2 shots and 3 queries need 5; "
        r"lower evaluation\.shot or evaluation\.query, or add images$",
    ):
        EpisodeSampler(np.arange(15), labels, 2, 2, 3, 0)


def test_small_class_is_refused_by_its_name_where_it_has_one() -> None:
    labels, names = np.asarray([1] * 6 + [7] * 4), {1: "rose", 7: "tulip"}
    words = "class 7 (tulip) has 4 images, but 4 shots and 1 query need 5; lower evaluation.shot, or add images"
    with pytest.raises(UserError) as caught:
        EpisodeSampler(np.arange(10), labels, 2, 4, 1, 0, names=names)
    assert str(caught.value) == words


def test_complaints_name_the_keys_that_asked_for_the_episodes() -> None:
    with pytest.raises(UserError, match=r"; lower validation\.way$"):
        EpisodeSampler(*SMALL, 11, 1, 1, 0, "validation")
    # Training numbers the base classes anew, so that a label would name another class than the user's.
    with pytest.raises(UserError, match=r"^a base class has .*; lower objective\.shot or objective\.query, or add"):
        EpisodeSampler(*SMALL, 5, 4, 3, 0, "objective")


def test_check_sizes_accepts_what_just_fits() -> None:
    check_sizes({1: np.arange(3), 2: np.arange(9)}, shot=1, query=2)
    with pytest.raises(UserError, match="class 1 has 3 images"):
        check_sizes({1: np.arange(3), 2: np.arange(9)}, shot=2, query=2)


def test_groups_keep_the_order_of_rows() -> None:
    groups = group_by_class(np.asarray([9, 4, 7, 1]), np.asarray([3, 1, 3, 3]))
    assert {label: rows.tolist() for label, rows in groups.items()} == {1: [4], 3: [9, 7, 1]}
    assert list(groups) == [1, 3]
    assert group_by_class(np.arange(0), np.arange(0)) == {}
