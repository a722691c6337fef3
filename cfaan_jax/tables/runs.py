"""The runs behind the paper's tables: where they lie, which variant each one is, and the command that makes it.

The runs of one scale lie in FOLDER/<data set>/<variant>-<raw or aligned>-seed<number>.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from cfaan_jax.errors import InputError
from cfaan_jax.experiment import config_file
from cfaan_jax.experiment.config import load_config
from cfaan_jax.experiment.fields import CHECKPOINT_KINDS, FREE, flatten
from cfaan_jax.experiment.recipes import VARIANTS, network_of
from cfaan_jax.experiment.results_file import FILE, rows_of

TRACKLETS = ("raw", "aligned")
_OF_A_RUN = ("seed", "data.records")
_MAY_DIFFER = (*_OF_A_RUN, *FREE)  # fields, or the sections that hold them, in which runs of one table may differ
_DRAWN = "drawn"  # the folder of data that was drawn for the runs, among them
_SIZE = {"pretrained", "width", "depths", "bn_groups", "compute", "remat"}  # fields of config.model: no design


@dataclass(frozen=True)
class Scale:
    """One size at which all rows can be run."""

    config: str  # the name of its configs
    dataset: str  # the folder of its runs
    drawn: str  # the folder of the data, unless another is chosen; may hold {runs}
    raw: str  # the records in it; these and the next two may hold {data} and {seed}
    aligned: str
    corrections: str = ""  # file of corrected labels; "": none

    def config_of(self, variant: str) -> ConfigDict:
        """The config of a variant."""
        return config_file.load(f"{self.config}:{variant}")


SCALES = {
    "paper": Scale("mars", "mars", "/data/mars", "{data}-raw", "{data}-dl"),
    "small": Scale("quickstart", "synthetic", f"{{runs}}/{_DRAWN}", "{data}/seed-{seed}/records/raw",
                   "{data}/seed-{seed}/records/aligned", "{data}/seed-{seed}/synthetic/corrections.csv"),
}


@dataclass(frozen=True)
class Run:
    """A workdir in which a variant was trained."""

    folder: Path
    variant: str  # one of `VARIANTS`
    config: Mapping[str, object]  # every field by its dotted name
    rows: Sequence[Mapping]  # of its results.json, those of trained weights; none where it is not scored yet


def find_runs(folder: Path, scale: Scale) -> list[Run]:
    """The runs of a scale in `folder`, by name; networks that are no variant of configs/mars.py are left out.

    Raises InputError where the folder holds something else, or a file in it cannot be read or is not of its run.
    """
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise InputError(f"--runs={folder}: is not a folder; name the one that launch/table.sh was given")
    inside = {path.name for path in folder.iterdir() if path.is_dir()}
    if inside and not inside & {_DRAWN, *(other.dataset for other in SCALES.values())}:
        raise InputError(f"--runs={folder}: holds no runs of a table; name the folder in which they lie as "
                         f"{scale.dataset}/VARIANT-TRACKLETS-seedN")
    runs = []
    for workdir in sorted(path.parent for path in (folder / scale.dataset).glob("*/config.json")):
        config = load_config(workdir).to_dict()
        if (variant := variant_of(config["model"])) is None:
            continue
        rows = [row for row in rows_of(workdir) if row["weights"] in CHECKPOINT_KINDS]
        if other_seeds := {row["seed"] for row in rows} - {config["seed"]}:
            raise InputError(f"{workdir / FILE} has results of seed {min(other_seeds)}, config.json beside it says "
                             f"{config['seed']}: one of them is of another run; evaluate this one again")
        runs.append(Run(workdir, variant, flatten(config), rows))
    return runs


def variant_of(model: Mapping) -> str | None:
    """The variant that `config.model` describes, whatever its size; None if it is none of `VARIANTS`."""
    design = {name: value for name, value in model.items() if name not in _SIZE}
    return next((variant for variant in VARIANTS if network_of(variant) == design), None)


def overrides(runs: Sequence[Run], scale: Scale, words: Sequence[str]) -> tuple[dict, dict]:
    """The fields in which all runs differ from the configs of their scale, or that `words` set: "--config.FIELD=VALUE".

    Returns (those that training depends on, the others), {dotted name: value}; the others are among those typed.
    InputError: two runs, or a run and the words, do not agree.
    """
    typed, rest = config_file.override(scale.config_of(VARIANTS[0]), words)
    if rest:
        raise InputError(f"unexpected argument {rest[0]!r}; settings are written --config.FIELD=VALUE")
    if own := [name for name in _OF_A_RUN if name in typed]:
        raise InputError(f"--config.{own[0]}: every run has its own; give --seeds and --records")
    free = {name: value for name, value in typed.items() if name.startswith(_MAY_DIFFER)}
    chosen = {name: (value, "the command line") for name, value in typed.items() if name not in free}
    for run in runs:
        usual = flatten(scale.config_of(run.variant).to_dict())
        for name in dict.fromkeys((*run.config, *usual)):
            if usual.get(name) != run.config.get(name) and not name.startswith(_MAY_DIFFER):
                chosen.setdefault(name, (run.config.get(name), str(run.folder)))
    for run in runs:
        for name, (value, where) in chosen.items():
            if run.config.get(name) != value:
                raise InputError(f"{run.folder} was run with config.{name}={run.config.get(name)!r}, {where} says "
                                 f"{value!r}; runs of one table share all settings: give each choice its own --runs")
    return {name: value for name, (value, _) in chosen.items()}, free


def data_of(runs: Sequence[Run], scale: Scale) -> str:
    """The folder of the data that the runs were made from, see `Scale`; "" where their records do not say."""
    for run in runs:
        for tracklets in (scale.raw, scale.aligned):
            ending = tracklets.format(data="", seed=run.config["seed"])
            if run.config["data.records"].endswith(ending):
                return run.config["data.records"].removesuffix(ending)
    return ""


@dataclass(frozen=True)
class Commands:
    """Writes the command that makes a run."""

    runs: Path  # the folder of all runs
    scale: Scale
    data: str  # the folder of the data, see `Scale`; "": its usual place
    settings: Mapping[str, object]  # fields that differ from the scale's configs

    def train(self, variant: str, tracklets: str, seed: int) -> str:
        """Trains and scores, or resumes it."""
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
