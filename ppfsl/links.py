"""What joins the processes of one run: sockets between process 0 and each of the others.

Paddle's collectives alone do not suffice. Those of gloo give up after 30 seconds, while one process may have to wait
for another for minutes (images are decoded, a report is written); and neither gloo nor nccl says why another process
does not come. Here nobody gives up, whoever ends closes his socket, which the others notice at once, and his reason
travels along.

Values travel pickled, and unpickling runs whatever the sender likes: `multiprocessing.connection` unpickles nothing
before the other side has shown that it knows the run's key. The key is drawn for every run and handed out by the
launcher's store, which asks nobody who he is: as all of `paddle.distributed`, this is for trusted networks.
"""

import contextlib
import errno
import itertools
import json
import os
import secrets
import socket
from collections.abc import Sequence
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, wait
from typing import Any

from ppfsl.errors import UserError

_PATIENCE = 60.0  # seconds in which process 0 is to learn of a mistake before the process that found it ends
_runs = itertools.count()  # of this process: each has addresses of its own


class Links:
    """A process's links to the others.

    Args:
        rank: of this process.
        connections: of process 0: to the processes 1, 2, ... in this order; of another: to process 0 alone.
    """

    def __init__(self, rank: int, connections: Sequence[Connection]) -> None:
        others = range(1, len(connections) + 1) if rank == 0 else (0,)
        self._rank, self._to = rank, dict(zip(others, connections, strict=True))
        for connection in connections:
            _notice_dead_hosts(connection)

    def exchange(self, value: Any) -> list[Any]:
        """Every process's value, in the order of the processes; all must call it equally often.

        Raises:
            UserError: when another process has ended or made a mistake.
        """
        if self._rank:
            self._send(0, value)
            return self._receive(0)
        values = {0: value}
        missing = {connection: rank for rank, connection in self._to.items()}
        while missing:
            for connection in wait(list(missing)):
                rank = missing.pop(connection)  # type: ignore[call-overload]
                values[rank] = self._receive(rank)
        found = [values[rank] for rank in sorted(values)]
        for rank in self._to:
            self._send(rank, found)
        return found

    def fallen(self) -> UserError | None:
        """What `exchange` would raise, as far as it has come through; values on their way are lost."""
        for rank, connection in self._to.items():
            try:
                while connection.poll(0):
                    self._receive(rank)
            except UserError as error:
                return error
            except OSError:
                return LostError(rank)
        return None

    def farewell(self, error: BaseException) -> bool:
        """Tell the others why this process ends; whether process 0 tells the user of it in this one's place."""
        if self._rank and isinstance(error, ReasonError):
            return True
        for connection in self._to.values():
            with contextlib.suppress(OSError):  # it has gone itself
                connection.send(_Reason(_sentence(error, self._rank)))
        if self._rank and isinstance(error, UserError):
            self._to[0].poll(_PATIENCE)
            return isinstance(self.fallen(), ReasonError)
        return False

    def close(self) -> None:
        """Close all links."""
        for connection in self._to.values():
            connection.close()

    def _send(self, rank: int, value: Any) -> None:
        try:
            self._to[rank].send(value)
        except OSError:
            self._receive(rank)  # which may have said why it went
            raise LostError(rank) from None

    def _receive(self, rank: int) -> Any:
        try:
            value = self._to[rank].recv()
        except (EOFError, OSError):
            raise LostError(rank) from None
        if isinstance(value, _Reason):
            raise ReasonError(value.sentence)
        return value


class LostError(UserError):
    """Another process has ended without a word."""

    def __init__(self, rank: int) -> None:
        folder = os.environ.get("PADDLE_LOG_DIR", "the launcher's log folder")
        super().__init__(
            f"process {rank} of this run has ended or cannot be reached (was it killed, or is its memory full?); what "
            f"it said is in a workerlog file of {folder} on its host; the same command goes on from here"
        )


class ReasonError(UserError):
    """Another process has ended and said why."""


class _Reason:
    """Why a process ends, for the others."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence


def connect(rank: int, size: int, host: str, store: Any) -> Links:
    """Join this process to the others.

    Args:
        rank: of this process.
        size: how many there are.
        host: where the others reach process 0.
        store: Paddle's, which all processes share: `set` and `get`, which waits.
    """
    place = f"ppfsl/process 0 of run {next(_runs)}"
    if rank:
        port, key = json.loads(store.get(place))
        connection = Client((host, port), authkey=bytes.fromhex(key))
        connection.send(rank)
        return Links(rank, [connection])
    key = secrets.token_hex(32)  # not every user of this host may talk to this run
    with Listener((host, 0), backlog=size, authkey=bytes.fromhex(key)) as listener:
        store.set(place, json.dumps([listener.address[1], key]))
        accepted: dict[int, Connection] = {}
        while len(accepted) < size - 1:
            with contextlib.suppress(AuthenticationError, EOFError, OSError):  # strangers, such as port scanners
                connection = listener.accept()
                accepted[connection.recv()] = connection
    return Links(0, [accepted[other] for other in range(1, size)])


def _sentence(error: BaseException, rank: int) -> str:
    if isinstance(error, UserError):
        return f"process {rank}: {error}" if rank else str(error)
    if isinstance(error, KeyboardInterrupt):
        return f"process {rank} of this run was interrupted; the same command goes on from here"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.strerror}; make room, then the same command goes on from here"
    return f"process {rank} of this run has ended by {error!r:.300}; the log of that process says more"


def _notice_dead_hosts(connection: Connection) -> None:
    """Have the system ask a silent host every minute whether it is still there, where it can."""
    with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, seconds in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
            if hasattr(socket, name):
                duplicate.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)
