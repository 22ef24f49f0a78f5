"""Several processes that train and evaluate as one: what `python -m paddle.distributed.launch` starts.

Each process trains on batches that no other process draws, and gradients are averaged before every step; episodes and
images to embed are divided by whole batches, so that results are those of one process to the last bit. Process 0 alone
writes files and messages. Alone, a process touches nothing of `paddle.distributed`.
"""

import contextlib
import io
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ppfsl.errors import ToldError, UserError
from ppfsl.interrupts import interrupt
from ppfsl.links import Links, connect

if TYPE_CHECKING:
    import paddle

Value = TypeVar("Value")


@dataclass(frozen=True)
class World:
    """The processes of a run, as one of them sees them.

    Its methods that need other processes must be called by all of them, in the same order. They raise a UserError when
    another process has ended or made a mistake.

    Attributes:
        rank: of this process, 0..size - 1.
        size: how many there are.
        local: this process's number on its host.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    _links: Links | None = field(default=None, repr=False, compare=False)

    @property
    def main(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def exchange(self, value: Value) -> list[Value]:
        """Every process's value, in the order of the processes."""
        if self.size == 1:
            return [value]
        assert self._links is not None, "only together() joins processes"
        return self._links.exchange(value)

    def on_main(self, function: Callable[[], Value]) -> Value:
        """What the function gives process 0, which alone calls it."""
        value = function() if self.main else None
        return self.exchange(value)[0]  # type: ignore[return-value]

    def in_turns(self, function: Callable[[], Value]) -> Value:
        """What the function gives this process, when it makes files that other processes find made.

        Process 0 calls it first, then the first process of every other host, then all others.
        """
        turn = 0 if self.main else 1 if self.local == 0 else 2
        for now in range(3):
            if now == turn:
                value = function()
            self.exchange(None)
        return value

    def check_same(self, facts: Mapping[str, Any]) -> None:
        """Raise when processes differ in what all must have in common.

        Raises:
            UserError: naming it.
        """
        every = self.exchange(dict(facts))
        for rank, other in enumerate(every):
            for key in sorted(every[0].keys() | other.keys()):
                first, value = every[0].get(key), other.get(key)
                if first != value:
                    raise UserError(
                        f"process {rank} has {key} = {value!r:.100}, process 0 has {first!r:.100}; "
                        "give every host the same version, command, configuration and data"
                    )

    def total(self, array: np.ndarray) -> np.ndarray:
        """The sum of all processes' arrays."""
        if self.size == 1:
            return array
        return np.sum(self.exchange(array), axis=0, dtype=array.dtype)

    def share(self, items: Sequence[Value]) -> Sequence[Value]:
        """This process's part of a sequence: every `size`-th item."""
        return items[self.rank :: self.size]

    def average_gradients(self, parameters: Sequence["paddle.Tensor"], numbers: dict[str, float]) -> dict[str, float]:
        """Put the mean over all processes in the place of every gradient; the means of the numbers.

        A parameter without a gradient counts as one whose gradient is zero, unless no process has one.
        """
        if self.size == 1:
            return numbers
        import paddle

        every = self.exchange(numbers)
        with paddle.no_grad():
            own = [parameter.grad for parameter in parameters]
            has = paddle.to_tensor([float(gradient is not None) for gradient in own])
            parts = [paddle.zeros_like(p) if g is None else g for p, g in zip(parameters, own, strict=True)]
            *means, having = self._means([*parts, has], "float32")
            for parameter, gradient, mean, some in zip(parameters, own, means, having.tolist(), strict=True):
                if gradient is not None:
                    gradient.set_value(mean)
                elif some:
                    parameter.grad = mean
        return {key: float(np.mean([other[key] for other in every])) for key in numbers}

    def average_weights(self, layers: Sequence["paddle.nn.Layer"]) -> None:
        """Give all processes the same weights: batch norm's running statistics become their mean.

        What is the same already stays the same to the last bit: the mean is taken in float64.
        """
        if self.size == 1:
            return
        import paddle

        self.exchange(None)
        tensors = {id(tensor): tensor for layer in layers for tensor in layer.state_dict().values()}
        weights = [tensor for tensor in tensors.values() if tensor.is_floating_point()]
        with paddle.no_grad():
            for weight, mean in zip(weights, self._means(weights, "float64"), strict=True):
                weight.set_value(mean.astype(weight.dtype))

    def _means(self, tensors: Sequence["paddle.Tensor"], dtype: str) -> list["paddle.Tensor"]:
        """The means of tensors over all processes, which have just met: gloo waits for 30 seconds at most."""
        import paddle
        import paddle.distributed

        flat = paddle.concat([tensor.astype(dtype).reshape([-1]) for tensor in tensors])
        _use_collectives()
        try:
            paddle.distributed.all_reduce(flat)
        except RuntimeError as error:
            self.exchange(None)  # says which process has ended
            raise UserError(f"the processes of this run have lost each other ({error!s:.200})") from None
        flat = flat / self.size
        parts = flat.split([int(tensor.size) for tensor in tensors])
        return [part.reshape(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


ALONE = World()


def launched() -> World:
    """This process's place as the launcher's environment has it; not joined to the others."""
    keys = (("TRAINER_ID", "0"), ("TRAINERS_NUM", "1"), ("RANK_IN_NODE", "0"))
    rank, size, local = (int(os.environ.get(f"PADDLE_{key}", default)) for key, default in keys)
    return World(rank, size, local) if size > 1 else ALONE


@contextlib.contextmanager
def together() -> Iterator[World]:
    """All processes that the launcher has started, joined for as long as the context lasts.

    Raises:
        UserError: in every process, when one of them raises it, and when one ends without a word.
        ToldError: in place of it where another process tells the user.
    """
    place = launched()
    if place.size == 1:
        yield ALONE
        return
    signal.signal(signal.SIGTERM, _interrupt)
    links = _join(place)
    try:
        yield World(place.rank, place.size, place.local, links)
    except BaseException as caught:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the rest is short
        # The launcher interrupts the other processes when one has ended, of which they may not have heard yet.
        error = (links.fallen() if isinstance(caught, KeyboardInterrupt) else None) or caught
        told = links.farewell(error) or isinstance(error, KeyboardInterrupt)
        if told and place.local:  # on another host than that of process 0, the first process tells the user, too
            raise ToldError(str(error)) from None
        if error is not caught:
            raise error from None
        raise
    finally:
        links.close()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End as by Ctrl-C, where Paddle would print the state of its C++ side; the launcher asks up to three times."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    interrupt(number, frame)


def _join(place: World) -> Links:
    from paddle.base import core

    host = os.environ["PADDLE_TRAINER_ENDPOINTS"].split(",")[0].rpartition(":")[0]
    try:
        return connect(place.rank, place.size, host, core.create_or_get_global_tcp_store())
    except (RuntimeError, OSError, EOFError) as error:
        raise UserError(
            f"process {place.rank} cannot reach process 0 at {host} ({error!s:.200}); see docs/distributed.md, "
            "or start the run without paddle.distributed.launch"
        ) from None


def _use_collectives() -> None:
    """Have Paddle join all processes too, if that has not been done: gloo on CPUs, nccl on GPUs."""
    import paddle
    import paddle.distributed

    if paddle.distributed.is_initialized():
        return
    os.environ["PADDLE_DISTRI_BACKEND"] = "gloo" if paddle.get_device() == "cpu" else "nccl"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # a list of flags
        paddle.distributed.init_parallel_env()
