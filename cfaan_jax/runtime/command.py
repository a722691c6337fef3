"""How a command ends: its exit status, and one line for what went wrong outside the program."""

import errno
import os
import signal
import sys
from collections.abc import Callable

from cfaan_jax.errors import InputError
from cfaan_jax.runtime.interrupt import ctrl_c_anywhere

_REMEDIES = {
    (errno.ENOSPC, errno.EDQUOT): "free some space there",
    (errno.EFBIG,): "raise the limit on the size of files",
    (errno.EISDIR,): "name a file, not a folder",
    (errno.EROFS, errno.EACCES, errno.EPERM): "give yourself the permission to write there, or name another folder",
    (errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT): "bring it back",
}


def exit_status(work: Callable[[], object]) -> int:
    """Does the work of a command; what goes wrong outside the program is told in one line.

    Returns:
        the exit status: 0 done, 1 the machine cannot go on (a full disk, no permission, a path that is gone), 2 wrong
        input, 130 Ctrl-C, 141 nobody reads the output any more.
    """
    try:
        with ctrl_c_anywhere():
            work()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # who read the output has seen enough of it, as in `| head`
        sys.stdout = open(os.devnull, "w")  # Python would report what it cannot write at its end
        return 128 + signal.SIGPIPE
    except OSError as error:
        print(f"error: {describe_os_error(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


def describe_os_error(error: OSError) -> str:
    """The path, the reason and the remedy."""
    where = f"{error.filename}: " if error.filename else ""
    remedies = (remedy for numbers, remedy in _REMEDIES.items() if error.errno in numbers)
    remedy = next(remedies, "free some space, or repair the disk")
    return f"{where}{error.strerror or error}; {remedy}, then run the same command again"


def run_command(main: Callable[[], object]) -> None:
    """Runs a command and ends the process with a status that is not 0 if something went wrong, see `exit_status`."""
    if status := exit_status(main):
        sys.exit(status)
