"""The fields of a config: default, type, range, choices and description of each one, in one table.

The defaults are the released recipe of CF-AAN (paper, section 4.2). The table makes the default config, checks values
and describes the fields of a config for --help.
"""

import math
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ml_collections import ConfigDict, config_dict

from cfaan_jax import models
from cfaan_jax.data.clips import MODES, SAMPLINGS
from cfaan_jax.data.samplers import EPOCHS
from cfaan_jax.data.splits import ON_BAD_RECORD
from cfaan_jax.errors import InputError, shortened
from cfaan_jax.experiment.loggers import LOGGERS
from cfaan_jax.metrics.search import DISTANCES

CHECKPOINT_KINDS = ("last", "best")
WEIGHTS = (*CHECKPOINT_KINDS, "untrained")  # what an evaluation can score; untrained: as training starts with it
TRIPLET_DISTANCES = ("euclidean", "cosine")  # those of train/losses.py, which this package must not import

# What may change between two starts with the same workdir: no trained weight depends on it.
FREE = ("eval", "data.workers", "train.profile", "train.loggers")
RETIRED = ("data.processes", "data.cache")  # of earlier releases; accepted, and ignored

_say_once = cache(lambda line: print(line, file=sys.stderr))
_WORDS = {int: ("a whole number", "whole numbers"), float: ("a number", "numbers"), str: ("a name", "names"),
          bool: ("True or False", "")}


@dataclass(frozen=True)
class Field:
    """One field of a config."""

    kind: type  # of its value, or of the values in its tuple
    default: object  # None: may be unset; a tuple: holds several values
    text: str  # its description
    low: float = -math.inf  # the range of a number, ends included
    high: float = math.inf
    choices: Collection[str] = ()  # the names that it can hold; none: any

    def initial(self) -> object:
        """What a ConfigDict is given, which takes the type of a field from it."""
        return config_dict.placeholder(self.kind) if self.default is None else self.default

    def expected(self) -> str:
        """The values that it takes, in words."""
        one, many = _WORDS[self.kind]
        return f"{many}, with commas between them" if isinstance(self.default, tuple) else one

    def problem(self, value: object) -> str | None:
        """What is wrong with a value; None if nothing is."""
        several = isinstance(self.default, tuple)
        if value is None and self.default is None:
            return None
        values = value if several and isinstance(value, tuple) else (value,)
        if several != isinstance(value, tuple) or not all(map(self._has_type, values)):
            return f"give {self.expected()}" if several else f"must be {self.expected()}"
        if self.choices and not set(values) <= set(self.choices):
            names = shortened(self.choices)
            example = f", several as in \"{tuple(self.choices)[:2]}\""
            return f"choose among {names}{example}" if several else f"choose one of {names}"
        if self.kind in (int, float) and not all(self.low <= number <= self.high for number in values):  # no NaN
            return f"must be at least {self.low}" if self.high == math.inf else (
                f"must lie between {self.low} and {self.high}")
        return None

    def _has_type(self, value: object) -> bool:
        kinds = (int, float) if self.kind is float else self.kind
        return isinstance(value, kinds) and (self.kind is bool or not isinstance(value, bool))


_MANY, _EPOCHS, _AMOUNT = 2**31 - 1, 1_000_000, (0, 1e6)

