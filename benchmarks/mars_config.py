"""The configs of MARS, with flags that shrink the network: what several benchmarks run."""

import argparse

from ml_collections import ConfigDict

from benchmarks import whole, wholes
from cfaan_jax import models
from cfaan_jax.experiment.fields import check
from cfaan_jax.experiment.recipes import VARIANTS, recipe

_SECTIONS = {"width": "model", "depths": "model", "compute": "model", "image_size": "data", "workers": "data",
             "accumulate": "train", "remat": "model"}
_SIZE = ("width", "depths", "image_size")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that `chosen` reads."""
    parser.add_argument("--variant", choices=VARIANTS, default="cfaan", help="of configs/mars.py (default cfaan)")
    parser.add_argument("--width", type=whole(), help="config.model.width; unset: the variant's, as with all below")
    parser.add_argument("--depths", type=wholes(4), help="config.model.depths, as in 1,1,2,1")
    parser.add_argument("--compute", choices=models.COMPUTE, help="config.model.compute")
    parser.add_argument("--image_size", type=wholes(2), help="config.data.image_size, as in 256,128")
    parser.add_argument("--workers", type=whole(), help="config.data.workers")
    parser.add_argument("--accumulate", type=whole(), help="config.train.accumulate: a step in so many parts takes "
                        "less memory")
    parser.add_argument("--remat", action=argparse.BooleanOptionalAction, help="config.model.remat: activations "
                        "computed again for the gradients take less memory")


def chosen(flags: argparse.Namespace) -> ConfigDict:
    """The config of the variant with what the flags change; weights are random, which cost the same as others.

    Raises:
        InputError: values that no run can work with.
    """
    config = recipe(flags.variant)
    config.model.pretrained, config.data.records = "none", "made here"
    for name, section in _SECTIONS.items():
        if getattr(flags, name) is not None:
            config[section][name] = getattr(flags, name)
    check(config)
    return config


def caveat(flags: argparse.Namespace) -> list[str]:
    """What must stand beside figures of another network or step than the paper's; nothing beside those of its own."""
    config, paper, notes = chosen(flags), recipe(), []
    own = {name: config[_SECTIONS[name]][name] for name in _SIZE}
    if flags.variant != "cfaan" or any(paper[_SECTIONS[name]][name] != value for name, value in own.items()):
        described = ", ".join(f"{name} {value}" for name, value in own.items())
        notes.append(f"This is not the paper's network: {flags.variant}, {described}; nor are the figures those of the "
                     "paper's.")
    if config.train.accumulate != paper.train.accumulate:
        notes.append(f"A training step is computed in {config.train.accumulate} parts, one after another.")
    if config.model.remat != paper.model.remat:
        notes.append("Activations are computed again for the gradients.")
    return notes
