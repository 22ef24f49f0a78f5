"""What visitors bring is kept apart, within limits, and forgotten."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from ppfsl.classifier.pictures import Unreadable
from ppfsl.classifier.predict import BATCH, Answer
from ppfsl.errors import UserError
from ppfsl.serving.sessions import LimitError, Session, Sessions, UnknownSessionError

Draw = Callable[[str, int], bytes]
Make = Callable[..., Sessions]


def filled(sessions: Sessions, picture: Draw, labels: tuple[str, ...] = ("red", "绿", "blue")) -> Session:
    session = sessions.get(sessions.open())
    for label in labels:
        sessions.add(session, label, [(f"{label} {n}.png", picture(label, n)) for n in range(3)])
    return session


def test_pictures_are_labelled_by_the_classes_that_were_named(open_sessions: Make, picture: Draw) -> None:
    sessions = open_sessions()
    session = filled(sessions, picture)
    built = sessions.build(session)
    assert built.classifier.class_names == ("red", "绿", "blue") and built.left_out == 9
    asked = [(label, picture(label, 9)) for label in ("blue", "red", "绿")]
    answers = sessions.answer(session, [*asked, ("broken", b"nothing")])
    for (label, _), (answer, near) in zip(asked, answers, strict=False):
        assert isinstance(answer, Answer) and answer.label == label
        assert [session.pictures[number].name for number in near] == [file for file, _, _ in answer.nearest]
    assert isinstance(answers[3][0], Unreadable) and answers[3][1] == ()


def test_more_pictures_than_a_batch_with_unreadable_ones_among_them(open_sessions: Make, picture: Draw) -> None:
    """As one by one."""
    sessions = open_sessions()
    spoiled = (0, 5, BATCH - 1, BATCH, BATCH + 3)
    files = [(f"{n}.png", b"nothing" if n in spoiled else picture("red", n)) for n in range(BATCH + 8)]
    together, apart = (sessions.get(sessions.open()) for _ in range(2))
    found = sessions.add(together, "red", files)
    each = [sessions.add(apart, "red", [file])[0] for file in files]
    assert found == each
    assert [one.name for one in found if isinstance(one, Unreadable)] == [f"{n}.png" for n in spoiled]
    for number, one in together.pictures.items():
        other = apart.pictures[number]
        assert one.name == other.name and np.array_equal(one.thumbnail, other.thumbnail)
        np.testing.assert_allclose(one.embedding, other.embedding, atol=1e-5)


def test_numbers_stay_those_of_the_pictures_that_were_built_of(open_sessions: Make, picture: Draw) -> None:
    sessions = open_sessions()
    session = filled(sessions, picture, ("red", "blue"))
    sessions.remove(session, [1, 99])
    sessions.build(session)
    sessions.add(session, "red", [("later.png", picture("red", 5))])
    ((answer, near),) = sessions.answer(session, [("x", picture("red", 2))])
    assert isinstance(answer, Answer)
    assert near[0] == 3 and answer.nearest[0][0] == "red 2.png"


def test_visitors_do_not_see_each_other(open_sessions: Make, picture: Draw) -> None:
    sessions = open_sessions()
    first, second = filled(sessions, picture), sessions.get(sessions.open())
    assert len(first.pictures) == 9 and not second.pictures
    sessions.build(first)
    with pytest.raises(UserError, match="there is no classifier yet; build one first"):
        sessions.answer(second, [("x", picture("red", 0))])
    with pytest.raises(UserError, match="pictures of two classes or more"):
        sessions.build(second)


def test_tokens_cannot_be_guessed(open_sessions: Make) -> None:
    sessions = open_sessions()
    tokens = {sessions.open() for _ in range(50)}
    assert len(tokens) == 50 and min(map(len, tokens)) >= 32


def test_sessions_end_after_a_while_without_use(open_sessions: Make) -> None:
    now = [0.0]
    sessions = open_sessions(clock=lambda: now[0], idle_seconds=10)
    used, unused = sessions.open(), sessions.open()
    now[0] = 8.0
    sessions.get(used)
    now[0] = 12.0
    sessions.get(used)
    with pytest.raises(UnknownSessionError, match="this session has ended; reload the page"):
        sessions.get(unused)
    sessions.close(used)
    sessions.close(used)
    with pytest.raises(UnknownSessionError):
        sessions.get(used)


def test_no_more_visitors_than_allowed(open_sessions: Make) -> None:
    now = [0.0]
    sessions = open_sessions(clock=lambda: now[0], sessions=2, idle_seconds=10)
    sessions.open(), sessions.open()
    with pytest.raises(LimitError, match="too many visitors"):
        sessions.open()
    now[0] = 11.0
    sessions.open()


def test_no_more_classes_or_pictures_than_allowed(open_sessions: Make, picture: Draw) -> None:
    sessions = open_sessions(classes=2, pictures_per_class=3)
    session = filled(sessions, picture, ("red", "blue"))
    with pytest.raises(LimitError, match="a class may have 3 pictures at most"):
        sessions.add(session, "red", [("more.png", picture("red", 7))])
    with pytest.raises(LimitError, match="there are 2 classes already, which is the most"):
        sessions.add(session, "绿", [("more.png", picture("绿", 7))])
    assert len(session.pictures) == 6
    sessions.remove(session, [1])
    assert sessions.add(session, " red ", [("broken", b"x"), ("more.png", picture("red", 7))])[1] == 7


@pytest.mark.parametrize("label", ["", "  ", "a" * 101, "a\nb", "\x00"])
def test_odd_names_of_classes_are_refused(label: str, open_sessions: Make, picture: Draw) -> None:
    sessions = open_sessions()
    session = sessions.get(sessions.open())
    with pytest.raises(UserError, match="a class needs a name of 1 to 100 printable characters"):
        sessions.add(session, label, [("a.png", picture("red", 0))])
    assert not session.pictures


def test_thumbnails_are_small_jpegs(open_sessions: Make, picture: Draw) -> None:
    session = filled(open_sessions(), picture, ("red", "blue"))
    image = Image.open(io.BytesIO(session.pictures[1].jpeg()))
    assert (image.format, image.size) == ("JPEG", (96, 96))
    assert np.abs(np.asarray(image, dtype=float).mean((0, 1)) - (220, 30, 30)).max() < 20


def test_all_visitors_together_have_a_limit(open_sessions: Make, picture: Draw) -> None:
    sessions = open_sessions(pictures=3)
    one, other = (sessions.get(sessions.open()) for _ in range(2))
    sessions.add(one, "red", [("a", picture("red", 0)), ("b", picture("red", 1))])
    with pytest.raises(LimitError, match="too many pictures of all visitors"):
        sessions.add(other, "red", [("a", picture("red", 0)), ("b", picture("red", 1))])
    assert not other.pictures
    sessions.add(other, "red", [("a", picture("red", 0))])
    with pytest.raises(LimitError, match="too many pictures of all visitors"):
        sessions.add(one, "blue", [("a", picture("blue", 0))])
