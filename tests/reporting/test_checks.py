import io
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from ppfsl.randomness import generator
from ppfsl.reporting import checks
from ppfsl.reporting.drawing import to_inline_svg, to_png
from ppfsl.reporting.statistics import two_components

NAMES = ["rose", "$x_1$", "向日葵", "_lily", "x" * 80]


def images(*levels: int, size: int = 12, channels: int = 3) -> np.ndarray:
    """Plain images of these grey levels."""
    return np.stack([np.full((size, size, channels), level, np.uint8) for level in levels])


def pairs(same: list[bool], scores: list[float], threshold: float | None = None, **extra: Any) -> Any:
    count = len(same)
    left, right = images(*range(10, 10 + count)), images(*range(110, 110 + count))
    return checks.pair_sheet(left, right, np.asarray(scores), np.asarray(same), threshold, **extra)


def triplets(near: list[float], far: list[float], names: list[tuple[str, str]] | None = None) -> Any:
    count = len(near)
    parts = [images(*range(start, start + count)) for start in (10, 110, 210)]
    return checks.triplet_sheet(*parts, near, far, names or [("rose", "lily")] * count)


def episode(way: int = 5, shot: int = 2, query: int = 3) -> dict[str, Any]:
    """An episode of support images, prototypes and queries, whose first query of each class is answered wrong."""
    parts = {"support": shot, "prototype": 1, "query": query}
    labels = np.concatenate([np.repeat(np.arange(way), count) for count in parts.values()])
    roles = np.repeat(list(parts), [way * count for count in parts.values()])
    predicted = labels.copy()
    predicted[np.flatnonzero(roles == "query")[::query]] += 1
    return {
        "points": generator(0, "episode").normal(size=(len(labels), 2)),
        "labels": labels,
        "roles": roles,
        "predicted": predicted % way,
        "class_names": [NAMES[n % len(NAMES)] for n in range(way)],
    }


FIGURES: dict[str, Callable[[], Any]] = {
    "pair_sheet": lambda: pairs([True, False] * 5, [n / 10 for n in range(10)], 0.45, score_name="$score"),
    "one_pair": lambda: pairs([False], [-0.0]),
    "triplet_sheet": lambda: triplets([0.1, 0.5, 0.3], [0.4, 0.2, 0.3], [("$x", "_y"), ("向日葵", "x" * 80), ("", "")]),
    "roc_plot": lambda: checks.roc_plot([0, 0.1, 1], [0, 0.9, 1], 0.9, 0.1, (0.05, 0.45)),
    "episode_map": lambda: checks.episode_map(**episode()),
    "one_shot": lambda: checks.episode_map(**episode(20, 1, 1)),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_becomes_a_png_of_sane_size_without_a_warning(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png = to_png(FIGURES[name]())
    assert not caplog.records
    with Image.open(io.BytesIO(png)) as image:
        picture = np.asarray(image.convert("RGB"))
    height, width, _ = picture.shape
    assert 120 < height < 1200
    assert 500 < width < 1000
    assert picture.std() > 5


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_becomes_the_same_svg_twice_with_text_in_the_colour_of_the_page(name: str) -> None:
    text = to_inline_svg(FIGURES[name](), "a <title>")
    assert text == to_inline_svg(FIGURES[name](), "a <title>")
    root = ElementTree.fromstring(text)
    assert "http" not in text
    assert all("currentColor" in element.get("style", "") for element in root.iter("text"))
    ids = {element.get("id") for element in root.iter()}
    assert all(link.get("href", "")[1:] in ids for link in root.iter("use"))


def test_importing_the_figures_imports_no_matplotlib() -> None:
    code = "import sys, ppfsl.reporting.checks; sys.exit(bool({'matplotlib', 'paddle'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def cells(figure: Any) -> list[Any]:
    """The axes that show images."""
    return [axes for axes in figure.axes if axes.images]


def crossed(axes: Any) -> bool:
    """Whether an image bears all three marks of a wrong one, or none of them."""
    marks = {
        any(line.get_marker() == "X" for line in axes.lines),
        axes.spines["left"].get_linestyle() not in ("-", "solid"),
        axes.spines["left"].get_linewidth() > 2,
    }
    assert len(marks) == 1
    return marks.pop()


def test_pairs_are_grouped_and_sorted_and_bear_their_scores() -> None:
    figure = pairs([False, True, False, True, True], [0.1, 0.2, 0.6, 0.9, 0.4], 0.5, score_name="cosine")
    shown = [axes.get_title(loc="left") for axes in cells(figure)]
    assert shown == [
        *("same, 0.900", "same, 0.400, wrong", "same, 0.200, wrong"),
        *("different, 0.600, wrong", "different, 0.100"),
    ]
    assert [crossed(axes) for axes in cells(figure)] == [False, True, True, True, False]
    assert figure.get_suptitle() == "cosine, “same” from 0.500 on: 2 of 5 answers right"
    levels = [
        (int(axes.images[0].get_array()[0, 0, 0]), int(axes.images[0].get_array()[0, -1, 0])) for axes in cells(figure)
    ]
    assert levels == [(13, 113), (14, 114), (11, 111), (12, 112), (10, 110)]


def test_a_score_at_the_threshold_is_answered_same() -> None:
    figure = pairs([True, False], [0.5, 0.5], 0.5)
    assert [crossed(axes) for axes in cells(figure)] == [False, True]


def test_without_a_threshold_nothing_is_wrong() -> None:
    figure = pairs([True, False], [-3.0, 12.5])
    assert [axes.get_title(loc="left") for axes in cells(figure)] == ["same, −3.0", "different, 12.5"]
    assert not any(crossed(axes) for axes in cells(figure))
    assert figure.get_suptitle() == "similarity"


@pytest.mark.parametrize("channels", [1, 3])
def test_two_images_stand_side_by_side_with_a_transparent_gap(channels: int) -> None:
    left, right = images(50, channels=channels), images(60, channels=channels)
    (axes,) = cells(checks.pair_sheet(left, right, [1.0], [True]))
    strip = axes.images[0].get_array()
    assert strip.shape == (12, 26, 4)
    assert (strip[:, :12] == (50, 50, 50, 255)).all()
    assert (strip[:, 12:14, 3] == 0).all()
    assert (strip[:, 14:] == (60, 60, 60, 255)).all()
    assert axes.lines[0].get_xdata()[0] == 12.5  # a line in the middle of columns 12 and 13


def test_each_kind_of_pair_begins_a_row() -> None:
    figure = pairs([True] * 5 + [False], [0.5] * 6)
    places = [axes.get_subplotspec() for axes in cells(figure)]
    assert [(place.rowspan.start, place.colspan.start) for place in places] == [
        *((0, 0), (0, 1), (0, 2), (0, 3)),
        (1, 0),
        (2, 0),
    ]
    assert not any(axes.axison for axes in figure.axes if not axes.images)


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.5, -0.0004], ["same, 0.500", "same, 0.000"]),
        ([0.00123, 0.0002], ["same, 0.00123", "same, 0.00020"]),
        ([1234.5, 7.0], ["same, 1234", "same, 7"]),
        ([0.0, 0.0], ["same, 0.00", "same, 0.00"]),
    ],
)
def test_scores_have_the_decimals_that_their_size_asks_for(values: list[float], shown: list[str]) -> None:
    assert [axes.get_title(loc="left") for axes in cells(pairs([True, True], values))] == shown


