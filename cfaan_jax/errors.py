"""The one error that means "the input is wrong, not the program"."""

import sys
from collections.abc import Callable


class InputError(ValueError):
    """Bad input from the user: a file, a flag, a config value or a data set.

    The message names the file or flag, the offending value and the remedy. Commands print it without a
    traceback and exit with status 2; a library user can catch it.
    """


class DamagedRecord(InputError):
    """One tracklet's record is damaged, or not what the index says; the others may be whole."""


def run_command(main: Callable[[], None]) -> None:
    """Runs a command; bad input is told in one line, with exit status 2."""
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
