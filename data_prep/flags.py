"""Values of flags: how a size is written, and the range of a number."""

import argparse
import math

from cfaan_jax.errors import InputError


def parse_size(text: str) -> tuple[int, int]:
    """Reads a size such as `256x128`, height first; at most 16,384 pixels, which a JPEG file can hold."""
    height, cross, width = text.partition("x")
    if not (cross and height.isdecimal() and width.isdecimal() and 0 < int(height) <= 16384 >= int(width) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write HEIGHTxWIDTH in pixels up to 16384, such as "
                                         "256x128")
    return int(height), int(width)


def check_range(flag: str, value: float | None, low: float, high: float = math.inf) -> None:
    """Raises InputError for a value outside `low` to `high`, both included; None is always valid."""
    if value is not None and not low <= value <= high:
        raise InputError(f"--{flag}={value}: must be "
                         + (f"at least {low}" if high == math.inf else f"between {low} and {high}"))
