"""Training, evaluation, export, features and search, from the command line.

    cfaan --config=FILE --workdir=FOLDER [--mode=evaluate|export] [--config.FIELD=VALUE ...]
    cfaan --config=FILE --workdir=FOLDER --mode=extract --input=TRACKLETS --out=FEATURES [--format=parquet]
    cfaan --mode=search --query=FEATURES --gallery=FEATURES [--top=10]

cfaan stands for python -m cfaan_jax.main where the package is not installed. --config names a Python file with
get_config(), such as configs/mars.py, or one of this project's by its name, as in mars; a variant may follow, as in
mars:c2d. Any of its fields can be set, for instance --config.optim.learning_rate=3e-4; --help together with --config
lists them. A run that was stopped resumes when the same command is given again.

Exit status: 0 done; 1 the machine cannot go on (a full disk, no permission, a path that is gone); 2 wrong input, which
an error names; 128 and the number of the signal (143 for SIGTERM, 130 for Ctrl-C) stopped, with everything up to then
saved.

Compiled programs are kept in ~/.cache/cfaan-jax; JAX_COMPILATION_CACHE_DIR names another folder,
JAX_ENABLE_COMPILATION_CACHE=false keeps none.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from cfaan_jax.deploy import export, extract
from cfaan_jax.errors import InputError
from cfaan_jax.evaluate import evaluate
from cfaan_jax.experiment import config_file
from cfaan_jax.experiment.checkpoint import restore_model
from cfaan_jax.experiment.config import initial_model, save_or_check_config, weights_of
from cfaan_jax.experiment.fields import check, describe
from cfaan_jax.models import VideoReID
from cfaan_jax.runtime import distributed
from cfaan_jax.runtime.command import CommandParser, exit_status
from cfaan_jax.runtime.text_tables import show
from cfaan_jax.train.loop import train, training_sampler

_NETWORK = ("config", "workdir")
_NEEDS = {"train": _NETWORK, "evaluate": _NETWORK, "export": _NETWORK, "extract": (*_NETWORK, "input", "out"),
          "search": ("query", "gallery")}  # the flags without which a mode cannot work


def _parser() -> CommandParser:
    parser = CommandParser("python -m cfaan_jax.main", __doc__, usage=argparse.SUPPRESS, add_help=False)
    parser.add_argument("-h", "--help", action="store_true", help="Show this text, with --config its fields, too.")
    group = parser.add_argument_group("What to do")
    group.add_argument("--mode", choices=_NEEDS, default="train",
                       help="train: train or resume, then score; evaluate: score config.eval.weights; export: write "
                            "them to WORKDIR/export-<weights>, as StableHLO, as ONNX and under torch's names; extract: "
                            "write features of the tracklets in --input; search: print those of --gallery nearest to "
                            "those of --query.")
    group.add_argument("--distributed", choices=("auto", "yes", "no"), default="auto",
                       help="Whether other processes take part. auto: if variables of the environment or srun say so; "
                            "yes: always, needed on TPU slices of several hosts; see docs/scale/devices.md.")
    group = parser.add_argument_group("The network (train, evaluate, export, extract)")
    group.add_argument("--config", action="append", help="Python file with get_config(), or the name of one; a colon "
                       "and a variant may follow.")
    group.add_argument("--workdir", help="Folder of this experiment: checkpoints, metrics, results.")
    group = parser.add_argument_group("For --mode=extract")
    group.add_argument("--input", help="Records, or a folder with a folder of images for each tracklet.")
    group.add_argument("--out", help="Folder to write features to, with the ids of the tracklets.")
    group.add_argument("--format", choices=extract.FORMATS, default="npy",
                       help="npy: writes features.npy, ids.csv and about.json; parquet: features.parquet, which needs "
                            "pyarrow.")
    group = parser.add_argument_group("For --mode=search")
    group.add_argument("--query", help="A folder that extract wrote.")
    group.add_argument("--gallery", help="Another, or the same one.")
    group.add_argument("--top", type=int, default=10, help="How many tracklets to show for each query.")
    return parser


def parse(arguments: Sequence[str] | None = None) -> tuple[argparse.Namespace, ConfigDict | None]:
    """The flags, and the config with what they change in it; InputError for what is wrong with them."""
    parser = _parser()
    parsed, rest = parser.parse_known_args(arguments)
    config, configs = None, parsed.config or []
    if len(configs) > 1:
        raise InputError(f"--config={' --config='.join(configs)}: give one config")
    if configs:
        config = config_file.load(configs[0])
        _, rest = config_file.override(config, rest)
    if rest:
        raise InputError(f"unexpected argument {rest[0]!r}; every setting is written --config.FIELD=VALUE")
    if parsed.help:
        print(parser.format_help())
        if config is not None:
            print("Fields of this config:", *describe(config), sep="\n")
        sys.exit(0)
    for name in _NEEDS[parsed.mode]:
        if getattr(parsed, name) is None:
            parser.error(f"--{name} is missing")
    if parsed.workdir == "":
        raise InputError("--workdir= is empty; name a folder, or . for this one")
    if parsed.top < 1:
        raise InputError(f"--top={parsed.top}: must be at least 1")
    return parsed, config


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command, `cfaan` or `python -m cfaan_jax.main`; returns the exit status."""
    return exit_status(lambda: _run(*parse(arguments)), "everything done so far is saved; the same command resumes")


def _run(parsed: argparse.Namespace, config: ConfigDict | None) -> None:
    _cache_compiled_programs()
    distributed.join(parsed.distributed)
    workdir = parsed.workdir
    if parsed.mode == "train":
        train(config, workdir)
    elif parsed.mode == "search":
        query, gallery = extract.read(parsed.query), extract.read(parsed.gallery)
        show(f"{len(gallery.ids)} tracklets searched", *extract.search(query, gallery, parsed.top))
    else:
        model, weights = _network(config, workdir, classifies=parsed.mode == "export"), weights_of(config)
        if parsed.mode == "evaluate":
            evaluate.evaluate({weights: model}, config, workdir)
        elif parsed.mode == "export":
            print(f"exported: {export.write(model, config, Path(workdir) / f'export-{weights}', weights)}")
        else:
            print(f"features: {extract.extract(model, config, parsed.input, parsed.out, weights, parsed.format)}")


def _network(config: ConfigDict, workdir: str, classifies: bool) -> VideoReID:
    """The network that `config.eval.weights` names."""
    check(config)
    if config.eval.weights == "untrained":
        model = initial_model(config, training_sampler(config).num_classes, classifies=classifies)
    else:
        model, _ = restore_model(workdir, config.eval.weights)
    distributed.run_in_first_process(lambda: save_or_check_config(config, workdir))
    return model


def _cache_compiled_programs() -> None:
    """Compiling a training step takes minutes on some machines: keep it, unless JAX's own variable says where."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(cache) / "cfaan-jax"))


if __name__ == "__main__":
    sys.exit(main())
