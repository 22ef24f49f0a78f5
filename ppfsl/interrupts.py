"""Ctrl-C stays Ctrl-C: Paddle's C++ side makes other errors of a KeyboardInterrupt that is raised beneath it.

Python raises it between any two of its instructions, also in those that Paddle calls: the backward passes of `PyLayer`s
and parts of the export. What comes out is a RuntimeError with pages of C++ frames.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from ppfsl.errors import UserError

_heard = False


@contextlib.contextmanager
def noted() -> Iterator[None]:
    """Raise KeyboardInterrupt for whatever an interruption within the context has become."""
    global _heard
    # A shell's background jobs ignore Ctrl-C, and a program around this one may have plans of its own.
    own = threading.current_thread() is threading.main_thread()
    own = own and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if own:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except UserError:  # ours, and perhaps why this process was interrupted
        raise
    except Exception:
        raise_if_heard()
        raise
    finally:
        _heard = False
        if own:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Handle a signal: note it, and raise KeyboardInterrupt."""
    global _heard
    _heard = True
    raise KeyboardInterrupt


def raise_if_heard() -> None:
    """For those who catch every error: raise KeyboardInterrupt where that is what the error was."""
    if _heard:
        raise KeyboardInterrupt from None