def test_images_that_are_not_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="2 and 1 images, 2 scores, 2 answers: not pairs"):
        checks.pair_sheet(images(1, 2), images(1), [0.1, 0.2], [True, False])
    with pytest.raises(ValueError, match="1 and 1 images, 2 scores"):
        checks.pair_sheet(images(1), images(1), [0.1, 0.2], [True])
    with pytest.raises(ValueError, match="not pairs"):
        checks.pair_sheet(np.zeros((0, 4, 4, 3), np.uint8), np.zeros((0, 4, 4, 3), np.uint8), [], [])


def test_violated_triplets_are_marked_ties_too() -> None:
    figure = triplets([0.1, 0.5, 0.3], [0.4, 0.2, 0.3], [("a", "b"), ("c", "d"), ("e", "f")])
    assert figure.get_suptitle() == "2 of 3 triplets violated, d(a, p) ≥ d(a, n)"
    shown = cells(figure)
    assert [crossed(axes) for axes in shown] == [False] * 3 + [True] * 6
    assert [axes.get_xlabel() for axes in shown] == [
        *("a", "d(a, p) = 0.100", "d(a, n) = 0.400\nb"),
        *("c", "d(a, p) = 0.500\nviolated", "d(a, n) = 0.200\nd"),
        *("e", "d(a, p) = 0.300\nviolated", "d(a, n) = 0.300\nf"),
    ]
    assert [int(axes.images[0].get_array()[0, 0, 0]) for axes in shown] == [10, 110, 210, 11, 111, 211, 12, 112, 212]
    assert [axes.get_title() for axes in shown[:4]] == ["anchor (a)", "positive (p)", "negative (n)", ""]


def test_long_names_are_broken_behind_a_slash() -> None:
    figure = triplets([0.1], [0.2], [("Anglo-Saxon_Futhorc/character12", "a/b c")])
    anchor, _, negative = (axes.get_xlabel() for axes in cells(figure))
    assert anchor == "Anglo-Saxon_Futhorc/\ncharacter12"
    assert negative.endswith("\na/b c")


