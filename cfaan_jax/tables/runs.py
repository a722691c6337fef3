"""The runs behind the paper's tables: where they lie, which variant each one is, and the command that makes it.

A run lies in FOLDER/<data set>/<variant>-<raw or aligned>-seed<number>.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cfaan_jax.errors import InputError
from cfaan_jax.experiment import config_file
from cfaan_jax.experiment.config import load_config
from cfaan_jax.experiment.fields import CHECKPOINT_KINDS, FREE, flatten
from cfaan_jax.experiment.recipes import VARIANTS, network_of
from cfaan_jax.experiment.results_file import FILE, rows_of
from cfaan_jax.tables.paper import Cell

TRACKLETS = ("raw", "aligned")
_FOLDERS = ("mars", "dukev", "synthetic", "drawn")  # those in a folder of runs
_OF_A_RUN = ("seed", "data.records")
_MAY_DIFFER = (*_OF_A_RUN, *FREE)  # fields, or the sections that hold them, in which runs of one table may differ
_SIZE = {"pretrained", "width", "depths", "bn_groups", "compute", "remat"}  # fields of config.model: no design


class Scale(NamedTuple):
    """One size at which the tables can be run. Records and corrections may hold {data} and {seed}."""

    data_sets: Mapping[str, tuple[str, str]]  # by data set of the paper: the folder of its runs, and their config
    data: str  # the folder of MARS, or of what is drawn in its place; may hold {runs}
    records: tuple[str, str]  # raw and aligned
    corrections: str = ""  # file of corrected labels
    notes: tuple[str, ...] = ()  # below its tables


SCALES = {
    "paper": Scale({"mars": ("mars", "mars"), "dukev": ("dukev", "dukev")}, "/data/mars", ("{data}-raw", "{data}-dl")),
    "small": Scale({"mars": ("synthetic", "quickstart")}, "{runs}/drawn",
                   ("{data}/seed-{seed}/records/raw", "{data}/seed-{seed}/records/aligned"),
                   "{data}/seed-{seed}/synthetic/corrections.csv",
                   ("Drawn pedestrians, small networks, short training: these compare with each other alone.",)),
}


class Run(NamedTuple):
    """A workdir in which a variant was trained; begins as a `Cell` does."""

    dataset: str
    variant: str  # one of `VARIANTS`
    aligned: bool | None  # None where it is not scored yet
    folder: Path
    config: Mapping[str, object]  # every field by its dotted name
    rows: Sequence[Mapping]  # of its results.json, those of trained weights


def find_runs(folder: Path, scale: Scale) -> list[Run]:
    """The runs of a scale, by name, without networks that are no variant of configs/mars.py.

    InputError: the folder holds something else, or a file in it cannot be read or is not of its run.
    """
    if folder.is_file() or any(folder.glob("*/")) and not any((folder / name).is_dir() for name in _FOLDERS):
        raise InputError(f"--runs={folder}: holds no runs of a table; name the folder that launch/table.sh was given, "
                         "in which they lie as mars/VARIANT-TRACKLETS-seedN")
    runs = []
    for dataset, (name, _) in scale.data_sets.items():
        for workdir in sorted(path.parent for path in (folder / name).glob("*/config.json")):
            config = load_config(workdir).to_dict()
            rows = [row for row in rows_of(workdir) if row["weights"] in CHECKPOINT_KINDS]
            if other_seeds := {row["seed"] for row in rows} - {config["seed"]}:
                raise InputError(f"{workdir / FILE} has results of seed {min(other_seeds)}, config.json beside it says "
                                 f"{config['seed']}: one of them is of another run; evaluate this one again")
            if variant := variant_of(config["model"]):
                aligned = rows[0]["aligned"] if rows else None
                runs.append(Run(dataset, variant, aligned, workdir, flatten(config), rows))
    return runs


def variant_of(model: Mapping) -> str | None:
    """The variant that `config.model` describes, whatever its size; None if it is none of `VARIANTS`."""
    design = {name: value for name, value in model.items() if name not in _SIZE}
    return next((variant for variant in VARIANTS if network_of(variant) == design), None)


def overrides(runs: Sequence[Run], scale: Scale, words: Sequence[str]) -> dict[str, object]:
    """The fields in which all runs differ from the configs of their scale, or that `words` set: "--config.FIELD=VALUE".

    InputError: two runs, or a run and the words, do not agree in a field that training depends on.
    """
    typed, rest = config_file.override(config_file.load(scale.data_sets["mars"][1]), words)
    if rest:
        raise InputError(f"unexpected argument {rest[0]!r}; settings are written --config.FIELD=VALUE")
    if own := [name for name in _OF_A_RUN if name in typed]:
        raise InputError(f"--config.{own[0]}: every run has its own; give --seeds and --records")
    chosen = {name: (value, "the command line") for name, value in typed.items()}
    for run in runs:
        usual = flatten(config_file.load(f"{scale.data_sets[run.dataset][1]}:{run.variant}").to_dict())
        for name in usual | run.config:
            if usual.get(name) != run.config.get(name) and not name.startswith(_MAY_DIFFER):
                chosen.setdefault(name, (run.config.get(name), run.folder))
    for run in runs:
        for name, (value, where) in chosen.items():
            if run.config.get(name) != value and not name.startswith(_MAY_DIFFER):
                raise InputError(f"{run.folder} was run with config.{name}={run.config.get(name)!r}, {where} says "
                                 f"{value!r}; runs of one table share all settings: give each choice its own --runs")
    return {name: value for name, (value, _) in chosen.items()}


def command(cell: Cell, seed: int, run: Run | None, folder: Path, scale: Scale, data: str, settings: dict) -> str:
    """The command that trains and scores a cell with a seed, or resumes that; or scores `run`, where there is one.

    `folder` holds all runs; `data` is that of MARS, beside which other data sets lie, "" that of the scale.
    """
    name, config = scale.data_sets[cell.dataset]
    workdir = folder / name / f"{cell.variant}-{TRACKLETS[cell.aligned]}-seed{seed}"
    data = data or scale.data.format(runs=folder)
    data = data if cell.dataset == "mars" else str(Path(data).parent / cell.dataset)
    texts = {"data.records": scale.records[cell.aligned], "seed": "{seed}", "eval.corrections": scale.corrections}
    fields = {field: text.format(data=data, seed=seed) for field, text in texts.items() if text} | settings
    if run:
        workdir, fields = run.folder, {key: run.config[key] for key in texts} | settings | {"eval.protocols": "all"}
    return shlex.join(["python", "-m", "cfaan_jax.main", f"--config={config}:{cell.variant}", f"--workdir={workdir}",
                       *(["--mode=evaluate"] if run else []),
                       *(f"--config.{field}={value}" for field, value in fields.items())])
