"""What to do where a program does not fit into the memory of a device."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from cfaan_jax.errors import InputError


@contextmanager
def explained(work: str, remedy: str) -> Iterator[None]:
    """Within this context a device without memory left is an InputError of one line, not the compiler's page.

    `work` says what needs the memory and `remedy` which settings take less of it.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        device, needed = jax.local_devices()[0], re.search(r"([\d.]+ ?[KMGT](i?B)?|\d+ bytes)\b", str(error))
        limit = (device.memory_stats() or {}).get("bytes_limit")
        asked = f", which asked for {needed[1]}" if needed else ""
        given = f" ({limit / 2**30:.1f} GiB for this program)" if limit else ""
        raise InputError(f"{device.device_kind}{given} has no memory for {work}{asked}; {remedy}") from error
