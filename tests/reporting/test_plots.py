import io
import sys
import warnings
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from ppfsl.randomness import generator
from ppfsl.reporting import plots
from ppfsl.reporting.drawing import COLOURS, style, to_inline_svg, to_png
from ppfsl.reporting.statistics import two_components, wilson_interval

NAMES = ["rose", "$x_1$", "向日葵", "_lily", "a <b> & 'c'", "x" * 80, "$\\frac", "bad\x00\udcff"]


def decoded(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def row(step: int, name: str, value: float, split: str = "base") -> dict[str, Any]:
    return {"step": step, "epoch": 0, "split": split, "name": name, "value": value}


def counts(k: int) -> np.ndarray:
    return generator(0, "counts").integers(1, 50, (k, k))


def classes(*pairs: tuple[int, int]) -> list[dict[str, Any]]:
    return [{"name": f"class {n}", "correct": c, "total": t} for n, (c, t) in enumerate(pairs)]


FIGURES: dict[str, Callable[[], Any]] = {
    "learning_curves": lambda: plots.learning_curves(
        [row(step, f"{stage}/loss", 1 / step) for stage in ("1_$a", "_b") for step in range(1, 90)]
    ),
    "per_class_accuracy": lambda: plots.per_class_accuracy(
        [{"name": name, "correct": n, "total": 10} for n, name in enumerate(NAMES)], chance=0.2
    ),
    "confusion_matrix": lambda: plots.confusion_matrix(counts(len(NAMES)), NAMES),
    "contact_sheet": lambda: plots.contact_sheet(np.zeros((len(NAMES), 20, 20, 3), np.uint8), NAMES),
    "embedding_map": lambda: plots.embedding_map(generator(0, "map").normal(size=(32, 7)), NAMES * 4),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_becomes_a_png_of_sane_size_without_a_warning(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = decoded(to_png(FIGURES[name]()))
    assert not caplog.records
    height, width, _ = picture.shape
    assert 200 < width < 2000
    assert 200 < height < 2000
    assert (picture[0] == 255).all()  # white ground
    assert picture.std() > 5  # and something on it


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_becomes_the_same_svg_twice_with_nothing_from_outside(name: str) -> None:
    text = to_inline_svg(FIGURES[name](), "a <title>")
    assert text == to_inline_svg(FIGURES[name](), "a <title>")
    root = ElementTree.fromstring(text)
    assert root.tag == "svg"
    assert root.get("aria-label") == "a <title>"
    assert "http" not in text
    assert "currentColor" in text
    assert not {"script", "style", "metadata"} & {element.tag for element in root.iter()}
    ids = {element.get("id") for element in root.iter()}
    links = [element.get("href") for element in root.iter("use")]
    assert all(link.startswith("#") and link[1:] in ids for link in links)


def test_names_stand_in_an_svg_as_text() -> None:
    root = ElementTree.fromstring(to_inline_svg(FIGURES["confusion_matrix"](), "confusion"))
    texts = ["".join(element.itertext()) for element in root.iter("text")]
    for name in (*NAMES[:5], "x" * 33 + "…", "$\\frac", "bad\ufffd\ufffd"):
        assert texts.count(name) == 2  # both axes


def test_plotting_leaves_matplotlib_as_it_was() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    to_png(FIGURES["confusion_matrix"]())
    assert dict(matplotlib.rcParams) == before


def test_importing_the_plots_imports_no_matplotlib() -> None:
    import subprocess

    code = "import sys, ppfsl.reporting.report, ppfsl.reporting.terminal\n"
    code += "sys.exit(bool({'matplotlib', 'jinja2', 'rich', 'visualdl', 'paddle'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # this and the next three: Newcombe 1998, table I
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (29, 29, 0.8830, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_the_wilson_interval_has_its_known_values(correct: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(correct, total) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


def test_curves_show_the_rows_by_stage_and_split() -> None:
    rows = [row(s, "1_a/loss", 1 / s) for s in (1, 2, 3)] + [row(s, "2_b/loss", 0.1) for s in (4, 5)]
    rows += [row(s, "1_a/learning_rate", 10.0**-s) for s in (1, 2, 3)] + [row(1, "1_a/images_per_second", 99.0)]
    rows += [row(3, "1_a/accuracy_5way_1shot", 0.62, "validation")]
    rows += [row(5, "2_b/accuracy_5way_1shot", 0.7, "validation"), row(5, "2_b/accuracy", 0.9)]
    first, second, rate, accuracy = plots.learning_curves(rows).axes
    assert [axes.get_title(loc="left") for axes in (first, second)] == ["loss: 1_a, base", "loss: 2_b, base"]
    drawn = [line.get_xydata().tolist() for axes in (first, second) for line in axes.lines]
    assert drawn == [[[1, 1], [2, 0.5], [3, 1 / 3]], [[4, 0.1], [5, 0.1]]]
    assert rate.get_yscale() == "log"
    labels = ["1_a, validation, 5-way 1-shot", "2_b, validation, 5-way 1-shot", "2_b, base"]
    assert [line.get_label() for line in accuracy.lines] == labels
    assert [line.get_ydata().tolist() for line in accuracy.lines] == [[62], [70], [90]]
    colours = [line.get_color() for axes in (first, second, rate, accuracy) for line in axes.lines]
    assert colours == [COLOURS[stage] for stage in (0, 1, 0, 0, 1, 1)]  # a stage's own, in all panels
    assert len({line.get_linestyle() for line in accuracy.lines}) == 3  # told apart without colours
    assert len({line.get_marker() for line in accuracy.lines}) == 3


def test_no_curves_without_losses_rates_or_accuracies() -> None:
    assert plots.learning_curves([]) is None
    assert plots.learning_curves([row(1, "1_a/images_per_second", 9.0)]) is None


def test_long_curves_are_averaged_not_sampled() -> None:
    (axes,) = plots.learning_curves([row(s, "1_a/loss", s % 2) for s in range(8000)]).axes
    steps, values = axes.lines[0].get_data()
    assert len(steps) == 400
    assert np.allclose(values, 0.5)
    assert steps.tolist() == (np.arange(400) * 20 + 9.5).tolist()


def test_bars_are_sorted_and_carry_their_wilson_intervals() -> None:
    (axes,) = plots.per_class_accuracy(classes((1, 10), (9, 10), (0, 0), (5, 10)), chance=0.2).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["class 1", "class 3", "class 0"]
    bars = axes.containers[0]
    assert [bar.get_width() for bar in bars] == [90, 50, 10]
    (segments,) = [lines.get_segments() for lines in axes.collections]
    expected = [[100 * bound for bound in wilson_interval(c, 10)] for c in (9, 5, 1)]
    assert np.allclose([segment[:, 0] for segment in segments], expected)


def test_of_many_classes_the_bars_of_the_best_and_worst_are_shown() -> None:
    (axes,) = plots.per_class_accuracy(classes(*((n, 100) for n in range(100)))).axes
    widths = [round(bar.get_width()) for bar in axes.containers[0]]
    assert widths == [*range(99, 69, -1), *range(29, -1, -1)]
    assert "… 40 classes between …" in [text.get_text() for text in axes.texts]
    assert plots.per_class_accuracy(classes((0, 0))) is None


def test_confusion_rows_are_percentages_and_numbers_stand_in_small_matrices() -> None:
    figure = plots.confusion_matrix([[3, 1, 0], [0, 0, 0], [0, 0, 5]], ["a", "b", "c"])
    (axes,) = figure.axes
    shares = axes.images[0].get_array().filled(np.nan)
    assert np.array_equal(shares, [[75, 25, 0], [np.nan] * 3, [0, 0, 100]], equal_nan=True)
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "75", (1, 0): "25", (2, 2): "100"}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]


@pytest.mark.parametrize(("k", "numbers", "named"), [(20, True, True), (21, False, True), (61, False, False)])
def test_large_confusion_matrices_drop_numbers_then_names(k: int, numbers: bool, named: bool) -> None:
    axes = plots.confusion_matrix(counts(k), [f"class {n}" for n in range(k)]).axes[0]
    assert bool(axes.texts) == numbers
    assert bool(axes.get_yticklabels()) == named


def test_a_confusion_matrix_must_fit_its_names() -> None:
    with pytest.raises(ValueError, match=r"of 2 classes must be \[2, 2\], not \[3, 3\]"):
        plots.confusion_matrix(np.eye(3), ["a", "b"])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_contact_sheet_has_a_row_for_each_class(channels: int) -> None:
    images = np.stack([np.full((10, 10, channels), level, np.uint8) for level in (10, 20, 30)])
    (axes,) = plots.contact_sheet(images, ["a", "b", "a"]).axes
    sheet = axes.images[0].get_array()
    assert sheet.shape == (24, 24, 3)
    assert (sheet[:10, :10] == 10).all()
    assert (sheet[:10, 12:22] == 30).all()
    assert (sheet[12:22, :10] == 20).all()
    assert (sheet[12:22, 12:22] == 255).all()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]


def test_a_contact_sheet_needs_an_image_for_each_name() -> None:
    for images, names in ((np.zeros((0, 4, 4, 3), np.uint8), []), (np.zeros((2, 4, 4, 3), np.uint8), ["a"])):
        with pytest.raises(ValueError, match="as many names"):
            plots.contact_sheet(images, names)


def test_components_are_the_eigenvectors_of_the_covariance() -> None:
    matrix = generator(0, "pca").normal(size=(50, 6)) * [5, 3, 1, 1, 1, 1]
    positions, shares = two_components(matrix)
    values, vectors = np.linalg.eigh(np.cov(matrix.T))
    assert np.allclose(shares, values[:-3:-1] / values.sum())
    for column, vector in enumerate((vectors[:, -1], vectors[:, -2])):
        vector = vector * np.sign(vector[np.abs(vector).argmax()])
        assert np.allclose(positions[:, column], (matrix - matrix.mean(axis=0)) @ vector)


@pytest.mark.parametrize("shape", [(1, 5), (4, 1), (2, 2), (3, 5)])
def test_components_of_few_rows_or_columns_are_padded_with_zeros(shape: tuple[int, int]) -> None:
    positions, shares = two_components(np.ones(shape))
    assert positions.shape == (shape[0], 2)
    assert np.allclose(positions, 0)
    assert np.allclose(shares, 0)


@pytest.mark.parametrize("matrix", [np.zeros((0, 3)), np.full((2, 2), np.nan), np.zeros(3)])
def test_components_need_finite_rows(matrix: np.ndarray) -> None:
    with pytest.raises(ValueError, match="finite matrix"):
        two_components(matrix)


def test_each_class_of_a_map_has_its_own_colour_and_marker() -> None:
    labels = [f"_{n}" for n in range(65)]
    (axes,) = plots.embedding_map(generator(0, "map").normal(size=(65, 3)), labels).axes
    looks = {
        (tuple(points.get_facecolor()[0]), points.get_paths()[0].vertices.tobytes()) for points in axes.collections[:63]
    }
    assert len(looks) == 63
    (legend,) = axes.figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == [*labels[:63], "2 other classes"]
    assert sum(len(points.get_offsets()) for points in axes.collections) == 65


def test_a_map_draws_no_more_points_than_a_page_can_bear() -> None:
    figure = plots.embedding_map(generator(0, "map").normal(size=(7000, 2)), ["a", "b"] * 3500)
    assert sum(len(points.get_offsets()) for points in figure.axes[0].collections) == 3000


def test_a_map_needs_a_label_for_each_embedding() -> None:
    with pytest.raises(ValueError, match="2 embeddings, but 1 labels"):
        plots.embedding_map(np.eye(2), ["a"])


def test_pictures_are_laid_out_as_matplotlib_would() -> None:
    def plainly(figure: Any) -> None:
        with style():
            figure.savefig(io.BytesIO())

    writers: tuple[Callable[[Any], object], ...] = (plainly, to_png, lambda figure: to_inline_svg(figure, "x"))
    places = []
    for write in writers:
        figure = plots.confusion_matrix(np.eye(4, dtype=int), [f"a rather long class name {k}" for k in range(4)])
        before = figure.axes[0].get_position().bounds
        write(figure)
        places.append(figure.axes[0].get_position().bounds)
        assert np.abs(np.subtract(before, places[-1])).max() > 0.02
    np.testing.assert_allclose(places[1:], [places[0]] * 2, atol=0.01)
