"""The paper's tables, and the figures of own runs beside them: `python -m cfaan_jax.tables --table=2 --runs=FOLDER`."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from operator import itemgetter
from pathlib import Path

from cfaan_jax.errors import InputError
from cfaan_jax.report.details import as_csv
from cfaan_jax.report.summary import group_by, mean, ranked_by, span
from cfaan_jax.runtime.command import CommandParser
from cfaan_jax.runtime.files import write_atomic
from cfaan_jax.runtime.text_tables import markdown, show
from cfaan_jax.tables import flops
from cfaan_jax.tables.paper import COST, TABLES, TITLES, VARIANT_OF, Cell, cells_of
from cfaan_jax.tables.runs import SCALES, TRACKLETS, Run, command, find_runs, overrides

_COLUMNS = ("table", "row", "column", "paper", "heading", "ours", "note")  # of the CSV file
_HEADINGS = ("ours", "in CF-AAN's recipe", "counted")  # of our figures; those of other systems are in their own recipe
_NOTES = ("Per cent, ours as mean and standard deviation over seeds; [n]: how it was measured, or what fills the cell.",
          "Counted: all multiply-accumulates, in 10^9, of a clip of 6 x 256 x 128; see python -m cfaan_jax.flops.")


def results_of(run: Run, cell: Cell) -> list[Mapping]:
    """The results of a run for a cell, where those under all protocols of the cell are there."""
    rows = [row for row in run.rows if run[:3] == cell[:3] and row["aligned"] == cell.aligned
            and row["protocol"] in cell.protocols]
    groups = group_by(itemgetter("dataset", "clips", "weights", "distance", "reranked"), rows).values()
    return [row for group in groups for row in group
            if len(group) == len(cell.protocols) and row["protocol"] == cell.protocol]


def _kind(row: Mapping) -> str:
    """How a row was measured; results of different kinds are never averaged."""
    revised = row["protocol"].endswith("_revised")
    labels = "corrected labels" if row["corrections"] is not None else "labels as released" if revised else ""
    return ", ".join(filter(None, (row["protocol"] + ranked_by(row["distance"], row["reranked"]), labels,
                                   *(f"{name} {row[name]}" for name in ("clips", "weights", "dataset")), row["note"])))


def measured(cell: Cell, heading: str, runs: Sequence[Run]) -> list[tuple[str, str, str]]:
    """Our figures for a cell: heading, mean, and how it was measured."""
    figures = []
    for kind, group in group_by(_kind, [row for run in runs for row in results_of(run, cell)]).items():
        seeds = [row["seed"] for row in group]
        if len(set(seeds)) < len(seeds):
            raise InputError(f"{cell.variant} was run twice on {TRACKLETS[cell.aligned]} tracklets with seed "
                             f"{max(seeds, key=seeds.count)}; take one of these runs out of the folder")
        gallery, valid = (span(row[size] for row in group) for size in ("gallery_size", "num_valid"))
        note = f"{kind}; seeds: {len(seeds)}, gallery of {gallery} tracklets, {valid} valid queries"
        figures.append((heading, mean([row[cell.metric] for row in group]), note))
    return figures


def lines_of(number: int, cells: Mapping, runs: Sequence[Run], fill: Callable[[Cell], str]) -> list[tuple[str, ...]]:
    """All figures of a table in its order, see `_COLUMNS`; the note of a cell without a run is its command, `fill`."""
    lines = []
    for row, published in TABLES[number].items():
        for column, value in published.items():
            ours = [("ours", "", "")]
            if column == COST:
                ours = [("counted", f"{flops.cost(VARIANT_OF[row]).macs / 1e9:.3f}", "")]
            elif cell := cells.get((row, column)):
                ours = measured(cell, "ours", runs) or [("ours", "", fill(cell))]
                ours += measured(cell._replace(variant=f"{cell.variant}_cfaan_recipe"), "in CF-AAN's recipe", runs)
            lines += [(str(number), row, column, value, *figure) for figure in ours]
    return lines


def readable(lines: Sequence[tuple[str, ...]]) -> tuple[list[str], list[list[str]], list[str]]:
    """Headers, rows as the paper has them, and what the numbers in brackets lead to."""
    numbers: dict[str, int] = {}
    headers, rows = ["method"], {row: [row] for _, row, *_ in lines}
    for column, of_column in group_by(itemgetter(2), lines).items():
        headings = [name for name in _HEADINGS if name in {line[4] for line in of_column}]
        headers += [column, *headings]
        for row, beside in group_by(itemgetter(1), of_column).items():
            texts: dict[str, list[str]] = {name: [] for name in headings}
            for *_, heading, ours, note in beside:
                mark = f" [{numbers.setdefault(note, len(numbers) + 1)}]" if note else ""
                texts[heading].append((ours or ("not run" if note else "")) + mark)
            rows[row] += [beside[0][3] or "-", *map("; ".join, texts.values())]
    return headers, list(rows.values()), [f"[{number}] {note}" for note, number in numbers.items()]


def _flags(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[int], list[str]]:
    """The flags, the seeds among them, and the words that are no flags."""
    parser = CommandParser("python -m cfaan_jax.tables", __doc__.split("\n")[0],
                           epilog="Settings of all runs may follow, as --config.FIELD=VALUE.")
    add = parser.add_argument
    add("--table", type=int, choices=TABLES, required=True)
    add("--runs", type=Path, default=Path("runs/tables"), help="the folder given to launch/table.sh (%(default)s)")
    add("--scale", choices=SCALES, help="which of its runs (small if it holds those alone, or else paper)")
    add("--records", default="", help="folder of the data, for the commands; see docs/paper/tables.md")
    add("--seeds", default="0,1,2", help="of the commands; the table has all that were run (%(default)s)")
    add("--format", choices=("text", "markdown", "csv"), default="text", help="text goes into a file as Markdown")
    add("--out", type=Path, help="file to write, instead of printing")
    add("--list", action="store_true", help="print every run of the table: done or to do, and command")
    flags, words = parser.parse_known_args(arguments)
    seeds = [int(part) if part.isdecimal() else -1 for part in flags.seeds.split(",")]
    if len(set(seeds)) < len(seeds) or not all(0 <= seed < 2**31 for seed in seeds):
        raise InputError(f"--seeds={flags.seeds}: give different whole numbers below {2**31}, as in 0,1,2")
    return flags, seeds, words


def main(arguments: Sequence[str] | None = None) -> None:
    flags, seeds, words = _flags(arguments)
    drawn = (flags.runs / "synthetic").is_dir() and not (flags.runs / "mars").is_dir()
    scale = SCALES[flags.scale or ("small" if drawn else "paper")]
    runs = find_runs(flags.runs, scale)
    settings = overrides(runs, scale, words)

    def state_of(cell: Cell, seed: int = seeds[0]) -> tuple[bool, str]:
        """Whether a seed of a cell is done, and its command."""
        run = next((run for run in runs if (*run[:3], run.config["seed"]) == (*cell[:3], seed)), None)
        done = run is not None and bool(results_of(run, cell))
        return done, command(cell, seed, None if done else run, flags.runs, scale, flags.records, settings)

    cells = {place: cell for place, cell in cells_of(flags.table).items() if cell.dataset in scale.data_sets}
    if flags.list:
        for cell, seed in product({cell[:3]: cell for cell in cells.values()}.values(), seeds):
            done, line = state_of(cell, seed)
            print(f"{'done' if done else 'to do'}\t{line}")
        return
    lines = lines_of(flags.table, cells, runs, lambda cell: state_of(cell)[1])
    title, (headers, rows, numbered) = f"Table {flags.table}: {TITLES[flags.table]}", readable(lines)
    changed = ", ".join(f"{name}={value}" for name, value in settings.items()) or "none"
    notes = [*_NOTES, *scale.notes, f"Settings that differ from the configs: {changed}."]
    page = (title, markdown(headers, rows), *notes, "\n".join(("```text", *numbered, "```\n")))
    text = as_csv([_COLUMNS, *lines]) if flags.format == "csv" else "\n\n".join(page)
    if flags.out:
        write_atomic(flags.out, text)
    elif flags.format == "text":
        show(title, headers, rows, [*notes, *numbered])
    else:
        print(text, end="")