def test_images_that_are_not_triplets_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[2, 2, 2, 1, 2, 2\] of them, not triplets"):
        checks.triplet_sheet(images(1, 2), images(1, 2), images(1, 2), [0.1], [0.1, 0.2], [("a", "b")] * 2)
    empty = np.zeros((0, 4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="not triplets"):
        checks.triplet_sheet(empty, empty, empty, [], [], [])


def test_the_roc_plot_shows_curve_equal_error_rate_and_threshold_in_per_cent() -> None:
    (axes,) = checks.roc_plot([0, 0.1, 1], [0, 0.9, 1], 0.9, 0.1, (0.05, 0.45)).axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert lines["ROC curve, area 0.9000"] == [[0, 0], [10, 90], [100, 100]]
    assert lines["equal error rate: 10.0 %"] == [[10, 90]]
    assert lines["threshold: 45.0 % of one class accepted,\n5.0 % of two"] == [[5, 45]]
    assert axes.get_xlim() == axes.get_ylim() == (0, 100)
    assert len({(line.get_linestyle(), line.get_marker()) for line in axes.lines}) == 5  # told apart without colour


def test_the_roc_plot_does_without_a_threshold() -> None:
    (axes,) = checks.roc_plot([0, 1], [0, 1], 0.5, 0.5).axes
    assert not any("threshold" in line.get_label() for line in axes.lines)


def test_episode_points_are_two_principal_components() -> None:
    vectors = generator(0, "vectors").normal(size=(9, 5))
    assert np.array_equal(checks.episode_points(vectors), two_components(vectors)[0])


def drawn(figure: Any) -> list[tuple[int, bool, np.ndarray]]:
    """Marks of the map in drawing order: (their number, whether they have no face, their places)."""
    groups = [group for group in figure.axes[0].collections if len(group.get_offsets())]
    return [(len(g.get_offsets()), not len(g.get_facecolor()), np.asarray(g.get_offsets())) for g in groups]


def test_an_episode_shows_every_point_once_and_the_wrong_queries_twice_more() -> None:
    task = episode()
    figure = checks.episode_map(**task)
    marks = drawn(figure)
    assert [number for number, _, _ in marks] == [1] * 5 + [2] * 5 + [3] * 5 + [5, 5]
    places = np.concatenate([place for _, _, place in marks[:15]])
    assert sorted(map(tuple, places)) == sorted(map(tuple, task["points"]))
    wrong = task["points"][task["roles"] == "query"][::3]
    ring, cross = marks[15:]
    assert np.array_equal(ring[2], wrong)
    assert np.array_equal(cross[2], wrong)
    assert ring[1]


def test_roles_differ_in_size_and_classes_in_colour_and_marker() -> None:
    groups = checks.episode_map(**episode()).axes[0].collections[:15]
    sizes = [group.get_sizes()[0] for group in groups]
    assert len(set(sizes)) == 3
    assert sizes == sorted(sizes, reverse=True)
    for start in (0, 5, 10):  # prototypes, support images, queries
        some = groups[start : start + 5]
        assert len({tuple(group.get_facecolor()[0][:3]) for group in some}) == 5
        assert len({group.get_paths()[0].vertices.tobytes() for group in some}) == 5
    for label in range(5):  # a class looks the same in every role
        assert len({tuple(groups[label + start].get_facecolor()[0][:3]) for start in (0, 5, 10)}) == 1


def test_the_legends_name_roles_wrong_answers_and_classes() -> None:
    roles, classes = checks.episode_map(**episode()).legends
    shown = [text.get_text() for text in roles.get_texts()]
    assert shown == ["prototype", "support", "query", "wrong answer (5 of 15 queries)"]
    assert [text.get_text() for text in classes.get_texts()] == [*NAMES[:4], "x" * 33 + "…"]


def test_roles_that_are_not_there_are_not_in_the_legend() -> None:
    task = episode()
    keep = task["roles"] == "support"
    some = {name: values[keep] for name, values in task.items() if name != "class_names"}
    roles, _ = checks.episode_map(**some, class_names=NAMES).legends
    assert [text.get_text() for text in roles.get_texts()] == ["support"]


def test_answers_of_queries_alone_do_as_well() -> None:
    task = episode()
    whole = to_inline_svg(checks.episode_map(**task), "map")
    task["predicted"] = task["predicted"][task["roles"] == "query"]
    assert to_inline_svg(checks.episode_map(**task), "map") == whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": np.zeros((30, 3))}, r"points \(30, 3\), labels \(30,\), roles \(30,\) must be \[N, 2\]"),
        ({"roles": ["query"] * 29}, r"roles \(29,\) must be"),
        ({"roles": ["queries"] * 30}, "roles are prototype, support, query, not queries"),
        ({"predicted": [0] * 7}, "30 points and 15 queries, but 7 answers"),
        ({"class_names": ["a", "b"]}, r"labels must be 0..1, as there are 2 class names"),
    ],
)
def test_an_episode_that_does_not_fit_together_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checks.episode_map(**{**episode(), **change})
