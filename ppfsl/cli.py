"""What all command lines share: their arguments, and what becomes of the errors that reach them."""

import argparse
import contextlib
import errno
import os
import select
import shlex
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ppfsl.distributed import launched, together
from ppfsl.errors import ToldError, UserError
from ppfsl.interrupts import noted

if TYPE_CHECKING:  # pydantic takes a quarter of a second, which --help need not wait for
    from ppfsl.config import Config


def run(main: Callable[[], None], several: bool = False, resumes: bool = False) -> None:
    """Run a tool's `main`: a user's mistake, a full disk or a lack of memory becomes one line on stderr and status 2.

    Ctrl-C exits with 130; a reader of standard output that goes away, such as `head`, ends the tool without a word,
    with the status 141 that the shell gives to programs ended so.

    Any other exception is a programming error and keeps its traceback.

    Args:
        main: the tool's.
        several: whether its processes work together where paddle.distributed.launch starts several; else they would
            all do the same, and are refused.
        resumes: whether the same command goes on from where it was interrupted; False: it begins anew.
    """
    if sys.stdout is None:  # the shell has closed it
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115, until the end
    goes_on = "the same command goes on from here" if resumes else "the same command begins anew"
    try:
        if launched().size > 1 and not several:
            tool = Path(sys.argv[0]).name
            _raise_once(UserError(f"{tool} is for one process; start it without paddle.distributed.launch"))
        with noted():
            main()
        with contextlib.suppress(ValueError):  # a standard output that is closed already
            sys.stdout.flush()  # here, where the reader's absence can still be answered for
    except ToldError:
        sys.exit(2)
    except UserError as error:
        _show_origin()
        _leave(f"error: {error}", 2)
    except BrokenPipeError:
        if not _reader_left():
            raise
        sys.exit(141)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            _leave(f"error: {error.filename}: {error.strerror}; choose a shorter one", 2)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _leave(f"error: {error.strerror}; make room, then {goes_on}", 2)
    except MemoryError as error:
        reason = str(error).partition("\n")[0].strip()
        what = f"out of memory: {reason}" if reason else "out of memory"
        _leave(f"error: {what}; free some, then {goes_on}, or choose smaller batches or images", 2)
    except KeyboardInterrupt:
        if resumes and launched().size == 1:
            goes_on = f"to go on: {shlex.join(['python', *sys.argv])}"
        _leave(f"interrupted; {goes_on}", 130)


def device(value: str) -> str:
    """What `--device` names, checked as `device` in a configuration is; argparse wants this kind of error."""
    from ppfsl.config.fields import known_device

    try:
        return known_device(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def config_parser(description: str, default: Path | None = None) -> argparse.ArgumentParser:
    """A parser with `-c` and `-o`; the tools that need more add to it. Without a default, `-c` must be given."""
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "-c",
        "--config",
        required=default is None,
        default=default,
        type=Path,
        metavar="FILE",
        help="configuration, YAML" if default is None else f"configuration, YAML (default {default.name})",
    )
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
    from ppfsl.progress import detail
    from ppfsl.runtime import prepare
    from ppfsl.threads import choose_threads

    try:
        config, name = load_config(arguments.config, arguments.override), config_name(arguments.config)
        before = threads_of(run_folder(config, name))
    except UserError as error:
        _raise_once(error)
    threads = choose_threads(config.threads, before)
    detail(f"configuration: {arguments.config}{''.join(f' {value}' for value in arguments.override)}")
    detail(f"output folder: {run_folder(config, name)}; threads: {threads} (asked for: {config.threads})")
    prepare(threads)
    return config.model_copy(update={"threads": threads}), name


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, as all others, with `--quiet` and `--verbose`."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        talk = self.add_mutually_exclusive_group()
        show: dict[str, Any] = {"dest": "talk", "action": "store_const"}
        talk.add_argument("-q", "--quiet", const="quiet", **show, help="show results, warnings and errors alone")
        talk.add_argument("-v", "--verbose", const="verbose", **show, help="show what is read and kept where, too")
        self.set_defaults(talk="normal")

    def parse_args(self, *arguments: Any, **named: Any) -> Any:
        """As argparse's; what is shown is chosen here, for all that follows."""
        parsed = super().parse_args(*arguments, **named)
        from ppfsl.progress import set_talk

        set_talk(parsed.talk)
        return parsed

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print above a block of usage."""
        _raise_once(UserError(f"{message}; {self.prog} --help says how"))


def _raise_once(error: UserError) -> NoReturn:
    """Raise an error that processes find before they meet: one of them tells the user, and none waits for this one."""
    from ppfsl.runtime import prepare

    prepare(threads=1)
    with together():
        raise error


def _reader_left() -> bool:
    """Whether standard output is a pipe that nobody reads any more; what it still holds then goes nowhere.

    Python would try to write that once more when it ends, and complain.
    """
    try:
        output = sys.stdout.fileno()
    except (OSError, ValueError):  # closed, or no file
        return False
    if hasattr(select, "poll"):  # not on Windows, where a broken pipe is taken for standard output's
        pipe = select.poll()
        pipe.register(output, 0)
        if not pipe.poll(0):
            return False
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, output)
    os.close(nowhere)
    return True


def _show_origin() -> None:
    """The traceback of a user's mistake, for those who ask for details."""
    from ppfsl.progress import verbose

    if verbose():
        traceback.print_exc()


def _leave(line: str, status: int) -> None:
    print(" ".join(line.splitlines()), file=sys.stderr)
    sys.exit(status)
