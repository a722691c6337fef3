"""How a command begins and ends: its flags, its exit status, and one line for what went wrong outside the program."""

import argparse
import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from cfaan_jax.errors import DONE, INPUT_ERROR, MACHINE_ERROR, SIGNALLED, InputError, shortened
from cfaan_jax.runtime.interrupt import Interrupted

_REMEDIES = {
    (errno.ENOSPC, errno.EDQUOT): "free some space there",
    (errno.EFBIG,): "raise the limit on the size of files",
    (errno.EISDIR,): "name a file, not a folder",
    (errno.EEXIST,): "name another folder, this is a file",
    (errno.EROFS, errno.EACCES, errno.EPERM): "give yourself the permission to write there, or name another folder",
    (errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT): "bring it back",
}


class CommandParser(argparse.ArgumentParser):
    """Flags of a command: never abbreviated, and what is wrong with them is an InputError of one line."""

    def __init__(self, prog: str, about: str, **options: Any) -> None:
        super().__init__(prog=prog, description=about, allow_abbrev=False, **options,
                         formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=120))

    def error(self, message: str) -> NoReturn:
        text, _, choices = message.partition(" (choose from ")  # argparse lists them all
        if choices:
            names = choices.removesuffix(")").replace("'", "").split(", ")
            text += f": choose one of {shortened(names)}"
        raise InputError(f"{text}; see {self.prog} --help")


def exit_status(work: Callable[[], object], saved: str = "") -> int:
    """Runs a command, prints one line for an error that is not the program's; returns a status of `cfaan_jax.errors`.

    `work` may return a status of its own. `saved` says what is saved and how to resume, if `Interrupted` stops it.
    """
    try:
        status = work()
        return status if isinstance(status, int) else DONE
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return INPUT_ERROR
    except BrokenPipeError:  # the reader of the output has seen enough of it, as in `| head`
        sys.stdout = open(os.devnull, "w")  # Python would report what it cannot write at its end
        return SIGNALLED + signal.SIGPIPE
    except OSError as error:
        print(f"error: {describe_os_error(error)}", file=sys.stderr)
        return MACHINE_ERROR
    except Interrupted as stop:
        print(f"stopped by {stop}; {saved}", file=sys.stderr)
        return SIGNALLED + stop.signum
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return SIGNALLED + signal.SIGINT


def describe_os_error(error: OSError) -> str:
    """The path, the reason and the remedy."""
    path = f"{error.filename}: " if error.filename else ""
    remedies = (remedy for numbers, remedy in _REMEDIES.items() if error.errno in numbers)
    remedy = next(remedies, "free some space, or repair the disk")
    return f"{path}{error.strerror or error}; {remedy}, then run the same command again"


def run_command(main: Callable[[], object]) -> None:
    """Runs a command and ends the process with its exit status, see `exit_status`."""
    sys.exit(exit_status(main))
