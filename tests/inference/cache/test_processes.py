"""Several processes and one cache: they compute once, and stay together."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ppfsl.backbones.embedder import Embedder, build_embedder
from ppfsl.data.table import ImageTable
from ppfsl.distributed import World
from ppfsl.errors import UserError
from ppfsl.inference import cache as module
from ppfsl.inference.cache import NO_CACHE, EmbeddingCache
from ppfsl.links import connect
from tests.inference.cache.kept import ROWS, SMALL, files, full_disk, unwritable
from tests.test_links import Store

Two = Callable[[Callable[[World], Any]], list[Any]]


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Two:
    """Gives what a function returns or raises in each of two processes, here threads, that embed as one."""

    def act(function: Callable[[World], Any]) -> list[Any]:
        store, found = Store(), {}

        def process(rank: int) -> None:
            own = connect(rank, 2, "127.0.0.1", store)
            try:
                found[rank] = function(World(rank, 2, rank, own))
            except BaseException as error:
                found[rank] = error
                own.farewell(error)
            finally:
                own.close()

        threads = [threading.Thread(target=process, args=(rank,), daemon=True) for rank in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        return [found.get(rank, "waits for ever") for rank in range(2)]

    def embedding(
        embedder: Embedder,
        images: np.ndarray,
        rows: np.ndarray,
        kind: str,
        batch: int,
        bar: Any,
        world: World,
        out: Any,
    ) -> np.ndarray:
        """Whose numbers show how often this has been called."""
        calls[world.rank] += 1
        result = np.empty((len(rows), embedder.backbone_dim), np.float32) if out is None else out
        result[:] = world.exchange({"calls": calls[world.rank]})[1]["calls"] + rows[:, None]
        return result

    calls = [0, 0]
    monkeypatch.setattr("ppfsl.links._runs", iter(lambda: 7, None))  # which threads would count together
    monkeypatch.setattr(module, "embed", embedding)
    return act


def test_processes_compute_once_and_then_read(cache: EmbeddingCache, table: ImageTable, two: Two) -> None:
    embedder = build_embedder(SMALL, 0)
    for _ in range(2):
        one, other = two(lambda world: cache.features(embedder, table, ROWS, world=world))
        assert np.array_equal(one, other) and one[:, 0].tolist() == [4, 1, 8]
        assert isinstance(one, np.memmap)
    assert len(files(cache)) == 1


@pytest.mark.parametrize("keeper", [0, 1])
def test_each_host_may_keep_as_much_as_it_likes(
    keeper: int, cache: EmbeddingCache, table: ImageTable, two: Two
) -> None:
    """data.embedding_cache is not among what all must have in common; process 0 decides."""
    embedder = build_embedder(SMALL, 0)
    for calls in (1, 1 if keeper == 0 else 2):
        found = two(
            lambda world: (cache if world.rank == keeper else NO_CACHE).features(embedder, table, ROWS, world=world)
        )
        assert [features[:, 0].tolist() for features in found] == [[3 + calls, calls, 7 + calls]] * 2
    assert cache.folder is not None and cache.folder.exists() == (keeper == 0)


@pytest.mark.parametrize(("name", "failure"), [("new_array", full_disk), ("replacing", unwritable), ("_read", None)])
def test_processes_stay_together_where_nothing_can_be_kept(
    name: str,
    failure: Any,
    cache: EmbeddingCache,
    table: ImageTable,
    two: Two,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    embedder = build_embedder(SMALL, 0)
    monkeypatch.setattr(module, name, failure or (lambda *_: None))
    found = two(
        lambda world: (cache.features(embedder, table, ROWS, world=world)[:, 0].tolist(), world.exchange("then"))
    )
    assert found == [([4, 1, 8], ["then", "then"])] * 2


def test_a_mistake_of_another_process_is_not_the_files(
    cache: EmbeddingCache, table: ImageTable, two: Two, capsys: pytest.CaptureFixture[str]
) -> None:
    embedder = build_embedder(SMALL, 0)

    def function(world: World) -> np.ndarray:
        if world.main:
            return cache.features(embedder, table, ROWS, world=world)
        world.exchange(None)  # where files are looked for
        raise UserError("mend this")

    one, _ = two(function)
    assert isinstance(one, UserError) and str(one) == "process 1: mend this"
    assert capsys.readouterr().err == "" and files(cache) == []
