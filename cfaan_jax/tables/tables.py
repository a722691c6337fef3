"""The paper's tables, its figures beside those of one's own runs: `python -m cfaan_jax.tables --table=2 --runs=FOLDER`.

FOLDER is that of `launch/table.sh`. A cell that nobody has run names the command that fills it; `--list` prints a line
for each run of the table, "done" or "to do", and its command. Settings of the runs (--config.FIELD=VALUE) may follow.
"""

import argparse
import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

from cfaan_jax.errors import InputError
from cfaan_jax.metrics import protocols
from cfaan_jax.report.summary import mean, ranked_by, span
from cfaan_jax.runtime.files import write_atomic
from cfaan_jax.runtime.text_tables import TableContent, markdown, show
from cfaan_jax.tables import flops
from cfaan_jax.tables.runs import SCALES, TRACKLETS, Commands, Run, Scale, data_of, find, overrides
from configs import mars
from configs.recipes import RECIPES

_BORROWED = tuple(variant for variant in mars.VARIANTS if variant not in mars.MODELS)
_IN_ONE_RECIPE = ("c2d", "nonlocal", *_BORROWED, "cfaan")
_ROWS_OF_TABLE_2 = ("c2d", "nonlocal", "axial_s1_none_1head", "axial_s1_none", "axial_s1_sinusoidal",
                    "axial_s1_relative", "axial_s2", "cfaan")
