"""Collects the results of several runs into one table: `python -m cfaan_jax.report.summary --out=OUT.json RESULTS...`.

Every argument is a results.json that an evaluation wrote. All their rows go to OUT.json; the table is printed and goes
to OUT.md. Runs that differ only in their seed share a line of the table, with mean and standard deviation.
"""

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from cfaan_jax.errors import InputError
from cfaan_jax.experiment.results_file import KEY, METRICS, RUN, read_rows
from cfaan_jax.runtime.command import CommandParser, run_command
from cfaan_jax.runtime.files import write_atomic
from cfaan_jax.runtime.text_tables import markdown, show

_NAMES = {"c2d": "C2D", "cfaan": "CF-AAN", "ide": "IDE"}


def collect(paths: Sequence[Path]) -> list[dict]:
    """All rows of all files; InputError if two files hold a row of the same run."""
    path_of: dict[tuple, Path] = {}
    rows = []
    for path in paths:
        for row in read_rows(path):
            key = itemgetter(*KEY)(row)
            if key in path_of:
                text = ", ".join(f"{name} {value}" for name, value in zip(KEY, key, strict=True))
                raise InputError(f"{path} and {path_of[key]} both hold the row {text}; give one of them")
            path_of[key] = path
            rows.append(row)
    return rows


@dataclass(frozen=True)
class ProtocolTable:
    """The runs under one protocol with one kind of clips, in per cent; `title` applies to all of them."""

    title: str
    headers: list[str]
    lines: list[list[str]]


def tables(rows: Sequence[dict]) -> list[ProtocolTable]:
    """Tables by protocol and clips; runs keep their order, and those that differ only in their seed share a line."""
    return [_table(f"{protocol}, clips {clips}", group)
            for (protocol, clips), group in group_by(itemgetter("protocol", "clips"), rows).items()]


def group_by(key: Callable[[Mapping], tuple], rows: Iterable[Mapping]) -> dict[tuple, list[Mapping]]:
    """The rows by their key, in the order in which the keys come first."""
    groups: dict[tuple, list[Mapping]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _table(name: str, rows: Sequence[Mapping]) -> ProtocolTable:
    lines = [[_NAMES.get(model, model) + ranked_by(distance, reranked), "aligned" if aligned else "raw", weights,
              str(len(group)), *(mean([row[metric] for row in group]) for metric in METRICS)]
             for (model, aligned, weights, reranked, distance), group in group_by(itemgetter(*RUN), rows).items()]
    title = (f"{name}: gallery of {span(row['gallery_size'] for row in rows)} tracklets, "
             f"{span(row['num_valid'] for row in rows)} valid queries")
    notes = "; ".join(note for note in dict.fromkeys(row["note"] for row in rows) if note)
    headers = ["model", "tracklets", "weights", "seeds", *(metric.replace("rank", "rank-") for metric in METRICS)]
    return ProtocolTable(f"{title}; {notes}" if notes else title, headers, lines)


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
    parser = CommandParser("python -m cfaan_jax.report.summary", __doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write; the table goes to a .md beside it")
    parser.add_argument("results", type=Path, nargs="+", help="results.json files of evaluated runs")
    flags = parser.parse_args(arguments)
    if flags.out.suffix != ".json":
        raise InputError(f"--out={flags.out}: the name must end in .json")
    if flags.out.resolve() in [path.resolve() for path in flags.results]:
        raise InputError(f"--out={flags.out}: is one of the results; name another file, which is overwritten")
    rows = collect(flags.results)
    text = []
    for table in tables(rows):
        show(table.title, table.headers, table.lines)
        text += [table.title, "", markdown(table.headers, table.lines), ""]
    write_atomic(flags.out, json.dumps(rows, indent=2) + "\n")
    write_atomic(flags.out.with_suffix(".md"), "\n".join(text))


if __name__ == "__main__":
    run_command(main)
