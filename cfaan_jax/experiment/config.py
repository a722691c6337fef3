"""A config, the network that it stands for, and the folder that belongs to it."""

import difflib
import json
from pathlib import Path

from flax import nnx
from ml_collections import ConfigDict

from cfaan_jax import models, weights
from cfaan_jax.data.clips import MODES, SAMPLINGS
from cfaan_jax.data.samplers import EPOCHS
from cfaan_jax.data.splits import ON_BAD_RECORD
from cfaan_jax.errors import InputError
from cfaan_jax.experiment.loggers import LOGGERS
from cfaan_jax.metrics.search import DISTANCES as FEATURE_DISTANCES
from cfaan_jax.runtime.files import parse_json, write_atomic
from cfaan_jax.train.losses import DISTANCES

# What an evaluation can score: the checkpoints of a run, or the network as training starts with it.
CHECKPOINT_KINDS = ("last", "best")
WEIGHTS = (*CHECKPOINT_KINDS, "untrained")

# Fields that hold one of several names.
_CHOICES = (
    ("model", "name", models.SYSTEMS), ("model", "head", models.HEADS), ("model", "compute", models.COMPUTE),
    ("data", "sampling", SAMPLINGS), ("data", "epoch_of", EPOCHS), ("data", "on_bad_record", ON_BAD_RECORD),
    ("loss", "triplet_distance", DISTANCES),
    ("train", "evaluate_clips", MODES), ("eval", "clips", MODES), ("eval", "distance", FEATURE_DISTANCES),
    ("eval", "weights", WEIGHTS),
)

# Fields that hold several values: (section, name, their types, these in words).
_TUPLES = (
    ("model", "depths", int, "whole numbers"), ("data", "image_size", int, "whole numbers"),
    ("optim", "milestones", int, "whole numbers"), ("train", "profile", int, "whole numbers"),
    ("augment", "erasing_area", (int, float), "numbers"), ("augment", "erasing_aspect", (int, float), "numbers"),
    ("train", "loggers", str, "names"), ("eval", "protocols", str, "names"),
)

# Fields that hold a number, or several in a tuple: (section, name, lowest, highest). None is not looked at.
_RANGES = (
    ("model", "width", 1, 4096), ("model", "depths", 1, 256), ("data", "image_size", 1, 4096),
    ("data", "clip_length", 1, 4096), ("augment", "erasing_area", 0, 1), ("augment", "erasing_aspect", 1e-3, 1e3),
    *(("loss", f"{name}_weight", 0, 1e6) for name in ("triplet", "id", "centre", "osm_caa", "attention")),
    ("loss", "margin", 0, 1e6), ("loss", "smoothing", 0, 1), ("loss", "centre_rate", 0, 1e6),
    ("loss", "osm_caa_margin", 0, 1e6), ("loss", "osm_caa_negative_share", 0, 1), ("loss", "osm_caa_sigma", 1e-6, 1e6),
    ("optim", "learning_rate", 0, 1e6), ("optim", "weight_decay", 0, 1e6), ("optim", "gamma", 0, 1),
    ("optim", "milestones", 1, 1_000_000), ("optim", "warmup_epochs", 0, 1_000_000), ("optim", "warmup_factor", 0, 1),
    ("train", "epochs", 1, 1_000_000), ("train", "checkpoint_every", 0, 1_000_000),
    ("train", "evaluate_every", 0, 1_000_000),
    *(("eval", name, 1, 2**31 - 1) for name in ("max_rank", "batch", "report_lists")),
)

SECTIONS = ("model", "data", "augment", "loss", "optim", "train", "eval")  # of every config

# What may change between two starts with the same workdir: nothing that is trained depends on it.
FREE = ("eval", "data.workers", "data.processes", "data.cache", "train.profile", "train.loggers")


