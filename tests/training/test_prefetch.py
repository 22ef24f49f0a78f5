"""Items made ahead: the same ones in the same order, no more than asked for, errors and ends passed on."""

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfsl.training.prefetch import Prefetched


def threads() -> int:
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


@settings(deadline=None, max_examples=50)
@given(items=st.lists(st.one_of(st.none(), st.integers(), st.text())), ahead=st.integers(1, 4))
def test_all_items_come_in_order(items: list[object], ahead: int) -> None:
    with Prefetched(iter(items), ahead) as found:
        assert list(found) == items
    assert not threads()


def test_items_are_made_by_another_thread_and_not_far_ahead() -> None:
    made, makers = [], set()

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            makers.add(threading.current_thread())
            yield number

    with Prefetched(items(), ahead=3) as found:
        for number in found:
            if number == 10:
                time.sleep(0.2)
                # Taken: 0 to 10; three wait in the queue; one waits for room.
                assert made == list(range(15))
    assert threading.current_thread() not in makers


def test_what_making_an_item_raises_is_raised_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("the second")

    seen = []
    with pytest.raises(KeyError, match="the second"), Prefetched(items()) as found:
        for item in found:
            seen.append(item)
    assert seen == [1]
    assert not threads()


def test_leaving_early_ends_the_thread() -> None:
    def items() -> Iterator[int]:
        while True:
            yield 0

    with pytest.raises(ZeroDivisionError), Prefetched(items()) as found:
        for item in found:
            1 / item
    assert not threads()


def test_waiting_is_counted() -> None:
    def items() -> Iterator[int]:
        for number in range(3):
            time.sleep(0.1)
            yield number

    with Prefetched(items()) as found:
        list(found)
        assert 0.2 < found.waited < 1
    with Prefetched(iter(range(3))) as found:
        for _ in found:
            time.sleep(0.05)
        assert found.waited < 0.1
