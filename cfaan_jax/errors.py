"""The one error that means "the input is wrong, not the program"."""


class InputError(ValueError):
    """Bad input from the user: a file, a flag, a config value or a data set.

    The message names the file or flag, the offending value and the remedy. Commands print it without a
    traceback and exit with status 2; a library user can catch it.
    """
