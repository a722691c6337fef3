"""What the networks really cost: those of the paper's Table 2 beside the figures that it prints, and other systems.

    python -m cfaan_jax.flops

Nothing is computed: the networks are built and traced with abstract arrays.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from cfaan_jax import models
from cfaan_jax.experiment.recipes import RECIPES, network_of, recipe
from cfaan_jax.models.axial import CoarseToFineBlock
from cfaan_jax.models.non_local import NonLocalBlock
from cfaan_jax.models.presets import PRESETS
from cfaan_jax.runtime import text_tables
from cfaan_jax.runtime.command import CommandParser
from cfaan_jax.train.utilisation import macs

CLIP_LENGTH, IMAGE_SIZE = 6, (256, 128)  # of the paper

# Table 2 of the paper, in its "GFLOPs", which are multiply-accumulates: the whole of C2D and what others add to it.
PUBLISHED_TOTAL = 24.520
PUBLISHED_ADDED = {
    "nonlocal": 17.213, "axial_s1_none_1head": 0.361, "axial_s1_none": 0.361, "axial_s1_sinusoidal": 0.377,
    "axial_s1_relative": 0.424, "axial_s2": 0.245, "cfaan": 0.126,
}
PUBLISHED_ADDED_TIME = {"p3d": 1.510, "ap3d": 1.849}  # what the paper adds for convolutions along time

HEADERS = ("variant", "MACs", "added", "projections", "attention", "parameters", "added parameters", "compiler's FLOPs",
           "paper's added", "paper's rule")
TITLE = f"One clip of {CLIP_LENGTH} x {IMAGE_SIZE[0]} x {IMAGE_SIZE[1]}, in 10^9 (parameters in 10^6)"
NOTES = (
    "MACs: multiply-accumulates of all convolutions and matrix products before the head, borders included; "
    "added: to c2d. Parameters: trained ones, without the classifier.",
    "Compiler: XLA's estimate for the unoptimised program; two for each multiply-accumulate inside the map, and "
    "normalisations, softmax and the like.",
    "What the paper (Table 2) leaves out: its added figures are products of attention alone; every 1x1 projection is "
    f"missing, which is the column projections. For c2d it prints {PUBLISHED_TOTAL:.3f} in all: about the real MACs "
    "plus 4 for each normalised element.",
    "The paper's rule, summed over the blocks, N = T H W: non-local N N (C / 2 + C), as if values had C channels, "
    "which have C / 2; axial N L (C / 2 + C) for each axis of length L, and C N more for each where sinusoids are "
    "added. Its figures with relative positions, and with 2 and 4 scales, follow from no rule that could be told from "
    "others.",
    "p3d has the five convolutions along time of the released code; what the paper adds for P3D, "
    f"{PUBLISHED_ADDED_TIME['p3d']:.3f}, is the cost of ten. What it adds for AP3D, "
    f"{PUBLISHED_ADDED_TIME['ap3d']:.3f}, is the real cost.",
)
OWN_HEADERS = ("system", "clip", "MACs", "MACs for 6 frames", "attention", "parameters")
OWN_TITLE = "The other systems, one clip as each of them is published, in 10^9 (parameters in 10^6)"
OWN_NOTES = ("MACs for 6 frames: in proportion. Those of ftwft count its classifier of 625 identities once, which its "
             "code computes in evaluation too.",)
CLASSIFIED = {"ftwft": 2048 * 625}  # multiply-accumulates of a classifier that evaluation does not need


@dataclass(frozen=True)
class Cost:
    """Cost of one clip."""

    macs: int  # multiply-accumulates of convolutions and matrix products
    attention: int  # those of them that attention takes: queries, keys and values, and tables of positions
    parameters: int  # trained ones, without the classifier
    compiler: float  # operations by the compiler's estimate
    rule: int | None  # the paper's count of what attention adds; None where no rule gives the printed figure


def cost(variant: str, clip_length: int = CLIP_LENGTH, image_size: tuple[int, int] = IMAGE_SIZE) -> Cost:
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
    return Cost(
        macs=macs(traced.jaxpr.jaxpr),
        attention=macs(traced.jaxpr.jaxpr, only_batched=True),
        parameters=sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))),
        compiler=traced.lower(lowering_platforms=("tpu",)).cost_analysis()["flops"],
        rule=paper_rule(model),
    )


def paper_rule(model: models.VideoReID) -> int | None:
    """The paper's count of what attention adds to C2D, see `NOTES`; None where no rule gives its figure."""
    total = 0
    backbone = model.backbone
    others = [backbone.last_stage, model.frame_weights, *(block.within for stage in backbone.stages for block in stage)]
    if any(module is not None for module in others):
        return None
    for stage, attention in enumerate(backbone.attention):
        rows, columns = (length // (4 * 2**stage) for length in IMAGE_SIZE)
        positions = CLIP_LENGTH * rows * columns
        for block in attention:
            match block:
                case NonLocalBlock(sub_sample=False):
                    channels = block.bn.mean.shape[0]
                    total += positions**2 * (channels // 2 + channels)
                case CoarseToFineBlock(settings=settings) if settings.scales == 1 and settings.positional in (
                        "none", "sinusoidal"):
                    channels = block.bn2.mean.shape[0]
                    lengths = CLIP_LENGTH + rows + columns
                    total += positions * lengths * (channels // 2 + channels)
                    total += 3 * positions * channels if settings.positional == "sinusoidal" else 0
                case None:
                    pass
                case _:
                    return None
    return total


def row(variant: str, one: Cost, base: Cost) -> tuple[str, ...]:
    """A row of the table, see `HEADERS`; `base` is the cost of c2d."""
    added, published = one.macs - base.macs, PUBLISHED_ADDED.get(variant)
    rule = "not reproducible" if one.rule is None else f"{one.rule / 1e9:.3f}"
    return (variant, *(f"{count / 1e9:.3f}" for count in (one.macs, added, added - one.attention, one.attention)),
            f"{one.parameters / 1e6:.3f}", f"{(one.parameters - base.parameters) / 1e6:.3f}",
            f"{one.compiler / 1e9:.1f}", *(("", "") if published is None else (f"{published:.3f}", rule)))


def own_row(system: str) -> tuple[str, ...]:
    """A row of the second table, see `OWN_HEADERS`."""
    data = recipe(system).data
    one = cost(system, data.clip_length, tuple(data.image_size))
    per_clip = one.macs + CLASSIFIED.get(system, 0)
    per_6 = 6 * one.macs / data.clip_length + CLASSIFIED.get(system, 0)
    return (system, " x ".join(map(str, (data.clip_length, *data.image_size))), f"{per_clip / 1e9:.3f}",
            f"{per_6 / 1e9:.3f}", f"{one.attention / 1e9:.3f}", f"{one.parameters / 1e6:.3f}")


def main(arguments: list[str] | None = None) -> None:
    CommandParser("python -m cfaan_jax.flops", __doc__).parse_args(arguments)
    costs = {variant: cost(variant) for variant in PRESETS}
    text_tables.show(TITLE, HEADERS, [row(variant, one, costs["c2d"]) for variant, one in costs.items()], NOTES)
    text_tables.show(OWN_TITLE, OWN_HEADERS, [own_row(system) for system in RECIPES], OWN_NOTES)
