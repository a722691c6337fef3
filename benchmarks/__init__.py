"""Measurements, one command each: a table on the screen and a JSON file."""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path


def command(name: str, about: str) -> argparse.ArgumentParser:
    """The parser of `python -m benchmarks.<name>`, with the flag that all of them have."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    return parser


def per_cent(shares: Sequence[float], decimals: int) -> str:
    """Mean of shares over the seeds and, where there are several, their standard deviation, in per cent."""
    mean = f"{100 * statistics.fmean(shares):.{decimals}f}"
    return mean if len(shares) == 1 else f"{mean} ± {100 * statistics.stdev(shares):.{decimals}f}"