def check(config: ConfigDict) -> None:
    """Raises InputError for values that no run can work with and that would otherwise show late or not at all."""
    check_fields(config)
    identities, parts, groups = config.data.identities, config.train.accumulate, config.model.bn_groups
    batch = identities * config.data.tracklets // max(parts, 1)  # what goes through the network at once
    corrections, profile = config.eval.corrections, config.train.profile
    unknown = set(config.train.loggers) - set(LOGGERS)
    for wrong, message in (
            (not config.data.records, "config.data.records is not given; name the folder that "
                                      "data_prep/build_tfrecords.py wrote: --config.data.records=FOLDER"),
            (not 0 <= config.seed < 2**31, f"config.seed={config.seed}: must lie between 0 and {2**31 - 1}"),
            *((config.data[name] < 1, f"config.data.{name}={config.data[name]}: must be at least 1")
              for name in ("identities", "tracklets")),
            *((len(config.augment[name]) != 2 or config.augment[name][0] > config.augment[name][1],
               f"config.augment.{name}={config.augment[name]}: give the lowest and the highest value, as in 0.02,0.4")
              for name in ("erasing_area", "erasing_aspect")),
            (len(config.data.image_size) != 2,
             f"config.data.image_size={config.data.image_size}: give height and width, as in 256,128"),
            *((not 0 <= config.augment[name] <= 1,
               f"config.augment.{name}={config.augment[name]}: a probability lies between 0 and 1")
              for name in ("flip", "erasing")),
            (corrections and not Path(corrections).is_file(),
             f"config.eval.corrections={corrections}: no such file; name a corrections.csv or "
             "clean_tracks_test_info.mat, or leave it empty"),
            (parts < 1 or identities % parts or identities == parts > 1,
             f"config.train.accumulate={parts}: every part must hold whole identities, at least two; choose 1 or "
             f"another divisor of config.data.identities={identities}"),
            (groups < 1 or batch % groups,
             f"config.model.bn_groups={groups} does not divide the batch of {batch} clips (config.data.identities x "
             "config.data.tracklets / config.train.accumulate); choose a divisor"),
            (config.data.workers < 1, f"config.data.workers={config.data.workers}: at least one must read"),
            (unknown, f"config.train.loggers={config.train.loggers}: choose among {', '.join(LOGGERS)}, several as in "
                      "\"('tensorboard','wandb')\""),
            (profile and not (len(profile) == 2 and 1 <= profile[0] <= profile[1]),
             f"config.train.profile={profile}: give the first and the last step, counted from 1, as in 10,12")):
        if wrong:
            raise InputError(message)
    _check_loss(config)


def check_fields(config: ConfigDict) -> None:
    """Raises InputError for a value that is none for its field, whatever the others are."""
    _check_tuples(config)
    _check_ranges(config)
    for section, name, choices in _CHOICES:
        if config[section][name] not in choices:
            raise InputError(f"config.{section}.{name}={config[section][name]!r}: choose one of {', '.join(choices)}")


def _check_tuples(config: ConfigDict) -> None:
    """ConfigDict looks at the type of a field, but not at those of the values in a tuple."""
    for section, name, kinds, what in _TUPLES:
        value = config[section][name]
        if not all(isinstance(each, kinds) and not isinstance(each, bool) for each in value):
            raise InputError(f"config.{section}.{name}={value!r}: give {what}, with commas between them")


def _check_ranges(config: ConfigDict) -> None:
    for section, name, low, high in _RANGES:
        value = config[section].get(name)
        values = value if isinstance(value, tuple) else () if value is None else (value,)
        if not all(low <= each <= high for each in values):  # NaN lies in no range
            raise InputError(f"config.{section}.{name}={value!r}: must lie between {low} and {high}")


def _check_loss(config: ConfigDict) -> None:
    loss, system = config.loss, models.SYSTEMS[config.model.name]
    for wrong, message in (
            (not (loss.triplet_weight or loss.id_weight),
             "config.loss.triplet_weight and config.loss.id_weight are both 0; there is nothing to learn"),
            (not loss.id_weight and config.data.identities < 2,
             "config.data.identities=1: without config.loss.id_weight a batch needs several; give two or more"),
            (loss.osm_caa_weight and not loss.centre_weight,
             f"config.loss.osm_caa_weight={loss.osm_caa_weight} needs the centres of classes; give "
             "config.loss.centre_weight too"),
            (loss.attention_weight and not system.weighs_frames,
             f"config.loss.attention_weight={loss.attention_weight}: {config.model.name} does not weigh its frames; "
             "give 0")):
        if wrong:
            raise InputError(message)


