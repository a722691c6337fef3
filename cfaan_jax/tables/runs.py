"""The runs behind the paper's tables: where they lie, which variant each one is, and the command that makes it.

The runs of one scale lie in FOLDER/<data set>/<variant>-<raw or aligned>-seed<number>.
"""

import ast
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from cfaan_jax.errors import InputError
from cfaan_jax.experiment.config import CHECKPOINT_KINDS, FREE, flatten, load_config, no_such_field
from cfaan_jax.experiment.results_file import read_rows
from configs import mars, quickstart

TRACKLETS = ("raw", "aligned")
_OF_A_RUN = ("seed", "data.records")
_MAY_DIFFER = (*_OF_A_RUN, *FREE)  # fields, or the sections that hold them, in which runs of one table may differ
_DRAWN = "drawn"  # data drawn for the runs lie here, among them
# Fields of config.model that tell no variant.
_SIZE = {"pretrained", "width", "depths", "bn_groups", "compute", "remat"}


@dataclass(frozen=True)
class Scale:
    """One size at which all rows can be run.

    Attributes:
        config: the file of its configs, whose `get_config` follows.
        get_config: variant -> config.
        dataset: the folder of its runs.
        drawn: the folder of the data, unless told; may hold {runs}.
        raw, aligned: the records in it; may hold {data} and {seed}, and corrections too.
        corrections: file of corrected labels; "": none.
    """

    config: str
    get_config: Callable[[str], ConfigDict]
    dataset: str
    drawn: str
    raw: str
    aligned: str
    corrections: str = ""


SCALES = {
    "paper": Scale("configs/mars.py", mars.get_config, "mars", "/data/mars", "{data}-raw", "{data}-dl"),
    "small": Scale("configs/quickstart.py", quickstart.get_config, "synthetic", f"{{runs}}/{_DRAWN}",
                   "{data}/seed-{seed}/records/raw", "{data}/seed-{seed}/records/aligned",
                   "{data}/seed-{seed}/synthetic/corrections.csv"),
}


@dataclass(frozen=True)
class Run:
    """A folder in which a variant was trained.

    Attributes:
        folder: its workdir.
        variant: one of `mars.VARIANTS`.
        config: every field by its dotted name.
        rows: of its results.json, those of trained weights; none where it is not scored yet.
    """

    folder: Path
    variant: str
    config: Mapping[str, object]
    rows: Sequence[Mapping]


def find(folder: Path, scale: Scale) -> list[Run]:
    """The runs of a scale in `folder`, by name; other networks than the variants of configs/mars.py are passed over.

    Raises:
        InputError: the folder holds something else, or a file in it cannot be read or is not of its run.
    """
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise InputError(f"--runs={folder}: is no folder; name the one that launch/table.sh was given")
    inside = {path.name for path in folder.iterdir() if path.is_dir()}
    if inside and not inside & {_DRAWN, *(each.dataset for each in SCALES.values())}:
        raise InputError(f"--runs={folder}: holds no runs of a table; name the folder in which they lie as "
                         f"{scale.dataset}/VARIANT-TRACKLETS-seedN")
    runs = []
    for path in sorted((folder / scale.dataset).glob("*/config.json")):
        config = load_config(path.parent).to_dict()
        variant, results = variant_of(config["model"]), path.with_name("results.json")
        if variant is not None:
            rows = read_rows(results) if results.exists() else ()
            rows = [row for row in rows if row["weights"] in CHECKPOINT_KINDS]
            if strange := {row["seed"] for row in rows} - {config["seed"]}:
                raise InputError(f"{results} has figures of seed {min(strange)}, config.json beside it says "
                                 f"{config['seed']}: one of them is of another run; evaluate this one again")
            runs.append(Run(path.parent, variant, flatten(config), rows))
    return runs


def variant_of(model: Mapping) -> str | None:
    """The variant that `config.model` describes, whatever its size; None if it is none of `mars.VARIANTS`."""
    design = {name: value for name, value in model.items() if name not in _SIZE}
    for variant in mars.VARIANTS:
        known = mars.get_config(variant).model.to_dict()
        if design == {name: value for name, value in known.items() if name not in _SIZE}:
            return variant
    return None


