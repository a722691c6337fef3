"""What the networks really cost, beside the figures of the paper's Tables 2 and 4: `python -m cfaan_jax.flops`."""

import math
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from cfaan_jax import models
from cfaan_jax.experiment.recipes import RECIPES, network_of, recipe
from cfaan_jax.models.presets import PRESETS
from cfaan_jax.runtime import text_tables
from cfaan_jax.runtime.command import CommandParser
from cfaan_jax.tables.paper import PUBLISHED_ADDED, PUBLISHED_TOTAL
from cfaan_jax.train.utilisation import macs

CLIP = 6, (256, 128)  # frames and their size, of the paper
CLASSIFIED = {"ftwft": 2048 * 625}  # multiply-accumulates of a classifier, which its code computes in evaluation too

HEADERS = ("variant", "clip", "MACs", "added", "projections", "attention", "parameters", "added parameters",
           "paper's added")
NOTES = ("MACs: multiply-accumulates of convolutions and matrix products before the head; added: to c2d on the same "
         "clip; parameters: trained ones without the classifier.",
         f"The paper prints {PUBLISHED_TOTAL:.3f} for c2d. For attention it counts products of maps alone: every 1x1 "
         "projection is missing.")


class Cost(NamedTuple):
    """Cost of one clip."""

    macs: int  # multiply-accumulates of convolutions and matrix products
    attention: int  # those of them that attention takes: queries, keys and values, and tables of positions
    parameters: int  # trained ones, without the classifier


@lru_cache
def cost(variant: str, clip_length: int = CLIP[0], image_size: tuple[int, int] = CLIP[1]) -> Cost:
    """Cost of a variant of `recipe`, at the paper's size of clip or another."""
    model = nnx.eval_shape(lambda: models.create(num_classes=1, clip_length=clip_length, image_size=image_size,
                                                 **network_of(variant)))
    graph, state = nnx.split(model)

    def before_head(state, clip):
        model = nnx.merge(graph, state)
        maps = model.backbone(clip)
        return maps if model.frame_weights is None else model.frame_weights(maps)

    clip = jax.ShapeDtypeStruct((1, clip_length, *image_size, 3), jnp.float32)
    traced = jax.jit(before_head).trace(state, clip)
    for head in (model.head, *model.further_heads):
        head.classifier = head.classifier_offset = None
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    products = traced.jaxpr.jaxpr
    return Cost(macs(products) + CLASSIFIED.get(variant, 0), macs(products, only_batched=True), parameters)


def row(variant: str, clip_length: int = CLIP[0], image_size: tuple[int, int] = CLIP[1]) -> tuple[str, ...]:
    """A row of the table, see `HEADERS`."""
    one, base = (cost(name, clip_length, image_size) for name in (variant, "c2d"))
    added = one.macs - base.macs
    is_published = variant in PUBLISHED_ADDED and (clip_length, image_size) == CLIP
    return (variant, f"{clip_length} x {image_size[0]} x {image_size[1]}",
            *(f"{count / 1e9:.3f}" for count in (one.macs, added, added - one.attention, one.attention)),
            *(f"{count / 1e6:.3f}" for count in (one.parameters, one.parameters - base.parameters)),
            f"{PUBLISHED_ADDED[variant]:.3f}" if is_published else "")


def main(arguments: list[str] | None = None) -> None:
    CommandParser("python -m cfaan_jax.flops", __doc__).parse_args(arguments)
    own = [(system, recipe(system).data) for system in RECIPES]
    rows = [*map(row, PRESETS), *(row(system, data.clip_length, tuple(data.image_size)) for system, data in own)]
    text_tables.show("One clip, in 10^9 (parameters in 10^6)", HEADERS, rows, NOTES)
