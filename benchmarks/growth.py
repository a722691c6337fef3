"""How costs grow: a training step with the devices, scores with the gallery, opening records with the tracklets.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m benchmarks.growth --out=growth.json [--steps=3]

Devices: the step is compiled for so many, in bfloat16 unless --compute says otherwise, and the compiler says what one
of them computes, holds and exchanges. With `--steps` it also runs; pretended devices share the cores of one machine, so
its time shows what dividing costs, not what more devices save. Gallery: exact scores of all queries under `mars`,
measured. Records: opening training records of so many tracklets, each as long as in MARS, measured. A plot goes beside
the JSON file.
"""

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path

import jax
import numpy as np
from jax.stages import Compiled
from matplotlib.figure import Figure

from benchmarks import allocated, command, compiled, fewest_seconds, mars_config, mars_sizes, seconds, whole, wholes
from benchmarks.mars_records import write_records
from benchmarks.scoring import drawn_search
from cfaan_jax.data.records import RecordSet
from cfaan_jax.errors import InputError
from cfaan_jax.runtime.command import run_command
from cfaan_jax.runtime.sharding import data_mesh
from cfaan_jax.runtime.text_tables import show
from data_prep.datasets.mars import Metadata

_DIMENSIONS = 2048
# Of each part: title, the column along which it grows, and the others with their heading and what one unit is.
_PARTS = {
    "devices": ("training step, each device", "devices", {
        "flops": ("10^9 FLOPs", 1e9), "held": ("GiB held", 2**30), "exchanged": ("MB exchanged", 1e6),
        "seconds": ("seconds, here", 1)}),
    "gallery": ("scores under mars", "gallery", {"seconds": ("seconds", 1), "bytes": ("GiB", 2**30)}),
    "records": ("opening records", "frames", {"seconds": ("ms to open", 1e-3), "bytes": ("MB in memory", 1e6)}),
}


def main(arguments: list[str] | None = None) -> None:
    flags = _flags(arguments)
    if max(flags.devices) > jax.device_count():
        raise InputError(f"--devices={max(flags.devices)}: JAX sees {jax.device_count()}; pretend more by XLA_FLAGS="
                         f"--xla_force_host_platform_device_count={max(flags.devices)}, or give fewer")
    found = mars_sizes.metadata(flags.info)
    rows: dict = {"about": {"variant": flags.variant, "compute": flags.compute, "jax": jax.__version__,
                            "machine": jax.devices()[0].device_kind, "tracklets": mars_sizes.described(flags.info)}}
    for name, measure, sizes in (("devices", partial(of_devices, flags), flags.devices),
                                 ("gallery", partial(of_gallery, found), flags.galleries),
                                 ("records", partial(of_records, found), flags.tracklets)):
        rows[name] = [measure(size) for size in sizes]
        _show(name, rows[name], _notes(flags) if name == "devices" else [])
        flags.out.write_text(json.dumps(rows, indent=2) + "\n")  # each takes minutes: what is there stays
    plot(rows, flags.out.with_suffix(".png"))


def _flags(arguments: list[str] | None) -> argparse.Namespace:
    parser = command("growth", __doc__)
    mars_config.add_flags(parser)
    # Of the loops that convolutions in float32 are on CPUs the compiler's estimates count one turn.
    parser.set_defaults(compute="bfloat16")
    parser.add_argument("--devices", type=wholes(), default=(1, 2, 4, 8), help="default 1,2,4,8")
    parser.add_argument("--steps", type=whole(0), default=0, help="training steps to run on each number of devices")
    parser.add_argument("--galleries", type=wholes(), default=(1275, 2550, 5100, 10200),
                        help="tracklets beside the queries (default 1275,2550,5100,10200: MARS)")
    parser.add_argument("--tracklets", type=wholes(), default=(500, 1000, 2000, 4000),
                        help="of the training records (default 500,1000,2000,4000)")
    parser.add_argument("--info", type=Path, help="MARS's info folder; unset: tracklets are drawn to its totals")
    return parser.parse_args(arguments)


