"""Measurements, one command each: a table on the screen and a JSON file."""

import argparse
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path


def command(name: str, about: str) -> argparse.ArgumentParser:
    """The parser of `python -m benchmarks.<name>`, with the flag that all of them have."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    return parser


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