_ABSTRACT = {("cfaan", "aligned"): ("86.5", "91.3")}
_UNKNOWN = "not known here"
_PAPERS_CLIP = flops.CLIP_LENGTH, flops.IMAGE_SIZE


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper.

    Attributes:
        title: what it compares.
        cells: (variant, tracklets) of its rows.
        published: mAP and rank-1 that the paper prints, as far as they are known.
        revised: whether every run is scored under the revised protocol too.
        note: more about it.
    """

    title: str
    cells: tuple[tuple[str, str], ...]
    published: Mapping[tuple[str, str], tuple[str, str]]
    revised: bool = False
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
    "Paper: the mAP and rank-1 of CF-AAN with Re-Detect and Link on MARS are those of the abstract (the epoch with the "
    "best test mAP), the costs those of Table 2 and what it adds for P3D-C and AP3D, multiply-accumulates of one "
    f"clip in 10^9. The other published figures are {_UNKNOWN}.")
_COST_NOTE = (
    "MACs (10^9, for one clip) and parameters (10^6, without the classifier) are counted for the networks at their "
    "published size: clips of 6 x 256 x 128, in a system's own recipe of that recipe's size; those of ftwft count its "
    "classifier once. "
    "python -m cfaan_jax.flops says what the paper's count leaves out.")
_SMALL_NOTE = (
    "These pedestrians are drawn by code, the networks that were trained are small ones and the training is short: the "
    "figures compare with each other, and with nothing that was measured on MARS.")


@dataclass(frozen=True)
class Kind:
    """Under what a figure was measured; figures of different kinds are never averaged."""

    data: str
    clips: str
    weights: str
    distance: str
    reranked: bool
    protocol: str
    corrected: bool

    @classmethod
    def of(cls, row: Mapping) -> "Kind":
        """That of a row of results.json."""
        return cls(row["dataset"], row["clips"], row["weights"], row["distance"], row["reranked"], row["protocol"],
                   row["corrections"] is not None)

    def named(self) -> dict[str, str]:
        """As it is printed, by heading."""
        more = (", corrected labels" if self.corrected else "") + ranked_by(self.distance, self.reranked)
        return {"protocol": self.protocol + more, "clips": self.clips, "weights": self.weights, "data": self.data}


@dataclass(frozen=True)
class Line:
    """A line of the table: rows of results.json of one kind, or the command that would give some."""

    cell: tuple[str, str]
    kind: Kind | None
    rows: Sequence[Mapping]
    command: str


def lines(table: PaperTable, runs: Sequence[Run], names: Sequence[str], commands: Commands, seed: int) -> list[Line]:
    """The lines under the protocols `names`; a cell without a run has one, whose command takes `seed`."""
    found = []
    for cell in table.cells:
        kinds: dict[Kind, list[Mapping]] = {}
        for run in runs:
            for row in _rows(run, cell, names):
                kinds.setdefault(Kind.of(row), []).append(row)
        for kind, rows in kinds.items():
            seeds = [row["seed"] for row in rows]
            if len(set(seeds)) < len(seeds):
                raise InputError(f"{cell[0]} was run twice on {cell[1]} tracklets with seed "
                                 f"{max(seeds, key=seeds.count)}; take one of these runs out of the folder")
            found.append(Line(cell, kind, rows, ""))
        if not kinds:
            found.append(Line(cell, None, (), command(cell, seed, runs, names, commands)))
    return found


def _rows(run: Run, cell: tuple[str, str], names: Sequence[str]) -> list[Mapping]:
    """The rows of a run that belong to a cell, if all protocols are there, so that the same runs are compared."""
    if run.variant != cell[0]:
        return []
    groups: dict[tuple, list[Mapping]] = {}
    for row in run.rows:
        if row["protocol"] in names and TRACKLETS[row["aligned"]] == cell[1]:
            kind = row["dataset"], row["clips"], row["weights"], row["distance"], row["reranked"]
            groups.setdefault(kind, []).append(row)
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
    data = mars.get_config(variant).data
    clip = data.clip_length, tuple(data.image_size)
    one, base = _cost(variant, *clip), _cost("c2d", *clip)
    published = flops.PUBLISHED_ADDED | flops.PUBLISHED_ADDED_TIME if clip == _PAPERS_CLIP else {}
    name = mars.network_of(variant)
    added = f"+{published[name]:.3f}" if name in published else _UNKNOWN
    macs = one.macs + flops.CLASSIFIED.get(variant, 0)
    return {"MACs": f"{macs / 1e9:.3f}", "added MACs": f"{(macs - base.macs) / 1e9:+.3f}",
            "paper's MACs": f"{flops.PUBLISHED_TOTAL:.3f} in all" if variant == "c2d" else added,
            "parameters": f"{one.parameters / 1e6:.3f}"}


def records(table: PaperTable, found: Sequence[Line]) -> list[dict[str, str]]:
    """Every column of every line by its heading, as the CSV file has them."""
    listed = []
    for line in found:
        mAP, rank1 = table.published.get(line.cell, (_UNKNOWN, _UNKNOWN))
        kind = {"protocol": "", "clips": "", "weights": "", "data": ""} if line.kind is None else line.kind.named()
        listed.append({
            "network": line.cell[0], "tracklets": line.cell[1], "paper's mAP": mAP, "paper's rank-1": rank1,
            "mAP": mean([row["mAP"] for row in line.rows]) if line.rows else "",
            "rank-1": mean([row["rank1"] for row in line.rows]) if line.rows else "",
            "seeds": str(len(line.rows)), **kind, **cost_columns(line.cell[0]), "command": line.command})
    return listed


def content(listed: Sequence[Mapping[str, str]], notes: Sequence[str]) -> tuple[TableContent, list[str]]:
    """The table to read, below which goes what all lines share, and the commands that it counts, numbered."""
    shared, empty = {}, [line["command"] for line in listed if line["command"]]
    for name in ("protocol", "clips", "weights", "data"):
        values = {line[name] for line in listed if not line["command"]}
        if len(values) == 1:
            shared[name] = values.pop()
    headers = [name for name in listed[0] if name not in shared and name != "command"]
    rows = []
    for line in listed:
        cells = dict(line)
        if line["command"]:
            cells["mAP"] = f"not run [{empty.index(line['command']) + 1}]"
        rows.append([cells[name] for name in headers])
    measured = [f"Measured: {', '.join(f'{name} {value}' for name, value in shared.items())}."] if shared else []
    return TableContent(headers, rows, [*measured, *notes]), [f"[{i}] {each}" for i, each in enumerate(empty, start=1)]


def _notes(table: PaperTable, found: Sequence[Line], scale: Scale, settings: Mapping) -> list[str]:
    """What is true of the whole table."""
    sizes = []
    for name in dict.fromkeys(line.kind.protocol for line in found if line.kind):
        rows = [row for line in found if line.kind and line.kind.protocol == name for row in line.rows]
        sizes.append(f"{name}: gallery of {span(row['gallery_size'] for row in rows)} tracklets, "
                     f"{span(row['num_valid'] for row in rows)} valid queries.")
    own = ", ".join(f"{name}={value}" for name, value in settings.items())
    of_data = dict.fromkeys(row["note"] for line in found for row in line.rows if row["note"])
    return [note for note in (
        "Figures in per cent: mean and standard deviation over as many seeds as the line says.", *sizes, *of_data,
        f"Settings that differ from {scale.config}: {own}." if own else "",
        _SMALL_NOTE if scale is SCALES["small"] else "", table.note, _PUBLISHED_NOTE, _COST_NOTE) if note]


def as_csv(listed: Sequence[Mapping[str, str]]) -> str:
    """A line for each; its command stands in the last column."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, listed[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(listed)
    return text.getvalue()


