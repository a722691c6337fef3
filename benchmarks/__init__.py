"""Measurements, one command each: a table on the screen and a JSON file."""

import argparse
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from cfaan_jax.errors import InputError, shortened
from cfaan_jax.runtime.command import CommandParser


def command(name: str, about: str) -> CommandParser:
    """The parser of `python -m benchmarks.<name>`, with the flag that all of them have."""
    parser = CommandParser(f"python -m benchmarks.{name}", about)
    parser.add_argument("--out", type=_new_file, required=True, help="JSON file to write")
    return parser


def _new_file(text: str) -> Path:
    path = Path(text)
    if not path.parent.is_dir() or path.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: give a file in a folder that is there")
    return path


def whole(least: int = 1) -> Callable[[str], int]:
    """For `type=` of a flag: a whole number that is not smaller."""
    def number(text: str) -> int:
        if not text.strip().lstrip("-").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text}: give a whole number of at least {least}")
        return int(text)

    return number


def wholes(length: int | None = None) -> Callable[[str], tuple[int, ...]]:
    """For `type=` of a flag: whole numbers of at least 1 with commas between them, and how many they must be."""
    def numbers(text: str) -> tuple[int, ...]:
        found = tuple(map(whole(), text.split(",")))
        if length not in (None, len(found)):
            raise argparse.ArgumentTypeError(f"{text}: give {length} numbers with commas between them")
        return found

    return numbers


def names(known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    """For `type=` of a flag: some of these names with commas between them."""
    def chosen(text: str) -> tuple[str, ...]:
        given = tuple(text.split(","))
        if unknown := [name for name in given if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {shortened(known)}")
        return given

    return chosen


def build_tfrecords(words: Iterable[str]) -> None:
    """Runs data_prep/build_tfrecords.py, which prints its own error; InputError if it fails."""
    if subprocess.run([sys.executable, "data_prep/build_tfrecords.py", *words]).returncode:
        raise InputError("data_prep/build_tfrecords.py failed, see above")


def seconds(work: Callable[[], object]) -> float:
    """How long something takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def fewest_seconds(work: Callable[[], object], times: int = 3) -> float:
    """How long something takes when it is disturbed least."""
    return min(seconds(work) for _ in range(times))


def allocated(work: Callable[[], object]) -> int:
    """The most bytes that Python and NumPy hold at once for something."""
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak
