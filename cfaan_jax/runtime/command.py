"""How a command ends: its exit status, and one line for what went wrong outside the program."""

import errno
import os
import signal
import sys
from collections.abc import Callable

from cfaan_jax.errors import DONE, INPUT_ERROR, MACHINE_ERROR, SIGNALLED, InputError
from cfaan_jax.runtime.interrupt import Interrupted

_REMEDIES = {
    (errno.ENOSPC, errno.EDQUOT): "free some space there",
    (errno.EFBIG,): "raise the limit on the size of files",
    (errno.EISDIR,): "name a file, not a folder",
    (errno.EROFS, errno.EACCES, errno.EPERM): "give yourself the permission to write there, or name another folder",
    (errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT): "bring it back",
}


def exit_status(work: Callable[[], object], saved: str = "") -> int:
    """Runs a command, prints one line for an error that is not the program's; returns a status of `cfaan_jax.errors`.

    `saved` says what is saved and how to resume where `Interrupted` stops the command.
    """
    try:
        work()
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
    return DONE


def describe_os_error(error: OSError) -> str:
    """The path, the reason and the remedy."""
    path = f"{error.filename}: " if error.filename else ""
    remedies = (remedy for numbers, remedy in _REMEDIES.items() if error.errno in numbers)
    remedy = next(remedies, "free some space, or repair the disk")
    return f"{path}{error.strerror or error}; {remedy}, then run the same command again"


def run_command(main: Callable[[], object]) -> None:
    """Runs a command and ends the process with its exit status, see `exit_status`."""
    sys.exit(exit_status(main))
