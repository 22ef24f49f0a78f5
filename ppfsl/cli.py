"""What all command lines share: their arguments, and what becomes of the errors that reach them."""

import argparse
import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ppfsl.distributed import launched
from ppfsl.errors import ToldError, UserError

if TYPE_CHECKING:  # pydantic takes a quarter of a second, which --help need not wait for
    from ppfsl.config import Config


def run(main: Callable[[], None]) -> None:
    """Run a tool's `main`: a user's mistake, or a full disk, becomes one line on stderr and exit status 2.

    Ctrl-C exits with 130.

    Any other exception is a programming error and keeps its traceback.
    """
    try:
        main()
    except ToldError:
        sys.exit(2)
    except UserError as error:
        _leave(f"error: {error}", 2)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _leave(f"error: {error.strerror}; make room, then the same command goes on from here", 2)
    except KeyboardInterrupt:
        _leave("interrupted; the same command goes on from here", 130)


def config_parser(description: str) -> argparse.ArgumentParser:
    """A parser with `-c` and `-o`; the tools that need more add to it."""
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--config", required=True, type=Path, metavar="FILE", help="configuration, YAML")
    parser.add_argument(
        "-o",
        "--override",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="lay a value over the configuration's, such as data.split=fsl_ssl; may be repeated",
    )
    return parser


def read_config(arguments: argparse.Namespace) -> "tuple[Config, str]":
    """The configuration that `-c` and `-o` describe and its name; threads are set, so that Paddle may be imported."""
    from ppfsl.config_file import config_name, load_config, run_folder, threads_of
    from ppfsl.runtime import prepare
    from ppfsl.threads import choose_threads

    try:
        config = load_config(arguments.config, arguments.override)
    except UserError as error:
        raise _once_a_host(error) from None
    name = config_name(arguments.config)
    threads = choose_threads(config.threads, threads_of(run_folder(config, name)))
    prepare(threads)
    return config.model_copy(update={"threads": threads}), name


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, as all others."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print above a block of usage."""
        raise _once_a_host(UserError(f"{message}; {self.prog} --help says how"))


def _once_a_host(error: UserError) -> UserError:
    """The error, where it is the same for all processes of a host: one of them tells the user."""
    return ToldError(str(error)) if launched().local else error


def _leave(line: str, status: int) -> None:
    print(" ".join(line.splitlines()), file=sys.stderr)
    sys.exit(status)
