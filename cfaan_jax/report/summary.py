"""Collects the results of several runs into one table: `python -m cfaan_jax.report.summary --out=OUT.json RESULTS...`.

Every argument is a results.json that an evaluation wrote. All their rows go to OUT.json; the table is printed and goes
to OUT.md. Runs that differ in their seed only share a line of the table, with mean and standard deviation.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from cfaan_jax.errors import InputError
from cfaan_jax.report.tables import markdown, show

FIGURES = {"mAP": "mAP", "rank1": "rank-1", "rank5": "rank-5", "rank10": "rank-10"}
_NAMES = {"c2d": "C2D", "cfaan": "CF-AAN", "ide": "IDE"}
_PROTOCOLS_IN_A_TABLE = 2


def read_rows(path: Path) -> list[dict]:
    """The rows of a results.json; InputError if it is none."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        for row in rows:
            [row[name] for name in (*FIGURES, *_KEY, "gallery_size", "num_valid", "note")]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; evaluate that run first (--mode=evaluate)") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no results of an evaluation ({type(error).__name__}: {error}); delete it and "
                         "evaluate that run again") from error
    return rows


_ROW = ("model", "aligned", "weights", "clips")
_KEY = (*_ROW, "protocol", "seed")


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
    if not rows:
        raise InputError(f"{', '.join(map(str, paths))}: no rows; evaluate first (--mode=evaluate)")
    return rows


def tables(rows: Sequence[dict]) -> list[tuple[list[str], list[list[str]], list[str]]]:
    """(headers, lines, notes) of the tables, two protocols in each; figures in per cent."""
    protocols = list(dict.fromkeys(row["protocol"] for row in rows))
    pairs = [protocols[i:i + _PROTOCOLS_IN_A_TABLE] for i in range(0, len(protocols), _PROTOCOLS_IN_A_TABLE)]
    return [_table(rows, pair) for pair in pairs]


def _table(rows: Sequence[dict], protocols: Sequence[str]) -> tuple[list[str], list[list[str]], list[str]]:
    runs: dict[tuple, list[dict]] = {}
    for row in rows:
        runs.setdefault(tuple(row[name] for name in _ROW), []).append(row)
    headers = ["model", "tracklets", "weights", "clips", "seeds"]
    for protocol in protocols:
        headers += [f"{protocol} mAP", *list(FIGURES.values())[1:]]
    lines = []
    for (model, aligned, weights, clips), group in runs.items():
        seeds = len({row["seed"] for row in group})
        line = [_NAMES.get(model, model), "aligned" if aligned else "raw", weights, clips, str(seeds)]
        for protocol in protocols:
            mine = [row for row in group if row["protocol"] == protocol]
            line += [_mean([row[figure] for row in mine]) for figure in FIGURES]
        lines.append(line)
    return headers, lines, _notes(rows, protocols)


def _mean(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean = f"{100 * statistics.fmean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * statistics.stdev(values):.1f}"


def _notes(rows: Sequence[dict], protocols: Sequence[str]) -> list[str]:
    notes = []
    for protocol in protocols:
        mine = [row for row in rows if row["protocol"] == protocol]
        notes.append(f"{protocol}: gallery of {_span(row['gallery_size'] for row in mine)} tracklets, "
                     f"{_span(row['num_valid'] for row in mine)} valid queries")
    notes.append("All figures in per cent.")
    return notes + [f"Note: {note}" for note in dict.fromkeys(row["note"] for row in rows) if note]


def _span(values) -> str:
    values = sorted(set(values))
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"


def write(path: Path, text: str) -> None:
    """Writes a text file that appears when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m cfaan_jax.report.summary", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write; the table goes to a .md beside it")
    parser.add_argument("results", type=Path, nargs="+", help="results.json files of evaluated runs")
    flags = parser.parse_args(arguments)
    if flags.out.suffix != ".json":
        raise InputError(f"--out={flags.out}: the name must end in .json")
    rows = collect(flags.results)
    text = []
    for headers, lines, notes in tables(rows):
        show("Results", headers, lines, notes)
        text += [markdown(headers, lines), "", *notes, ""]
    write(flags.out, json.dumps(rows, indent=2) + "\n")
    write(flags.out.with_suffix(".md"), "\n".join(text))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