FIELDS: dict[str, Field | dict[str, Field]] = {
    "seed": Field(int, 0, "seed of weights, batches and augmentation", 0, _MANY),
    "model": {
        "name": Field(str, "cfaan", "the network", choices=models.SYSTEMS),
        "pretrained": Field(str, "weights/resnet50-0676ba61.pth", "a torch file to start from; none: random weights"),
        "width": Field(int, 64, "channels of the stem", 1, 4096),
        "depths": Field(int, (3, 4, 6, 3), "bottlenecks of each stage", 1, 256),
        "bn_groups": Field(int, 1, "equal parts of the batch that BatchNorm normalises separately", 1),
        "compute": Field(str, "float32", "dtype of activations before the pooling", choices=models.COMPUTE),
        "remat": Field(bool, False, "recompute activations for gradients: less memory, a third more time"),
        "head": Field(str, "own", "head of the network's own publication, or CF-AAN's", choices=models.HEADS),
    },
    "data": {
        "records": Field(str, "", "folder or address (gs://...) that data_prep/build_tfrecords.py wrote"),
        "clip_length": Field(int, 6, "T, frames of a clip", 1, 4096),
        "image_size": Field(int, (256, 128), "height and width of a frame", 1, 4096),
        "sampling": Field(str, "restricted", "how training frames are drawn", choices=SAMPLINGS),
        "identities": Field(int, 8, "P, identities in a batch", 1),
        "tracklets": Field(int, 4, "K, tracklets of each identity in a batch", 1),
        "epoch_of": Field(str, "identities", "what an epoch holds once each", choices=EPOCHS),
        "workers": Field(int, 8, "reading threads", 1),
        "on_bad_record": Field(str, "error", "skip: leave damaged tracklets out", choices=ON_BAD_RECORD),
    },
    "augment": {
        "flip": Field(float, 0.5, "probability, per clip", 0, 1),
        "erasing": Field(float, 0.5, "probability, per frame", 0, 1),
        "erasing_area": Field(float, (0.02, 0.4), "lowest and highest share of the frame", 0, 1),
        "erasing_aspect": Field(float, (0.3, 1 / 0.3), "lowest and highest height / width", 1e-3, 1e3),
    },
    "loss": {
        "triplet_weight": Field(float, 1.0, "weight of the batch-hard triplet loss", *_AMOUNT),
        "margin": Field(float, None, "margin of the triplet loss; None: soft margin", *_AMOUNT),
        "triplet_distance": Field(str, "euclidean", "distance between features", choices=TRIPLET_DISTANCES),
        "id_weight": Field(float, 1.0, "weight of the cross entropy over identities", *_AMOUNT),
        "smoothing": Field(float, 0.0, "label smoothing", 0, 1),
        "centre_weight": Field(float, 0.0, "weight of the centre loss", *_AMOUNT),
        "centre_rate": Field(float, 0.5, "learning rate of the centres", *_AMOUNT),
        "osm_caa_weight": Field(float, 0.0, "weight of the OSM loss with class-aware attention", *_AMOUNT),
        "osm_caa_margin": Field(float, 1.2, "margin of its negative pairs", *_AMOUNT),
        "osm_caa_negative_share": Field(float, 0.5, "share of its negative pairs in the loss", 0, 1),
        "osm_caa_sigma": Field(float, 0.8, "width of the scores of its positive pairs", 1e-6, 1e6),
        "attention_weight": Field(float, 0.0, "weight of the frame logits of erased frames", *_AMOUNT),
    },
    "optim": {
        "learning_rate": Field(float, 1e-4, "learning rate of Adam", *_AMOUNT),
        "weight_decay": Field(float, 5e-5, "coupled: added to the gradient", *_AMOUNT),
        "milestones": Field(int, (50, 100, 150, 200), "epochs after which the rate is multiplied by gamma", 1, _EPOCHS),
        "gamma": Field(float, 0.1, "see milestones", 0, 1),
        "warmup_epochs": Field(int, 0, "epochs in which the rate rises; 0: none", 0, _EPOCHS),
        "warmup_factor": Field(float, 0.01, "share of the rate at which the warm-up starts", 0, 1),
    },
    "train": {
        "epochs": Field(int, 220, "epochs of the run", 1, _EPOCHS),
        "checkpoint_every": Field(int, 2, "epochs between checkpoints; 0: at the end only", 0, _EPOCHS),
        "evaluate_every": Field(int, 10, "epochs between evaluations; 0: never, and no checkpoint best", 0, _EPOCHS),
        "evaluate_clips": Field(str, "test", "eval.clips of these evaluations", choices=MODES),
        # Not the same step as that of the whole batch: each part is normalised by its own statistics, as with
        # bn_groups, and mines its triplets in itself.
        "accumulate": Field(int, 1, "parts of the batch, computed in turn, whose gradients are averaged", 1),
        "loggers": Field(str, ("tensorboard",), "loggers beside metrics.csv", choices=LOGGERS),
        "profile": Field(int, (), "first and last step of a trace in WORKDIR/profile, as in 10,12"),
    },
    "eval": {
        "clips": Field(str, "all_sampled", "which clips stand for a tracklet", choices=MODES),
        "distance": Field(str, "cosine", "distance between features", choices=DISTANCES),
        "protocols": Field(str, ("mars", "mars_with_queries", "mars_matlab", "cfaan_released", "mars_revised"),
                           "protocols to score by; all: every one"),
        "corrections": Field(str, "", "corrections.csv or clean_tracks_test_info.mat, for revised protocols"),
        "max_rank": Field(int, 50, "length of the CMC curve", 1, _MANY),
        "rerank": Field(bool, False, "k-reciprocal re-ranking as well"),
        "batch": Field(int, 32, "clips in a batch", 1, _MANY),
        "weights": Field(str, "last", "weights that evaluate, export and extract take", choices=WEIGHTS),
        "report_lists": Field(int, 100, "queries in the report: half the worst, half typical ones", 1, _MANY),
        "raw_records": Field(str, "", "the data set packed with --detector=none, to show beside aligned frames"),
        "attention_block": Field(int, -1, "block whose attention the report shows, from 0; -1: the last one"),
    },
}
SECTIONS = tuple(name for name, field in FIELDS.items() if isinstance(field, dict))

