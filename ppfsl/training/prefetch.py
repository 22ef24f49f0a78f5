"""Batches made in the background while the network works on the one before."""

import queue
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Prefetched(Generic[Item]):
    """An iterator whose items a thread of its own makes ahead of time, in order; a context that ends the thread.

    What making an item raises, taking it raises.

    Args:
        items: what to iterate over, by that thread alone.
        ahead: items that may be ready at a time.

    Attributes:
        waited: seconds that the consumer has spent waiting for items so far.
    """

    def __init__(self, items: Iterator[Item], ahead: int = 2) -> None:
        self.waited = 0.0
        self._ready: queue.Queue[tuple[str, Item | BaseException | None]] = queue.Queue(ahead)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._make, args=(items,), name="prefetch", daemon=True)

    def __enter__(self) -> "Prefetched[Item]":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        while self._thread.is_alive():  # it may be waiting for room
            try:
                self._ready.get(timeout=0.05)
            except queue.Empty:
                continue

    def __iter__(self) -> Iterator[Item]:
        while True:
            started = time.perf_counter()
            what, value = self._ready.get()
            self.waited += time.perf_counter() - started
            if what == "end":
                return
            if what == "error":
                assert isinstance(value, BaseException)
                raise value
            yield value  # type: ignore[misc]

    def _make(self, items: Iterator[Item]) -> None:
        try:
            for item in items:
                self._ready.put(("item", item))
                if self._ended.is_set():
                    return
            self._ready.put(("end", None))
        except BaseException as error:  # the consumer's to see, whatever it is
            self._ready.put(("error", error))
