"""Training, evaluation, export, features and search, from the command line.

    python -m cfaan_jax.main --config=FILE --workdir=FOLDER [--mode=evaluate|export] [--config.FIELD=VALUE ...]
    python -m cfaan_jax.main --config=FILE --workdir=FOLDER --mode=extract --input=TRACKLETS --out=FEATURES \\
        [--format=parquet]
    python -m cfaan_jax.main --mode=search --query=FEATURES --gallery=FEATURES [--top=10]

--config names a Python file with get_config(), such as configs/mars.py or configs/mars.py:c2d; any of its fields can be
set from the command line, for instance --config.optim.learning_rate=3e-4. --help together with --config lists them.
A run that was stopped goes on when it is started again with the same command.

Exit status: 0 done; 1 the machine could not go on (a full disk, no permission, a path that is gone) and 2 wrong input,
which an error names; 128 and the number of the signal (143 for SIGTERM, 130 for
Ctrl-C) stopped, with everything up to then saved.

Compiled programs are kept in ~/.cache/cfaan-jax; JAX_COMPILATION_CACHE_DIR names another folder,
JAX_ENABLE_COMPILATION_CACHE=false keeps none.
"""

import os
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from cfaan_jax.deploy import export, extract
from cfaan_jax.errors import InputError
from cfaan_jax.evaluate import evaluate
from cfaan_jax.experiment.checkpoint import restore_model
from cfaan_jax.experiment.config import (
    SECTIONS,
    check,
    flatten,
    initial_model,
    no_such_field,
    save_or_check_config,
    weights_of,
)
from cfaan_jax.models import VideoReID
from cfaan_jax.runtime import distributed
from cfaan_jax.runtime.command import exit_status
from cfaan_jax.runtime.text_tables import show
from cfaan_jax.train.loop import train, training_sampler

_NETWORK = ("config", "workdir")
_NEEDS = {"train": _NETWORK, "evaluate": _NETWORK, "export": _NETWORK, "extract": (*_NETWORK, "input", "out"),
          "search": ("query", "gallery")}  # the flags without which a mode cannot work

_GROUPS = {
    "What to do:": ("mode", "distributed"),
    "The network (train, evaluate, export, extract):": _NETWORK,
    "For --mode=extract:": ("input", "out", "format"),
    "For --mode=search:": ("query", "gallery", "top"),
}  # of flags, as --help shows them

_CONFIG = config_flags.DEFINE_config_file("config", None,
                                          "Python file with get_config(); a colon and a variant may follow.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this experiment: checkpoints, figures, results.")
_MODE = flags.DEFINE_enum("mode", "train", list(_NEEDS),
                          "train: train, or go on, then score; evaluate: score config.eval.weights; export: write them "
                          "to WORKDIR/export-<weights>, as StableHLO, as ONNX and under torch's names; extract: write "
                          "features of the tracklets in --input; search: print those of --gallery nearest to those of "
                          "--query.")
_DISTRIBUTED = flags.DEFINE_enum("distributed", "auto", ["auto", "yes", "no"],
                                 "Whether other processes take part: auto: if variables of the environment or srun say "
                                 "so; yes: always, needed on TPU slices of several hosts; see docs/scale/devices.md.")
_INPUT = flags.DEFINE_string("input", None, "Records, or a folder with a folder of images for each tracklet.")
_OUT = flags.DEFINE_string("out", None, "Folder to write features to, with the ids of the tracklets.")
_FORMAT = flags.DEFINE_enum("format", "npy", extract.FORMATS,
                            "npy: writes features.npy, ids.csv and about.json; parquet: features.parquet, "
                            "which needs pyarrow.")
_QUERY = flags.DEFINE_string("query", None, "A folder that extract wrote.")
_GALLERY = flags.DEFINE_string("gallery", None, "Another, or the same one.")
_TOP = flags.DEFINE_integer("top", 10, "How many tracklets to show for each query.", lower_bound=1)


