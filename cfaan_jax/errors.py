"""What wrong input raises."""


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
