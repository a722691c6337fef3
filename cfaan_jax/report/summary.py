"""Collects the results of several runs into one table: `python -m cfaan_jax.report.summary --out=OUT.json RESULTS...`.

Every argument is a results.json that an evaluation wrote. All their rows go to OUT.json; the table is printed and goes
to OUT.md. Runs that differ in their seed only share a line of the table, with mean and standard deviation.
"""

import argparse
import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cfaan_jax.errors import InputError
from cfaan_jax.runtime.command import run_command
from cfaan_jax.runtime.files import parse_json, write_atomic
from cfaan_jax.runtime.text_tables import markdown, show

FIGURES = {"mAP": "mAP", "rank1": "rank-1", "rank5": "rank-5", "rank10": "rank-10"}
_NAMES = {"c2d": "C2D", "cfaan": "CF-AAN", "ide": "IDE"}
_RUN = ("model", "aligned", "weights", "reranked", "distance")
_KEY = (*_RUN, "protocol", "clips", "seed")
_OLDER = {"reranked": False, "distance": "cosine"}  # files of before these could be chosen do not say
_COUNTS = ("seed", "gallery_size", "num_valid")
_TEXTS = ("model", "weights", "protocol", "clips", "distance", "dataset", "note")


def read_rows(path: Path) -> list[dict]:
    """The rows of a results.json; InputError if it is none."""
    try:
        content = parse_json(path.read_bytes())
        if not isinstance(content, list) or not content:
            raise ValueError("not a list of rows")
        rows = [_OLDER | row for row in content]
        for row in rows:
            _check(row)
        if len({tuple(row[name] for name in _KEY) for row in rows}) < len(rows):
            raise ValueError("a row is there twice")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; evaluate that run first (--mode=evaluate)") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no results of an evaluation ({type(error).__name__}: {error}); delete it and "
                         "evaluate that run again") from error
    return rows


def _check(row: dict) -> None:
    """Raises ValueError for a row with a value that no evaluation writes."""
    for names, fits in ((FIGURES, lambda value: type(value) in (int, float) and 0 <= value <= 1),  # NaN is not
                        (_COUNTS, lambda value: type(value) is int and value >= 0),
                        (_TEXTS, lambda value: isinstance(value, str)),
                        (("aligned", "reranked"), lambda value: isinstance(value, bool))):
        if wrong := [name for name in names if not fits(row[name])]:
            raise ValueError(f"{wrong[0]} is {str(row[wrong[0]])[:40]}")


def collect(paths: Sequence[Path]) -> list[dict]:
    """All rows of all files; InputError if two say something about the same run."""
    origin: dict[tuple, Path] = {}
    rows = []
    for path in paths:
        for row in read_rows(path):
            key = tuple(row[name] for name in _KEY)
            if key in origin:
                named = ", ".join(f"{name} {value}" for name, value in zip(_KEY, key, strict=True))
                raise InputError(f"{path} and {origin[key]} both hold the row {named}; give one of them only")
            origin[key] = path
            rows.append(row)
    return rows


@dataclass(frozen=True)
class ProtocolTable:
    """The runs under one protocol with one kind of clips; what `title` says belongs to every figure. In per cent."""

    title: str
    headers: list[str]
    lines: list[list[str]]


def tables(rows: Sequence[dict]) -> list[ProtocolTable]:
    """Tables by protocol and clips; runs keep their order, and those that differ in their seed only share a line."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        groups.setdefault((row["protocol"], row["clips"]), []).append(row)
    return [_table(f"{protocol}, clips {clips}", group) for (protocol, clips), group in groups.items()]


def _table(name: str, rows: Sequence[dict]) -> ProtocolTable:
    runs: dict[tuple, list[dict]] = {}
    for row in rows:
        runs.setdefault(tuple(row[name] for name in _RUN), []).append(row)
    lines = [[_NAMES.get(model, model) + ranked_by(distance, reranked), "aligned" if aligned else "raw", weights,
              str(len(group)), *(mean([row[figure] for row in group]) for figure in FIGURES)]
             for (model, aligned, weights, reranked, distance), group in runs.items()]
    title = (f"{name}: gallery of {span(row['gallery_size'] for row in rows)} tracklets, "
             f"{span(row['num_valid'] for row in rows)} valid queries")
    notes = "; ".join(note for note in dict.fromkeys(row["note"] for row in rows) if note)
    return ProtocolTable(f"{title}; {notes}" if notes else title,
                         ["model", "tracklets", "weights", "seeds", *FIGURES.values()], lines)


def ranked_by(distance: str, reranked: bool) -> str:
    """What follows a name where the ranking was not by the cosine alone."""
    return ("" if distance == "cosine" else f", {distance}") + (", re-ranked" if reranked else "")


def mean(shares: Sequence[float], decimals: int = 1) -> str:
    """Their mean in per cent, with the standard deviation if there are several."""
    middle = f"{100 * statistics.fmean(shares):.{decimals}f}"
    return middle if len(shares) == 1 else f"{middle} ± {100 * statistics.stdev(shares):.{decimals}f}"


def span(values: Iterable[int]) -> str:
    """The one number, or the smallest and the largest."""
    values = sorted(set(values))
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m cfaan_jax.report.summary", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write; the table goes to a .md beside it")
    parser.add_argument("results", type=Path, nargs="+", help="results.json files of evaluated runs")
    flags = parser.parse_args(arguments)
    if flags.out.suffix != ".json":
        raise InputError(f"--out={flags.out}: the name must end in .json")
    if flags.out.resolve() in [path.resolve() for path in flags.results]:
        raise InputError(f"--out={flags.out}: is one of the results; name another file, which is written anew")
    rows = collect(flags.results)
    text = []
    for table in tables(rows):
        show(table.title, table.headers, table.lines)
        text += [table.title, "", markdown(table.headers, table.lines), ""]
    write_atomic(flags.out, json.dumps(rows, indent=2) + "\n")
    write_atomic(flags.out.with_suffix(".md"), "\n".join(text))


if __name__ == "__main__":
    run_command(main)