def create_model(config: ConfigDict, num_classes: int) -> nnx.Module:
    """The network of `config.model`, freshly initialised from `config.seed`."""
    settings = {name: value for name, value in config.model.items() if name != "pretrained"}
    return models.create(num_classes=num_classes, clip_length=config.data.clip_length,
                         image_size=tuple(config.data.image_size), seed=config.seed, **settings)


def initial_model(config: ConfigDict, num_classes: int, *, classifies: bool = True) -> nnx.Module:
    """The network with which training starts: `create_model`, with the weights of `config.model.pretrained` in it.

    Args:
        config: of the experiment.
        num_classes: identities that it tells apart.
        classifies: False: only features are wanted, so the file may lack the classifier or have another one.
    """
    model = create_model(config, num_classes)
    if config.model.pretrained != "none":
        weights.load_torch(model, config.model.pretrained, skip=() if classifies else [weights.classifier_of(model)])
    return model


def weights_of(config: ConfigDict) -> str:
    """What the weights that `config.eval.weights` names are called in results: those of a file are not untrained."""
    loaded = config.eval.weights == "untrained" and config.model.pretrained != "none"
    return "pretrained" if loaded else config.eval.weights


def save_or_check_config(config: ConfigDict, workdir: str | Path) -> None:
    """Writes the config to `<workdir>/config.json`, or compares it with the one that is there.

    Raises:
        InputError: the folder belongs to an experiment with another config; fields that training does not depend on
            (`FREE`) may differ.
    """
    path = Path(workdir) / "config.json"
    if not path.exists():
        write_atomic(path, json.dumps(config.to_dict(), indent=2) + "\n")
        return
    stored, given = flatten(load_config(workdir).to_dict()), flatten(config.to_dict())
    differing = [name for name in dict.fromkeys((*stored, *given))
                 if stored.get(name) != given.get(name) and not name.startswith(FREE)]
    if differing:
        lines = (f"  config.{name}: {stored.get(name)!r} there, {given.get(name)!r} now" for name in differing)
        raise InputError("\n".join((f"{path}: this folder belongs to an experiment with another config:", *lines,
                                    "give the same values again, or another --workdir")))


def load_config(workdir: str | Path) -> ConfigDict:
    """The config that `save_or_check_config` wrote.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    path = Path(workdir) / "config.json"
    try:
        content = parse_json(path.read_bytes())
        if not isinstance(content, dict) or not all(isinstance(content.get(name), dict) for name in SECTIONS):
            raise ValueError(f"not an object that holds {', '.join(SECTIONS)}")
        return ConfigDict(_tuples(content))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: {workdir} is not the workdir of an experiment; train one with "
                         f"python -m cfaan_jax.main --config=... --workdir={workdir}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as a config in JSON ({error}); restore it, or use another "
                         "--workdir") from None


def no_such_field(name: str, names: list[str]) -> str:
    """What to say of a dotted name that is none of those of a config's fields."""
    near = ", ".join(f"--{each}" for each in nearest(name, names))
    return f"--{name}: the config has no such field; {f'did you mean {near}? ' if near else ''}"


def nearest(name: str, names: list[str]) -> list[str]:
    """The dotted names most like a mistyped one: on the whole, or in their last part."""
    whole = difflib.get_close_matches(name, names, n=3, cutoff=0.8)
    ends = [each.rpartition(".")[2] for each in names]
    alike = difflib.get_close_matches(name.rpartition(".")[2], ends, n=3, cutoff=0.7)
    return list(dict.fromkeys([*whole, *(each for each, end in zip(names, ends, strict=True) if end in alike)]))


def flatten(tree: dict, prefix: str = "") -> dict:
    """Every field of a config by its dotted name: {"model.width": 64, ...}."""
    flat = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def _tuples(tree):
    """JSON has lists only; configs have tuples only."""
    if isinstance(tree, dict):
        return {name: _tuples(value) for name, value in tree.items()}
    return tuple(map(_tuples, tree)) if isinstance(tree, list) else tree
