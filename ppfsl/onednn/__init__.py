"""Networks on a CPU with the oneDNN library that Paddle ships, which Paddle's eager mode never calls.

Convolutions, batch norms and max poolings within a `fast_operators` context, forward and backward, in float32, reached
through oneDNN's C interface by `ctypes`: nothing is compiled. Everything else stays Paddle's.
"""

from contextlib import AbstractContextManager, nullcontext

from ppfsl.onednn.native import fast_operators
from ppfsl.onednn.selfcheck import available, problem

__all__ = ["available", "fast_operators", "operators", "problem"]


def operators(wanted: bool) -> AbstractContextManager[None]:
    """`fast_operators` where they are wanted and work, else a context that changes nothing."""
    return fast_operators() if wanted and available() else nullcontext()