def main(_: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    _keep_compiled_programs()
    return exit_status(_run, "everything done so far is saved; the same command resumes")


def _run() -> None:
    distributed.join(_DISTRIBUTED.value)
    mode, config, workdir = _MODE.value, _CONFIG.value, _WORKDIR.value
    if mode == "train":
        train(config, workdir)
    elif mode == "search":
        query, gallery = extract.read(_QUERY.value), extract.read(_GALLERY.value)
        show(f"{len(gallery.ids)} tracklets searched", *extract.search(query, gallery, _TOP.value))
    else:
        model, which = _network(config, workdir, classifies=mode == "export"), weights_of(config)
        if mode == "evaluate":
            evaluate.evaluate(model, config, workdir, which)
        elif mode == "export":
            print(f"exported: {export.write(model, config, Path(workdir) / f'export-{which}', which)}")
        else:
            print(f"features: {extract.extract(model, config, _INPUT.value, _OUT.value, which, _FORMAT.value)}")


def _network(config: ConfigDict, workdir: str, classifies: bool) -> VideoReID:
    """The network that `config.eval.weights` names."""
    check(config)
    which = config.eval.weights
    if which == "untrained":
        model = initial_model(config, training_sampler(config).num_classes, classifies=classifies)
    else:
        model, _ = restore_model(workdir, which)
    distributed.run_on_first_process(lambda: save_or_check_config(config, workdir))
    return model


def parse(argv: Sequence[str]) -> list[str]:
    """Parses the flags; what is wrong with them is told in one line, with exit status 2."""
    if {"--help", "-help", "-h"} & set(argv):
        print(_help([each for each in argv if each not in ("--help", "-help", "-h")]))
        sys.exit(0)
    try:
        config = _config_alone(argv)
        if config is not None:
            overrides = [each.lstrip("-") for each in argv if each.lstrip("-").startswith("config.")]
            _check_fields(config, [each.partition("=")[0] for each in overrides])
        rest = flags.FLAGS(argv)
        if flags.FLAGS["verbosity"].using_default_value:
            flags.FLAGS.verbosity = logging.WARNING  # at absl's own default Orbax writes a page about every checkpoint
        if _WORKDIR.value == "":
            raise InputError("--workdir= is empty; name a folder, or . for this one")
        for name in _NEEDS[_MODE.value]:
            if flags.FLAGS[name].value is None:
                raise InputError(f"--{name} is missing; see python -m cfaan_jax.main --help")
        if rest[1:]:
            raise InputError(f"unexpected argument {rest[1]!r}; every setting is written --config.FIELD=VALUE")
        return rest
    except (flags.Error, InputError) as error:
        print(f"error: {_explain(error)}", file=sys.stderr)
        sys.exit(2)
    except (MemoryError, RecursionError):  # of Python's parser
        print("error: the value of a flag is nested too deeply; give plain numbers and names", file=sys.stderr)
        sys.exit(2)


def _config_alone(argv: Sequence[str]) -> ConfigDict | None:
    """The config as its file gives it, whatever the other flags say; None if there is no --config."""
    named = _naming_config(argv)
    if not named:
        return None
    if len(named) > 1:
        raise InputError(f"{' '.join(named)}: give one config")
    alone = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, flag_values=alone, sys_argv=argv[:1])
    _run_file(lambda: alone(argv, known_only=True), named[0])
    path = (config_flags.get_config_filename(alone["config"]) or "").partition(":")[0]
    if not Path(path).is_file():
        raise InputError(f"--config={path}: there is no such file; configs/ holds the experiments of this project")
    config = alone["config"].value
    if not isinstance(config, ConfigDict) or not all(isinstance(config.get(each), ConfigDict) for each in SECTIONS):
        raise InputError(f"--config={path}: get_config() must return a ConfigDict with the sections "
                         f"{', '.join(SECTIONS)}; begin with the one that get_config() of configs/mars.py returns")
    return config


def _run_file(parse_flags: Callable[[], object], named: str) -> None:
    """Raises InputError in place of whatever somebody's config file raises when it is read and called."""
    try:
        parse_flags()
    except (flags.Error, InputError, MemoryError, RecursionError):
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f", line {each.lineno}" for each in frames if each.filename in named]
        raise InputError(f"{named}: cannot be run as a config ({type(error).__name__}: {error}{''.join(lines[-1:])}); "
                         "it must be Python with a get_config(), as configs/mars.py is") from error


def _naming_config(argv: Sequence[str]) -> list[str]:
    return [each for each in argv if each.lstrip("-").partition("=")[0] == "config"]


def _check_fields(config: ConfigDict, given: Sequence[str]) -> None:
    """Raises InputError for the first of the names ("config.model.width") that is no field, or a tuple given twice."""
    fields = {f"config.{name}": value for name, value in flatten(config.to_dict()).items()}
    names = list(fields)
    for name in given:
        if isinstance(fields.get(name), tuple) and given.count(name) > 1:
            raise InputError(f"--{name} is given {given.count(name)} times, which would put the values one behind the "
                             f"other; give it once: --{name}='{fields[name]}'")
        if not any(each == name or each.startswith(f"{name}.") for each in names):
            raise InputError(f"{no_such_field(name, names)}--help together with --config lists all fields")


def _explain(error: BaseException) -> str:
    """What the user should read: absl and ml_collections wrap what a config file raises; its own error says it."""
    text, inner = str(error), error
    while inner is not None:
        text = str(inner) if isinstance(inner, InputError) else text
        inner = inner.__cause__ or inner.__context__
    return text


def _help(argv: Sequence[str]) -> str:
    lines = [__doc__.strip()]
    for title, names in _GROUPS.items():
        lines += ["", title, *(_described(flags.FLAGS[name]) for name in names)]
    if _naming_config(argv):
        parse(argv + ["--workdir=.", "--mode=train"])  # which needs no more
        fields = _CONFIG.value.to_dict()
        lines += ["", "Fields of this config:",
                  *(f"  --config.{name}={value}" for name, value in flatten(fields).items())]
    return "\n".join(lines)


def _described(flag: flags.Flag) -> str:
    return textwrap.fill(f"--{flag.name}: {flag.help}", width=120, initial_indent="  ", subsequent_indent="      ",
                         break_long_words=False, break_on_hyphens=False)


def _keep_compiled_programs() -> None:
    """Compiling a training step takes minutes on some machines: keep it, unless JAX's own variable says where."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(cache) / "cfaan-jax"))


def command() -> None:
    """What `cfaan` and `python -m cfaan_jax.main` run."""
    app.run(main, flags_parser=parse)


if __name__ == "__main__":
    command()
