"""The paper's tables, its figures beside those of one's own runs: `python -m cfaan_jax.tables --table=2 --runs=FOLDER`.

FOLDER is that of `launch/table.sh`. A cell that nobody has run names the command that fills it; `--list` prints a line
for each run of the table, "done" or "to do", and its command. Settings of the runs (--config.FIELD=VALUE) may follow.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from operator import itemgetter
from pathlib import Path

from cfaan_jax.errors import InputError
from cfaan_jax.experiment.recipes import RECIPES, VARIANTS, preset_of, recipe
from cfaan_jax.metrics import protocols
from cfaan_jax.models.presets import PRESETS
from cfaan_jax.report.details import as_csv
from cfaan_jax.report.summary import group_by, mean, ranked_by, span
from cfaan_jax.runtime.command import CommandParser
from cfaan_jax.runtime.files import write_atomic
from cfaan_jax.runtime.text_tables import TableContent, markdown, show
from cfaan_jax.tables import flops
from cfaan_jax.tables.runs import SCALES, TRACKLETS, Commands, Run, Scale, data_of, find_runs, overrides

_IN_ONE_RECIPE = ("c2d", "nonlocal", *(variant for variant in VARIANTS if variant not in PRESETS), "cfaan")
_ROWS_OF_TABLE_2 = ("c2d", *flops.PUBLISHED_ADDED)
_ABSTRACT = {("cfaan", "aligned"): ("86.5", "91.3")}
_UNKNOWN = "not known here"
_MEASURED = ("protocol", "clips", "weights", "data")  # columns; those that all lines share go below the table
_PAPERS_CLIP = flops.CLIP_LENGTH, flops.IMAGE_SIZE


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper."""

    title: str  # what it compares
    cells: tuple[tuple[str, str], ...]  # (variant, tracklets) of its rows
    published: Mapping[tuple[str, str], tuple[str, str]]  # mAP and rank-1 that the paper prints, as far as known here
    revised: bool = False  # whether every run is scored under the revised protocol too
    note: str = ""


TABLES = {
    1: PaperTable("systems in CF-AAN's recipe, without and with Re-Detect and Link",
                  tuple(product(_IN_ONE_RECIPE, TRACKLETS)), _ABSTRACT),
    2: PaperTable("attention blocks", tuple(product(_ROWS_OF_TABLE_2, TRACKLETS)), _ABSTRACT),
    3: PaperTable("the same runs under the original and the revised protocol",
                  tuple(product(_IN_ONE_RECIPE, TRACKLETS)), {}, revised=True,
                  note="Which rows the paper's Table 3 has is not known here; these are the runs of Table 1."),
    4: PaperTable("systems in CF-AAN's recipe with Re-Detect and Link, and in their own recipes",
                  (*product(_IN_ONE_RECIPE, ("aligned",)), *product(RECIPES, TRACKLETS)), _ABSTRACT),
}
_PUBLISHED_NOTE = (
    "Paper: mAP and rank-1 of CF-AAN with Re-Detect and Link on MARS are those of the abstract (the epoch of the best "
    "test mAP), the costs those of Table 2 and what it adds for P3D-C and AP3D, multiply-accumulates of one clip in "
    f"10^9. The other published results are {_UNKNOWN}.")
_COST_NOTE = (
    "MACs (10^9, for one clip) and parameters (10^6, without the classifier) are those of the networks at their "
    "published size: clips of 6 x 256 x 128, in a system's own recipe of that recipe's size; those of ftwft count its "
    "classifier once. python -m cfaan_jax.flops says what the paper's count leaves out.")
_SMALL_NOTE = (
    "These pedestrians are drawn by code, the networks are small and the training is short: the results compare with "
    "each other, and with nothing that was measured on MARS.")


@dataclass(frozen=True)
class Line:
    """A line of the table: rows of results.json of one kind (see `_kind`), or the command that would give some."""

    cell: tuple[str, str]
    kind: tuple[str, ...]
    rows: Sequence[Mapping]
    command: str


def _kind(row: Mapping) -> tuple[str, ...]:
    """How a row was measured, by the columns of `_MEASURED`; results of different kinds are never averaged."""
    corrected = "" if row["corrections"] is None else ", corrected labels"
    return (row["protocol"] + corrected + ranked_by(row["distance"], row["reranked"]), row["clips"], row["weights"],
            row["dataset"])


