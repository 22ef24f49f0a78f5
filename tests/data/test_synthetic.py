"""The drawn data set: reproducible, varied, readable, and not solved by colour."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from operator import ne
from pathlib import Path

import numpy as np
import pytest

from ppfsl.data import synthetic
from ppfsl.data.class_split import ratio_split
from ppfsl.data.synthetic import class_kind, draw_blossom, synthetic_source
from ppfsl.data.table import load_table
from ppfsl.errors import UserError


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """[64 classes, 12 images, 32, 32, 3] as fractions."""
    images = [[np.asarray(draw_blossom(0, label, index, 32)) for index in range(1, 13)] for label in range(1, 65)]
    return np.asarray(images, dtype=np.float32) / 255


def nearest_mean_accuracy(features: np.ndarray, shot: int = 1, episodes: int = 400) -> float:
    """5-way accuracy of the nearest class mean by cosine; features [classes, images, D]."""
    rng = np.random.default_rng(0)
    features = features / np.linalg.norm(features, axis=-1, keepdims=True)
    accuracies = []
    for _ in range(episodes):
        classes = rng.choice(len(features), 5, replace=False)
        images = rng.permutation(features.shape[1])
        support = features[classes][:, images[:shot]].mean(1)
        support /= np.linalg.norm(support, axis=-1, keepdims=True)
        guesses = (features[classes][:, images[shot:]] @ support.T).argmax(-1)
        accuracies.append((guesses == np.arange(5)[:, None]).mean())
    return float(np.mean(accuracies))


def test_the_same_arguments_draw_the_same_picture_again() -> None:
    first = draw_blossom(3, 60, 7, 48).tobytes()
    synthetic._kinds.cache_clear()
    draw_blossom(3, 5, 1, 48)  # the kinds come out the same whichever is asked for first
    assert draw_blossom(3, 60, 7, 48).tobytes() == first


def test_threads_draw_what_one_thread_draws() -> None:
    keys = [(label, index) for label in range(1, 11) for index in (1, 2, 3)]
    alone = [draw_blossom(0, *key, 32).tobytes() for key in keys]
    synthetic._kinds.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda key: draw_blossom(0, *key, 32).tobytes(), keys[::-1]))
    assert together[::-1] == alone


@pytest.mark.parametrize("size", [16, 33, 64, 84])
def test_a_picture_is_rgb_of_exactly_the_size(size: int) -> None:
    image = draw_blossom(0, 1, 1, size)
    assert image.mode == "RGB"
    assert image.size == (size, size)


def test_another_size_is_the_same_picture() -> None:
    for label in range(1, 11):
        fine = np.asarray(draw_blossom(0, label, 1, 96), dtype=float).reshape(32, 3, 32, 3, 3).mean((1, 3))
        coarse = np.asarray(draw_blossom(0, label, 1, 32), dtype=float)
        assert np.abs(fine - coarse).mean() < 3
        assert np.corrcoef(fine.ravel(), coarse.ravel())[0, 1] > 0.98


def test_no_two_pictures_are_alike(drawn: np.ndarray) -> None:
    flat = drawn.reshape(64 * 12, -1)
    squares = (flat**2).sum(1)
    distances = squares[:, None] + squares[None, :] - 2 * flat @ flat.T + np.diag(np.full(len(flat), np.inf))
    assert np.sqrt(distances.min() / flat.shape[1]) > 0.03  # root of the mean square, in fractions of full brightness


def test_brightness_varies_inside_every_class(drawn: np.ndarray) -> None:
    assert drawn.mean((2, 3, 4)).std(1).min() > 0.03


def test_another_seed_gives_other_kinds_and_other_pictures() -> None:
    names = [[class_kind(seed, label).name for label in range(1, 65)] for seed in (0, 1)]
    assert len(set(names[0]) & set(names[1])) < 8
    assert draw_blossom(0, 1, 1, 32).tobytes() != draw_blossom(1, 1, 1, 32).tobytes()


def test_kinds_are_unlike_each_other_in_more_than_the_petals_colour() -> None:
    kinds = [class_kind(0, label) for label in range(1, 65)]
    marks = [None if kind.pattern == "plain" else kind.mark for kind in kinds]
    centres = [(kind.centre_style, kind.centre_size, kind.centre) for kind in kinds]
    petals = [(kind.shape, kind.petals, kind.rings, kind.pattern) for kind in kinds]
    traits = [(*petal, mark, *centre) for petal, mark, centre in zip(petals, marks, centres, strict=True)]
    apart = [sum(map(ne, one, other)) for i, one in enumerate(traits) for other in traits[:i]]
    assert min(apart) >= 4


def test_every_colour_family_has_as_many_classes() -> None:
    shades = {shade: number for number, family in enumerate(synthetic._FAMILIES) for shade in family.values()}
    families = Counter(shades[class_kind(0, label).petal] for label in range(1, 65))
    assert sorted(families.values()) == [8] * 8


def test_names_are_unique_up_to_the_most_classes_and_say_what_is_drawn() -> None:
    source = synthetic_source(500, 2, 0, 32)
    assert len(set(source.class_names.values())) == 500
    for label in (1, 64, 500):
        kind = class_kind(0, label)
        assert f"{kind.petals}-petal" in source.class_names[label]
        assert (kind.pattern in source.class_names[label]) == (kind.pattern != "plain")


def test_colour_alone_does_not_solve_it(drawn: np.ndarray) -> None:
    bins = (drawn * 3.999).astype(int) @ np.asarray([16, 4, 1])
    counts = np.stack([np.bincount(one.ravel(), minlength=64) for one in bins.reshape(64 * 12, -1)])
    accuracy = nearest_mean_accuracy(np.sqrt(counts).reshape(64, 12, 64))
    assert 0.25 < accuracy < 0.42


def test_raw_pixels_do_not_solve_it(drawn: np.ndarray) -> None:
    accuracy = nearest_mean_accuracy(drawn.reshape(64, 12, -1) - 0.5)
    assert 0.22 < accuracy < 0.42


def test_the_background_does_not_give_the_class_away(drawn: np.ndarray) -> None:
    corners = [
        drawn[:, :, rows, columns] for rows in (slice(3), slice(-3, None)) for columns in (slice(3), slice(-3, None))
    ]
    colours = np.stack([corner.mean((2, 3)) for corner in corners], axis=2)
    colours = np.median(colours, axis=2) - 0.5
    assert nearest_mean_accuracy(colours) == pytest.approx(0.2, abs=0.03)


def test_the_source_lists_every_image_once() -> None:
    source = synthetic_source(10, 3, 0, 32)
    assert source.name == "synthetic"
    assert source.labels.tolist() == [label for label in range(1, 11) for _ in range(3)]
    assert source.labels.dtype == np.int64
    assert source.files[:4] == tuple(f"class_00{c}/blossom_000{i}.png" for c, i in ((1, 1), (1, 2), (1, 3), (2, 1)))
    assert len(set(source.files)) == 30
    assert sorted(source.class_names) == list(range(1, 11))
    assert source.lists == {}
    rows = dict(source.images())
    assert sorted(rows) == list(range(30))
    assert rows[4]().tobytes() == draw_blossom(0, 2, 2, 32).tobytes()


def test_a_larger_data_set_holds_the_smaller() -> None:
    small, large = synthetic_source(10, 3, 5, 32), synthetic_source(30, 6, 5, 32)
    pictures = {large.files[row]: load for row, load in large.images()}
    for row, load in list(small.images())[::7]:
        assert pictures[small.files[row]]().tobytes() == load().tobytes()
    assert small.class_names.items() <= large.class_names.items()


def test_every_argument_changes_the_identity() -> None:
    plain = synthetic_source(10, 2, 0, 32).identity
    others = [
        synthetic_source(*key).identity for key in ((11, 2, 0, 32), (10, 3, 0, 32), (10, 2, 1, 32), (10, 2, 0, 33))
    ]
    assert all(other != plain for other in others)
    assert all(other["root"] != plain["root"] for other in others[:3])


def test_the_table_builds_and_its_classes_divide(tmp_path: Path) -> None:
    table = load_table(synthetic_source(10, 2, 0, 24), tmp_path, 24, progress=False)
    assert table.images.shape == (20, 24, 24, 3)
    assert np.array_equal(table.images[3], np.asarray(draw_blossom(0, 2, 2, 24)))
    again = load_table(synthetic_source(10, 2, 0, 24), tmp_path, 24, progress=False)
    assert again.hash == table.hash
    other = load_table(synthetic_source(10, 2, 1, 24), tmp_path, 24, progress=False)
    assert other.hash != table.hash
    assert len(list(tmp_path.iterdir())) == 2  # the two seeds live side by side
    split = ratio_split(table.labels, (0.6, 0.2, 0.2), 0)
    assert len(split.base.classes) == 6


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"classes": 9}, "data.synthetic.classes is 9"),
        ({"classes": 501}, "data.synthetic.classes is 501"),
        ({"images_per_class": 1}, "data.synthetic.images_per_class is 1"),
        ({"images_per_class": 10_000}, "data.synthetic.images_per_class is 10000"),
        ({"size": 15}, "data.image_size is 15"),
        ({"size": 1025}, "data.image_size is 1025"),
        ({"seed": -1}, "data.synthetic.seed is -1"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_its_key(arguments: dict[str, int], key: str) -> None:
    with pytest.raises(UserError, match=key):
        synthetic_source(**arguments)


def test_labels_begin_at_one() -> None:
    with pytest.raises(ValueError, match="begin at 1"):
        draw_blossom(0, 0, 1, 32)
