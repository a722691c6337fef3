"""What wrong input raises."""

from collections.abc import Collection


class InputError(ValueError):
    """Bad input from the user: a file, a flag, a config value or a data set.

    The message names the file or flag, the offending value and the remedy. Commands print it without a
    traceback and exit with status 2; a library user can catch it.

    Examples:
        >>> from cfaan_jax import errors, models
        >>> try:
        ...     models.create("resnet", num_classes=5)
        ... except errors.InputError as error:
        ...     print(error)
        model name 'resnet': choose one of c2d, nonlocal, cfaan, ...
    """


class DamagedRecord(InputError):
    """One tracklet's record is damaged, or not what the index says; the others may be whole."""


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