def lines_of(table: PaperTable, runs: Sequence[Run], names: Sequence[str], commands: Commands,
             seed: int) -> list[Line]:
    """The lines under the protocols `names`; a cell without a run has one, whose command takes `seed`."""
    lines = []
    for cell in table.cells:
        kinds = group_by(_kind, [row for run in runs for row in _rows(run, cell, names)])
        for kind, rows in kinds.items():
            seeds = [row["seed"] for row in rows]
            if len(set(seeds)) < len(seeds):
                raise InputError(f"{cell[0]} was run twice on {cell[1]} tracklets with seed "
                                 f"{max(seeds, key=seeds.count)}; take one of these runs out of the folder")
            lines.append(Line(cell, kind, rows, ""))
        if not kinds:
            lines.append(Line(cell, ("",) * len(_MEASURED), (), command(cell, seed, runs, names, commands)))
    return lines


def _rows(run: Run, cell: tuple[str, str], names: Sequence[str]) -> list[Mapping]:
    """The rows of a run that belong to a cell, if all protocols are there, so that the same runs are compared."""
    rows = [row for row in run.rows
            if row["protocol"] in names and (run.variant, TRACKLETS[row["aligned"]]) == cell]
    groups = group_by(itemgetter("dataset", "clips", "weights", "distance", "reranked"), rows)
    return [row for group in groups.values() if len(group) == len(names) for row in group]


def command(cell: tuple[str, str], seed: int, runs: Sequence[Run], names: Sequence[str], commands: Commands) -> str:
    """What fills the cell with one seed more; "" if that is done."""
    for run in runs:
        if run.variant == cell[0] and any((TRACKLETS[row["aligned"]], row["seed"]) == (cell[1], seed)
                                          for row in run.rows):
            return "" if _rows(run, cell, names) else commands.score(run)
    return commands.train(*cell, seed)


_cost = lru_cache(flops.cost)


def cost_columns(variant: str) -> dict[str, str]:
    """What the network of a variant costs, beside what the paper says."""
    data = recipe(variant).data
    clip = data.clip_length, tuple(data.image_size)
    one, base = _cost(variant, *clip), _cost("c2d", *clip)
    published = flops.PUBLISHED_ADDED | flops.PUBLISHED_ADDED_TIME if clip == _PAPERS_CLIP else {}
    added = f"+{published[preset_of(variant)]:.3f}" if preset_of(variant) in published else _UNKNOWN
    macs = one.macs + flops.CLASSIFIED.get(variant, 0)
    return {"MACs": f"{macs / 1e9:.3f}", "added MACs": f"{(macs - base.macs) / 1e9:+.3f}",
            "paper's MACs": f"{flops.PUBLISHED_TOTAL:.3f} in all" if variant == "c2d" else added,
            "parameters": f"{one.parameters / 1e6:.3f}"}


def records(table: PaperTable, lines: Sequence[Line]) -> list[dict[str, str]]:
    """Every column of every line by its heading, as the CSV file has them."""
    listed = []
    for line in lines:
        mAP, rank1 = table.published.get(line.cell, (_UNKNOWN, _UNKNOWN))
        listed.append({
            "network": line.cell[0], "tracklets": line.cell[1], "paper's mAP": mAP, "paper's rank-1": rank1,
            "mAP": mean([row["mAP"] for row in line.rows]) if line.rows else "",
            "rank-1": mean([row["rank1"] for row in line.rows]) if line.rows else "",
            "seeds": str(len(line.rows)), **dict(zip(_MEASURED, line.kind, strict=True)),
            **cost_columns(line.cell[0]), "command": line.command})
    return listed


def content(listed: Sequence[Mapping[str, str]], notes: Sequence[str]) -> tuple[TableContent, list[str]]:
    """The table to read, below which goes what all lines share, and the commands that it counts, numbered."""
    empty = [line["command"] for line in listed if line["command"]]
    values = {name: {line[name] for line in listed if not line["command"]} for name in _MEASURED}
    shared = {name: alike.pop() for name, alike in values.items() if len(alike) == 1}
    headers = [name for name in listed[0] if name not in shared and name != "command"]
    rows = []
    for line in listed:
        not_run = {"mAP": f"not run [{empty.index(line['command']) + 1}]"} if line["command"] else {}
        rows.append([(line | not_run)[name] for name in headers])
    measured = [f"Measured: {', '.join(f'{name} {value}' for name, value in shared.items())}."] if shared else []
    return TableContent(headers, rows, [*measured, *notes]), [f"[{i}] {text}" for i, text in enumerate(empty, start=1)]