def overrides(runs: Sequence[Run], scale: Scale, given: Sequence[str]) -> tuple[dict, dict]:
    """The fields in which all runs differ from the configs of their scale.

    Args:
        given: further ones, as typed: "--config.FIELD=VALUE".
    Returns:
        (those that training depends on, the others), {dotted name: value}; the others are among the given ones.
    Raises:
        InputError: two runs, or a run and what is given, do not agree.
    """
    typed = dict(_typed(each, scale) for each in given)
    free = {name: value for name, value in typed.items() if name.startswith(_MAY_DIFFER)}
    chosen = {name: (value, "the command line") for name, value in typed.items() if name not in free}
    for run in runs:
        usual = flatten(scale.get_config(run.variant).to_dict())
        for name in dict.fromkeys((*run.config, *usual)):
            if usual.get(name) != run.config.get(name) and not name.startswith(_MAY_DIFFER):
                chosen.setdefault(name, (run.config.get(name), str(run.folder)))
    for run in runs:
        for name, (value, where) in chosen.items():
            if run.config.get(name) != value:
                raise InputError(f"{run.folder} was run with config.{name}={run.config.get(name)!r}, {where} says "
                                 f"{value!r}; runs of one table share all settings: give each choice its own --runs")
    return {name: value for name, (value, _) in chosen.items()}, free


def _typed(argument: str, scale: Scale) -> tuple[str, object]:
    name, equals, text = argument.removeprefix("--config.").partition("=")
    if not (argument.startswith("--config.") and equals):
        raise InputError(f"unexpected argument {argument!r}; settings are written --config.FIELD=VALUE")
    if name in _OF_A_RUN:
        raise InputError(f"{argument}: every run has its own; give --seeds and --records")
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two where it is nested too deeply
        value = text
    fields = flatten(scale.get_config(mars.VARIANTS[0]).to_dict())
    if name not in fields:
        raise InputError(f"{no_such_field(f'config.{name}', [f'config.{each}' for each in fields])}"
                         f"python -m cfaan_jax.main --help --config={scale.config} lists all")
    if isinstance(fields[name], int | float) and not isinstance(value, int | float):
        raise InputError(f"{argument}: give a number, as in --config.{name}={fields[name]}")
    return name, value


def data_of(runs: Sequence[Run], scale: Scale) -> str:
    """The folder of the data that the runs were made from, see `Scale`; "" where they do not tell."""
    for run in runs:
        for tracklets in (scale.raw, scale.aligned):
            behind = tracklets.format(data="", seed=run.config["seed"])
            if run.config["data.records"].endswith(behind):
                return run.config["data.records"].removesuffix(behind)
    return ""


@dataclass(frozen=True)
class Commands:
    """Writes the command that makes a run.

    Attributes:
        runs: the folder of all runs.
        scale: of them.
        data: the folder of the data, see `Scale`; "": its usual place.
        settings: fields that differ from the scale's configs.
    """

    runs: Path
    scale: Scale
    data: str
    settings: Mapping[str, object]

    def train(self, variant: str, tracklets: str, seed: int) -> str:
        """Trains and scores, or goes on with it."""
        data = self.data or self.scale.drawn.format(runs=self.runs)
        records, corrections = (text.format(data=data, seed=seed) for text in (getattr(self.scale, tracklets),
                                                                               self.scale.corrections))
        fields = {"data.records": records, "seed": seed, **({"eval.corrections": corrections} if corrections else {})}
        workdir = self.runs / self.scale.dataset / f"{variant}-{tracklets}-seed{seed}"
        return self._line(variant, workdir, fields | dict(self.settings))

    def score(self, run: Run) -> str:
        """Scores a finished run under all protocols."""
        fields = {name: run.config[name] for name in ("data.records", "seed", "eval.corrections")}
        return self._line(run.variant, run.folder, fields | dict(self.settings) | {"eval.protocols": "all"},
                          "--mode=evaluate")

    def _line(self, variant: str, workdir: Path, fields: Mapping, *more: str) -> str:
        return shlex.join(["python", "-m", "cfaan_jax.main", f"--config={self.scale.config}:{variant}",
                           f"--workdir={workdir}", *more,
                           *(f"--config.{name}={value}" for name, value in fields.items())])
