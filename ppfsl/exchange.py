"""Paddle's operators, replaced for as long as a context lasts.

All of Paddle's layers, functions and tensor methods come down to the functions of `paddle._C_ops`, however a network
names them (`nn.MaxPool2D`, `F.max_pool2d`, `from paddle.nn.functional import max_pool2d`, `x.flatten(1)`). They are
exchanged there, with the same arguments and results.
"""

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from paddle import _C_ops

Operator = Callable[..., Any]

_thread = threading.local()
_lock = threading.Lock()
_contexts = 0
_exchanges: "list[Exchange]" = []
native: dict[str, Operator] = {}  # what was there before, by name


class Exchange:
    """Replacements that hold within a context, in the thread that entered it alone. Contexts nest.

    Args:
        replacements: by name of the function in `paddle._C_ops`; names that this Paddle lacks are left out.
        wanted: whether to replace a call with such arguments.
        rank: where several exchanges are entered, the one of the highest rank is asked first, whichever came first.
    """

    def __init__(self, replacements: Mapping[str, Operator], wanted: Callable[..., bool], rank: int) -> None:
        self.replacements = {name: new for name, new in replacements.items() if hasattr(_C_ops, name)}
        self.wanted, self.rank = wanted, rank
        with _lock:
            for name in self.replacements:
                native.setdefault(name, getattr(_C_ops, name))
            _exchanges.append(self)
            _exchanges.sort(key=lambda exchange: -exchange.rank)
            if _contexts:
                for name in self.replacements:
                    setattr(_C_ops, name, _dispatcher(name))

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Replace within this context."""
        global _contexts
        depths = _thread.__dict__.setdefault("depths", {})
        with _lock:
            if _contexts == 0:
                for name in native:
                    setattr(_C_ops, name, _dispatcher(name))
            _contexts += 1
        depths[self] = depths.get(self, 0) + 1
        try:
            yield
        finally:
            depths[self] -= 1
            with _lock:
                _contexts -= 1
                if _contexts == 0:
                    for name, operator in native.items():
                        setattr(_C_ops, name, operator)


@functools.cache
def _dispatcher(name: str) -> Operator:
    original = native[name]

    @functools.wraps(original)
    def operator(*arguments: Any, **keywords: Any) -> Any:
        depths = _thread.__dict__.get("depths", {})
        for exchange in _exchanges:
            if depths.get(exchange) and name in exchange.replacements and exchange.wanted(*arguments, **keywords):
                return exchange.replacements[name](*arguments, **keywords)
        return original(*arguments, **keywords)

    return operator
