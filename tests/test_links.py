"""Three processes' links, here held by three threads of one."""

import queue
import threading
import time
from collections.abc import Callable
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from typing import Any

import pytest

from ppfsl import links
from ppfsl.errors import UserError
from ppfsl.links import Links, LostError, ReasonError, connect


class Store:
    """Paddle's store as `connect` uses it."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def set(self, key: str, value: str) -> None:
        self._values[key] = value

    def get(self, key: str) -> bytes:
        while key not in self._values:
            time.sleep(0.001)
        return self._values[key].encode()


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int, Links], Any]], list[Any]]:
    """Gives what a function of a rank and its links returns or raises in each of three processes."""
    monkeypatch.setattr(links, "_runs", iter(lambda: 7, None))  # which threads would count together

    def act(function: Callable[[int, Links], Any]) -> list[Any]:
        store, found = Store(), queue.Queue[tuple[int, Any]]()

        def process(rank: int) -> None:
            own = connect(rank, 3, "127.0.0.1", store)
            try:
                found.put((rank, function(rank, own)))
            except BaseException as error:
                found.put((rank, (error, own.farewell(error))))
            finally:
                own.close()

        for rank in range(3):
            threading.Thread(target=process, args=(rank,), daemon=True).start()
        return [value for _, value in sorted((found.get(timeout=20) for _ in range(3)), key=lambda pair: pair[0])]

    return act


Three = Callable[[Callable[[int, Links], Any]], list[Any]]


def test_all_get_every_value_in_order(three: Three) -> None:
    def function(rank: int, own: Links) -> list[Any]:
        time.sleep(0.1 * (2 - rank))  # the last one arrives first
        return [own.exchange((rank, turn)) for turn in range(3)]

    expected = [[(rank, turn) for rank in range(3)] for turn in range(3)]
    assert three(function) == [expected] * 3


def test_values_larger_than_the_systems_buffers(three: Three) -> None:
    assert (
        three(lambda rank, own: [len(part) for part in own.exchange(bytes(10**7 + rank))])
        == [[10**7, 10**7 + 1, 10**7 + 2]] * 3
    )


@pytest.mark.parametrize("culprit", [0, 1, 2])
def test_a_mistake_of_one_ends_all_and_process_0_tells_it(three: Three, culprit: int) -> None:
    def function(rank: int, own: Links) -> None:
        own.exchange(None)
        if rank == culprit:
            raise UserError("mend this")
        own.exchange(None)

    found = three(function)
    sentence = f"process {culprit}: mend this" if culprit else "mend this"
    for rank, (error, told) in enumerate(found):
        assert str(error) == ("mend this" if rank == culprit else sentence)
        assert isinstance(error, ReasonError) == (rank != culprit)
        assert told == (rank != 0)


@pytest.mark.parametrize("slow", [0, 1])
def test_a_mistake_of_all_is_told_by_process_0(three: Three, slow: int) -> None:
    def function(rank: int, own: Links) -> None:
        own.exchange(None)
        time.sleep(0.2 * (rank == slow))
        raise UserError("mend this")

    for rank, (error, told) in enumerate(three(function)):
        assert (type(error), str(error), told) == (UserError, "mend this", rank != 0)


@pytest.mark.parametrize("lost", [0, 1])
def test_who_ends_without_a_word_is_named(three: Three, lost: int) -> None:
    def function(rank: int, own: Links) -> Any:
        own.exchange(None)
        if rank == lost:
            own.close()
            return "lost"
        return own.exchange(None)

    found = three(function)
    assert found.pop(lost) == "lost"
    (first, told_first), (second, told_second) = found
    assert isinstance(first, LostError)
    assert f"process {lost} of this run has ended" in str(first)
    if lost:  # process 0 tells process 2
        assert isinstance(second, ReasonError)
        assert str(second) == str(first)
        assert (told_first, told_second) == (False, True)
    else:
        assert isinstance(second, LostError)
        assert not told_first and not told_second


@pytest.mark.parametrize("how", ["lost", "mistake"])
def test_who_is_at_work_can_ask_what_others_have_come_to(three: Three, how: str) -> None:
    def function(rank: int, own: Links) -> Any:
        own.exchange(None)
        assert rank != 1 or own.fallen() is None
        if rank == 1 and how == "mistake":
            raise UserError("mend this")
        if rank == 1:
            own.close()
        if rank == 2:
            own.exchange("a value that came before")
        while rank == 0 and (error := own.fallen()) is None:
            time.sleep(0.01)
        if rank == 0:
            raise error
        return "lost"

    (first, told), second, third = three(function)
    assert type(first) is (LostError if how == "lost" else ReasonError)
    assert "process 1" in str(first)
    assert not told
    assert (second == "lost") == (how == "lost")
    assert isinstance(third[0], ReasonError)


def test_an_interruption_is_called_so(three: Three) -> None:
    def function(rank: int, own: Links) -> None:
        if rank == 1:
            raise KeyboardInterrupt
        own.exchange(None)

    (first, _), (own, told), _ = three(function)
    assert str(first) == "process 1 of this run was interrupted; the same command goes on from here"
    assert isinstance(own, KeyboardInterrupt)
    assert not told


def test_a_bug_is_named_to_the_others_and_is_not_hidden(three: Three) -> None:
    def function(rank: int, own: Links) -> None:
        if rank == 2:
            raise ZeroDivisionError("no")
        own.exchange(None)

    first, second, bug = three(function)
    assert "process 2 of this run has ended by ZeroDivisionError('no')" in str(first[0])
    assert isinstance(second[0], ReasonError)
    assert isinstance(bug[0], ZeroDivisionError)
    assert not bug[1]


def test_who_waits_in_vain_for_process_0_tells_the_mistake_himself(
    three: Three, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "_PATIENCE", 0.2)

    def function(rank: int, own: Links) -> None:
        if rank == 1:
            raise UserError("mend this")
        if rank == 0:
            time.sleep(1)  # at work on something long
        own.exchange(None)

    assert [told for _, told in three(function)] == [False, False, True]


def test_strangers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever knows the port but not the key; the run goes on."""
    monkeypatch.setattr(links, "_runs", iter(lambda: 7, None))
    store, heard = Store(), queue.Queue[Any]()

    def process(rank: int) -> None:
        heard.put(connect(rank, 2, "127.0.0.1", store).exchange(rank))

    threading.Thread(target=process, args=(0,), daemon=True).start()
    while not store._values:
        time.sleep(0.001)
    port = int(next(iter(store._values.values())).strip("[").split(",")[0])
    with pytest.raises(AuthenticationError):
        Client(("127.0.0.1", port), authkey=b"guess")
    process(1)
    assert [heard.get(timeout=20) for _ in range(2)] == [[0, 1]] * 2