def as_markdown(title: str, readable: TableContent, empty: Sequence[str]) -> str:
    """Title, table, notes, and in a block the commands of empty cells."""
    parts = [title, markdown(readable.headers, readable.rows), *readable.notes]
    block = ["\n".join(("```text", *empty, "```"))] if empty else []
    return "\n\n".join((*parts, *block)) + "\n"


def _flags(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(prog="python -m cfaan_jax.tables", description=__doc__.split("\n")[0],
                                     epilog="Settings of all runs may follow, as --config.FIELD=VALUE.")
    parser.add_argument("--table", type=int, choices=TABLES, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/tables"), help="folder of the runs (%(default)s)")
    parser.add_argument("--scale", choices=SCALES, help="which of its runs (the one that it holds, or else paper)")
    parser.add_argument("--records", default="", help="folder of the data, for the commands; see docs/paper/tables.md")
    parser.add_argument("--seeds", default="0,1,2", help="of the commands; the table has all there are (%(default)s)")
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
    if not all(part.isdecimal() for part in text.split(",")):
        raise InputError(f"--seeds={text}: give numbers with commas between them, as in 0,1,2")
    seeds = [int(part) for part in text.split(",")]
    if len(set(seeds)) < len(seeds) or max(seeds) >= 2**31:
        raise InputError(f"--seeds={text}: give different numbers below {2**31}")
    return seeds


def _protocols(original: str, table: PaperTable) -> list[str]:
    """The names of those under which the figures of a line were measured."""
    revised = f"{protocols.get(original).name}_revised"
    if table.revised and revised not in protocols.PROTOCOLS:
        raise InputError(f"--protocol={original}: this table compares a protocol with its revision, and this one has "
                         "none; leave it at mars")
    return [original, revised] if table.revised else [original]


def main(arguments: Sequence[str] | None = None) -> None:
    flags, given = _flags(arguments)
    table, scale, seeds = TABLES[flags.table], _scale(flags), _seeds(flags.seeds)
    names = _protocols(flags.protocol, table)
    runs = find(flags.runs, scale)
    settings, free = overrides(runs, scale, given)
    commands = Commands(flags.runs, scale, flags.records or data_of(runs, scale), settings | free)
    if flags.list:
        for cell, seed in product(table.cells, seeds):
            to_do = command(cell, seed, runs, names, commands)
            print(f"to do\t{to_do}" if to_do else f"done\t{commands.train(*cell, seed)}")
        return
    found = lines(table, runs, names, commands, seeds[0])
    listed, title = records(table, found), f"Table {flags.table}: {table.title}"
    readable, empty = content(listed, _notes(table, found, scale, settings))
    if flags.format == "text" and not flags.out:
        show(title, readable.headers, readable.rows, [*readable.notes, *empty])
        return
    text = as_csv(listed) if flags.format == "csv" else as_markdown(title, readable, empty)
    if flags.out:
        write_atomic(flags.out, text)
    else:
        print(text, end="")
