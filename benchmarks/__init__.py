"""Measurements, one command each: a table on the screen and a JSON file."""

import argparse
from pathlib import Path


def command(name: str, about: str) -> argparse.ArgumentParser:
    """The parser of `python -m benchmarks.<name>`, with the flag that all of them have."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    return parser
