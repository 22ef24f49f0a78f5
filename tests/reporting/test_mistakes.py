import numpy as np
import pytest

from ppfsl.reporting.drawing import to_inline_svg
from ppfsl.reporting.mistakes import Mistakes, mistake_sheet, most_confident

ALONG = np.eye(3, dtype=np.float32)  # three directions
LOGITS = np.log(
    np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.05, 0.9, 0.05], [0.2, 0.2, 0.6], [0.5, 0.3, 0.2]], dtype=np.float32)
)
TRUTH = np.array([0, 0, 1, 2, 2])  # the queries 1 and 4 are wrong


def find(most: int = 6, nearest: int = 2) -> Mistakes:
    query = np.array([ALONG[0], [0.6, 0.8, 0], ALONG[1], ALONG[2], [0, 0.28, 0.96]], dtype=np.float32)
    return most_confident(LOGITS, TRUTH, query, ALONG, most, nearest)


def test_wrong_answers_alone_the_surest_first() -> None:
    found = find()
    assert found.queries.tolist() == [1, 4] and found.predicted.tolist() == [1, 0]
    assert found.confidence == pytest.approx([0.8, 0.5], abs=1e-6)
    assert find(most=1).queries.tolist() == [1]


def test_support_images_by_their_cosine() -> None:
    found = find()
    assert found.nearest.tolist() == [[1, 0], [2, 1]]
    assert found.cosines == pytest.approx(np.array([[0.8, 0.6], [0.96, 0.28]]), abs=1e-6)


def test_certain_answers_are_ordered_by_their_lead_over_the_true_class() -> None:
    logits = np.array([[0.0, 500.0], [0.0, 900.0], [0.0, 700.0]], dtype=np.float32)
    found = most_confident(logits, np.zeros(3, dtype=np.int64), ALONG, ALONG, 3, 1)
    assert found.confidence.tolist() == [1.0, 1.0, 1.0]
    assert found.queries.tolist() == [1, 2, 0]


def test_nothing_wrong_is_no_mistake() -> None:
    found = most_confident(LOGITS, LOGITS.argmax(-1), ALONG[[0, 1, 1, 2, 0]], ALONG, 6, 3)
    assert found.queries.size == 0 and found.nearest.shape == (0, 3)
    with pytest.raises(ValueError, match="needs a mistake"):
        mistake_sheet(np.zeros((5, 4, 4, 3), np.uint8), np.zeros((3, 4, 4, 3), np.uint8), TRUTH, range(3), found, "abc")


@pytest.mark.parametrize("channels", [1, 3])
def test_sheet_says_class_answer_and_neighbours(channels: int) -> None:
    images = np.zeros((5, 8, 8, channels), dtype=np.uint8)
    figure = mistake_sheet(images, images[:3], TRUTH, np.arange(3), find(), ["rose", "向日葵", "$x"])
    grid = np.array(figure.axes).reshape(2, 3)
    assert [axes.get_xlabel() for axes in grid[0]] == [
        "rose\ntaken for 向日葵\n(80 %)",
        "向日葵\ncosine 0.80",
        "rose\ncosine 0.60\n(its class)",
    ]
    assert [len(axes.lines) for axes in grid.ravel()] == [1, 0, 0, 1, 0, 0]  # a cross on the queries, which are wrong
    assert "taken for" in to_inline_svg(figure, "Mistakes")