# Further fields of config.model, of some networks; the settings of these networks check them.
NETWORK_OPTIONS = {
    "scales": "S, scales with equal shares of the channels", "heads": "attention heads of all scales together",
    "positional": "none, sinusoidal, relative or relative_q", "order": "of attention along height, width and time",
    "inter_channels": "channels inside a block; None: the backbone's", "sub_sample": "pool keys and values",
    "contrastive": "weigh aligned neighbours by their likeness", "inner_channels": "channels to which a map is reduced",
}


def default_config() -> ConfigDict:
    """A config with the defaults of all fields."""
    return ConfigDict({name: {key: one.initial() for key, one in field.items()} if isinstance(field, dict)
                       else field.initial() for name, field in FIELDS.items()})


def flatten(tree: dict, prefix: str = "") -> dict:
    """Every field of a config by its dotted name: {"model.width": 64, ...}."""
    flat = {}
    for name, value in tree.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def describe(config: ConfigDict) -> list[str]:
    """Each field of a config for --help: how it is set, its value and its description."""
    texts = {name: field.text for name, field in flatten(FIELDS).items()}
    texts |= {f"model.{name}": text for name, text in NETWORK_OPTIONS.items()}
    values = flatten(config.to_dict())
    lines = []
    for name in (*(name for name in texts if name in values), *(name for name in values if name not in texts)):
        line = f"  --config.{name}={values[name]}"
        start = line.ljust(46) if len(line) < 46 else f"{line}\n{'':46}"
        lines.append(start + texts.get(name, ""))
    return lines


def drop_retired(config: ConfigDict) -> None:
    """Takes the fields of earlier releases out of a config, and says so."""
    for name in RETIRED:
        section, _, key = name.partition(".")
        if key in config[section]:
            with config.unlocked():
                del config[section][key]
            _say_once(f"config.{name} is ignored: threads read the records, and keep none of them in memory")


def check(config: ConfigDict) -> None:
    """Raises InputError for values that no run can work with and that would otherwise show late or not at all."""
    check_fields(config)
    if problem := next(_conflicts(config), None):
        raise InputError(problem)


def check_fields(config: ConfigDict) -> None:
    """Raises InputError for a field that is missing or has a wrong value, whatever the others are."""
    values = flatten(config.to_dict())
    for name, field in flatten(FIELDS).items():
        if name not in values:
            raise InputError(f"config.{name} is missing; begin with the config of configs/mars.py, which has all")
        if problem := field.problem(values[name]):
            raise InputError(f"config.{name}={values[name]!r}: {problem}")


def _conflicts(config: ConfigDict) -> Iterator[str]:
    """What is wrong where several fields, or a file, decide."""
    data, augment, loss, profile = config.data, config.augment, config.loss, config.train.profile
    if not data.records:
        yield ("config.data.records is not given; name the folder that data_prep/build_tfrecords.py wrote: "
               "--config.data.records=FOLDER")
    if len(data.image_size) != 2:
        yield f"config.data.image_size={data.image_size}: give height and width, as in 256,128"
    for name in ("erasing_area", "erasing_aspect"):
        if len(augment[name]) != 2 or augment[name][0] > augment[name][1]:
            yield f"config.augment.{name}={augment[name]}: give the lowest and the highest value, as in 0.02,0.4"
    if profile and not (len(profile) == 2 and 1 <= profile[0] <= profile[1]):
        yield f"config.train.profile={profile}: give the first and the last step, counted from 1, as in 10,12"
    if (corrections := config.eval.corrections) and not Path(corrections).is_file():
        yield (f"config.eval.corrections={corrections}: no such file; name a corrections.csv or "
               "clean_tracks_test_info.mat, or leave it empty")
    parts, groups = config.train.accumulate, config.model.bn_groups
    if data.identities % parts or data.identities == parts > 1:
        yield (f"config.train.accumulate={parts}: every part must hold whole identities, at least two; choose 1 or "
               f"another divisor of config.data.identities={data.identities}")
    if (batch := data.identities * data.tracklets // parts) % groups:  # what goes through the network at once
        yield (f"config.model.bn_groups={groups} does not divide the batch of {batch} clips (config.data.identities x "
               "config.data.tracklets / config.train.accumulate); choose a divisor")
    if not (loss.triplet_weight or loss.id_weight):
        yield "config.loss.triplet_weight and config.loss.id_weight are both 0: nothing is learnt; set one of them"
    if not loss.id_weight and data.identities < 2:
        yield "config.data.identities=1: without config.loss.id_weight a batch needs several; give two or more"
    if loss.osm_caa_weight and not loss.centre_weight:
        yield (f"config.loss.osm_caa_weight={loss.osm_caa_weight} needs the centres of classes; set "
               "config.loss.centre_weight too")
    if loss.attention_weight and not models.SYSTEMS[config.model.name].weighs_frames:
        yield (f"config.loss.attention_weight={loss.attention_weight}: {config.model.name} does not weigh its frames; "
               "give 0")