def _notes(table: PaperTable, lines: Sequence[Line], scale: Scale, settings: Mapping) -> list[str]:
    sizes, rows = [], [row for line in lines for row in line.rows]
    for name in dict.fromkeys(row["protocol"] for row in rows):
        gallery, valid = (span(row[key] for row in rows if row["protocol"] == name)
                          for key in ("gallery_size", "num_valid"))
        sizes.append(f"{name}: gallery of {gallery} tracklets, {valid} valid queries.")
    own = ", ".join(f"{name}={value}" for name, value in settings.items())
    of_data = dict.fromkeys(row["note"] for row in rows if row["note"])
    return [note for note in (
        "In per cent: mean and standard deviation over as many seeds as the line says.", *sizes, *of_data,
        f"Settings that differ from configs/{scale.config}.py: {own}." if own else "",
        _SMALL_NOTE if scale is SCALES["small"] else "", table.note, _PUBLISHED_NOTE, _COST_NOTE) if note]


def as_markdown(title: str, readable: TableContent, empty: Sequence[str]) -> str:
    """Title, table, notes, and in a block the commands of empty cells."""
    block = ["\n".join(("```text", *empty, "```"))] if empty else []
    return "\n\n".join((title, markdown(readable.headers, readable.rows), *readable.notes, *block)) + "\n"


def _flags(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = CommandParser("python -m cfaan_jax.tables", __doc__.split("\n")[0],
                           epilog="Settings of all runs may follow, as --config.FIELD=VALUE.")
    parser.add_argument("--table", type=int, choices=TABLES, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/tables"), help="folder of the runs (%(default)s)")
    parser.add_argument("--scale", choices=SCALES, help="which of its runs (the one that it holds, or else paper)")
    parser.add_argument("--records", default="", help="folder of the data, for the commands; see docs/paper/tables.md")
    parser.add_argument("--seeds", default="0,1,2",
                        help="seeds of the printed commands; the table has all that were run (%(default)s)")
    parser.add_argument("--protocol", default="mars", help="the original one (%(default)s)")
    parser.add_argument("--format", choices=("text", "markdown", "csv"), default="text",
                        help="text goes into a file as Markdown")
    parser.add_argument("--out", type=Path, help="file to write, instead of printing")
    parser.add_argument("--list", action="store_true", help="print every run of the table: done or to do, and command")
    return parser.parse_known_args(arguments)


def _scale(flags: argparse.Namespace) -> Scale:
    if flags.scale:
        return SCALES[flags.scale]
    there = [scale for scale in SCALES.values() if (flags.runs / scale.dataset).is_dir()]
    if len(there) > 1:
        raise InputError(f"--runs={flags.runs} holds runs of several scales; choose one: --scale={'|'.join(SCALES)}")
    return there[0] if there else SCALES["paper"]


def _seeds(text: str) -> list[int]:
    seeds = [int(part) if part.isdecimal() else -1 for part in text.split(",")]
    if len(set(seeds)) < len(seeds) or not all(0 <= seed < 2**31 for seed in seeds):
        raise InputError(f"--seeds={text}: give different whole numbers below {2**31}, as in 0,1,2")
    return seeds


def _protocols(original: str, table: PaperTable) -> list[str]:
    """The names of those under which the figures of a line were measured."""
    revised = f"{protocols.get(original).name}_revised"
    if table.revised and revised not in protocols.PROTOCOLS:
        raise InputError(f"--protocol={original}: this table compares a protocol with its revision, and this one has "
                         "none; leave it at mars")
    return [original, revised] if table.revised else [original]


def main(arguments: Sequence[str] | None = None) -> None:
    flags, words = _flags(arguments)
    table, scale, seeds = TABLES[flags.table], _scale(flags), _seeds(flags.seeds)
    names = _protocols(flags.protocol, table)
    runs = find_runs(flags.runs, scale)
    settings, free = overrides(runs, scale, words)
    commands = Commands(flags.runs, scale, flags.records or data_of(runs, scale), settings | free)
    if flags.list:
        for cell, seed in product(table.cells, seeds):
            to_do = command(cell, seed, runs, names, commands)
            print(f"to do\t{to_do}" if to_do else f"done\t{commands.train(*cell, seed)}")
        return
    lines = lines_of(table, runs, names, commands, seeds[0])
    listed, title = records(table, lines), f"Table {flags.table}: {table.title}"
    readable, empty = content(listed, _notes(table, lines, scale, settings))
    if flags.format == "text" and not flags.out:
        show(title, readable.headers, readable.rows, [*readable.notes, *empty])
        return
    csv = flags.format == "csv"
    text = as_csv([listed[0], *(line.values() for line in listed)]) if csv else as_markdown(title, readable, empty)
    if flags.out:
        write_atomic(flags.out, text)
    else:
        print(text, end="")
