"""What wrong input raises, and the exit statuses of all commands.

| status | when |
|---|---|
| 0 | done |
| 1 | the machine cannot go on: a full disk, no permission, a path that is gone |
| 2 | wrong input: a file, a flag, a config value, a data set |
| 128 + n | stopped by signal n: 130 Ctrl-C, 143 SIGTERM, 141 nobody reads the output any more |
"""

from collections.abc import Collection

DONE, MACHINE_ERROR, INPUT_ERROR = 0, 1, 2
SIGNALLED = 128  # plus the number of the signal


class InputError(ValueError):
    """Bad input from the user: a file, a flag, a config value or a data set.

    The message fits two lines and says in this order: what is wrong with which file, field or value; what would be
    right; what to type. Commands print it without a traceback and exit with status 2; a library user can catch it.

    Examples:
        >>> from cfaan_jax import errors, models
        >>> try:
        ...     models.create("resnet", num_classes=5)
        ... except errors.InputError as error:
        ...     print(error)
        model name 'resnet': choose one of c2d, nonlocal, cfaan, ...
    """


class DamagedRecord(InputError):
    """One tracklet's record is damaged, or differs from what the index says; the others may be whole."""


def reason(error: Exception) -> str:
    """What an error says: one of the system without its number and path, a KeyError and the like with their type."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def shortened(entries: Collection[object], most: int = 5) -> str:
    """A list in a message: the first entries, and the count where there are more.

    Examples:
        >>> shortened(["a", "b"])
        'a, b'
        >>> shortened(range(8))
        '0, 1, 2, 3, 4, ... (8 in all)'
    """
    text = ", ".join(str(entry) for _, entry in zip(range(most), entries, strict=False))
    return text if len(entries) <= most else f"{text}, ... ({len(entries):,} in all)"