def _notes(flags: argparse.Namespace) -> list[str]:
    notes = mars_config.caveat(flags)
    if (flags.compute, jax.default_backend()) == ("float32", "cpu"):
        notes.append("Convolutions in float32 may be loops on CPUs, of which one turn is counted: FLOPs are too few.")
    return notes


def _show(name: str, rows: list[dict], notes: list[str]) -> None:
    title, along, columns = _PARTS[name]
    own = {column: about for column, about in columns.items() if column in rows[0]}
    show(title, [along, *(heading for heading, _ in own.values())],
         [[f"{row[along]:,}", *(f"{row[column] / unit:,.3g}" for column, (_, unit) in own.items())] for row in rows],
         notes)


def of_devices(flags: argparse.Namespace, count: int) -> dict:
    """What a training step costs each of so many devices."""
    config = mars_config.chosen(flags)
    compiled.refuse_parts(config)
    program = compiled.training_step(config, data_mesh(jax.devices()[:count]))
    analysis, exchanges = program.cost_analysis(), compiled.collectives(program.as_text())
    row = {"devices": count, **compiled.memory(program), "flops": analysis["flops"],
           "traffic": analysis["bytes accessed"], "collectives": exchanges,
           "exchanged": sum(size for _, size in exchanges.values())}
    return row | {"seconds": _run(program, flags.steps)} if flags.steps else row


def _run(program: Compiled, steps: int) -> float:
    """The fewest seconds of a step, all numbers being zero."""
    def once() -> None:
        jax.block_until_ready(program(*arguments))

    taken = []
    for _ in range(steps + 1):  # the first one warms up
        (arguments, _), places = program.args_info, program.input_shardings[0]
        arguments = jax.tree.map(lambda info, where: jax.device_put(np.zeros(info.shape, info.dtype), where),
                                 arguments, places)
        taken.append(seconds(once))
    return min(taken[1:])


def of_gallery(found: Metadata, size: int) -> dict:
    """Scores of all queries against themselves and so many others of MARS's test list, drawn."""
    others = np.setdiff1d(np.arange(len(found.test)), found.query)
    rows = np.concatenate([found.query, np.random.default_rng(0).permutation(others)[:size]])
    search = drawn_search(Metadata(found.train, found.test[rows], np.arange(len(found.query))), _DIMENSIONS)
    work = partial(search.score, ["mars"])
    return {"gallery": len(rows) - len(found.query), "queries": len(found.query), "seconds": fewest_seconds(work),
            "bytes": allocated(work)}


def of_records(found: Metadata, size: int) -> dict:
    """Opening training records of the first tracklets of MARS."""
    with tempfile.TemporaryDirectory() as folder:
        write_records(Path(folder) / "records", Metadata(found.train[:size], found.test[:1], np.arange(1)), 2.0)
        work = partial(RecordSet.open, Path(folder) / "records", "train")
        records = work()
        return {"tracklets": len(records), "frames": int(records.lengths.sum()), "seconds": fewest_seconds(work),
                "bytes": allocated(work)}


def plot(rows: dict[str, list[dict]], path: Path) -> None:
    """Each part as a panel, every column in units of its first value."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    for axes, (name, (title, along, columns)) in zip(figure.subplots(1, len(_PARTS)), _PARTS.items(), strict=True):
        places = [row[along] for row in rows[name]]
        for column, (heading, unit) in columns.items():
            points = [(row[along], row[column] / unit) for row in rows[name] if row.get(column)]  # 0 has no place
            if points:
                first = points[0][1]
                axes.plot([place for place, _ in points], [value / first for _, value in points], marker="o",
                          label=f"{heading}, from {first:.3g}")
        axes.set(title=title, xlabel=along, ylabel="times the first value")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xticks(places, [f"{place:,}" for place in places], minor=False)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    run_command(main)
