"""P3D-C (Qiu et al. 2017) and AP3D (Gu et al. 2020): convolutions along time, the latter over aligned neighbours.

Letters in einsum strings: n clip, t frame, p a position of it, q a position of its neighbour, d channel of the semantic
map, c channel.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cfaan_jax.errors import InputError
from cfaan_jax.models.backbone_hooks import BackboneHooks, BlockSite
from cfaan_jax.models.layers.batch_norm import l2_normalize
from cfaan_jax.models.layers.dense import dense, uniform
from cfaan_jax.models.layers.precision import accumulation_dtype, cast_to
from cfaan_jax.models.non_local import NonLocalBlock, NonLocalSettings

_REDUCTION = 16  # channels of a map for each of its semantic ones
_TEMPERATURE = 4.0  # factor on the cosines before their softmax


@dataclass(frozen=True)
class P3DSettings(BackboneHooks):
    """P3D-C: every second bottleneck of stages 2 and 3 convolves along time."""

    torch_names = ((r"within\.kernel", "conv2.temporal_conv3d.weight", 2),)

    def inside_block(self, site: BlockSite, rng: np.random.Generator) -> "TemporalConvolution | None":
        return TemporalConvolution(site.planes, None) if _is_temporal(site) else None


@dataclass(frozen=True)
class AP3DSettings(BackboneHooks):
    """AP3D: P3D-C over neighbours that `Alignment` has aligned and, if `contrastive`, weighed by how well they fit."""

    contrastive: bool = True

    torch_names: ClassVar[tuple[tuple[str, str, int], ...]] = P3DSettings.torch_names + (
        (r"within\.align\.semantic", "conv2.APM.semantic_mapping.weight", 3),
        (r"within\.align\.centre", "conv2.APM.x_mapping.weight", 3),
        (r"within\.align\.neighbour", "conv2.APM.n_mapping.weight", 3),
        (r"within\.align\.gate", "conv2.APM.contrastive_att_net.0.weight", 3),
    )

    def inside_block(self, site: BlockSite, rng: np.random.Generator) -> "TemporalConvolution | None":
        if not _is_temporal(site):
            return None
        return TemporalConvolution(site.planes, Alignment(site.planes, self.contrastive, rng))


@dataclass(frozen=True)
class AP3DNonLocalSettings(AP3DSettings):
    """AP3D with a sub-sampled non-local block after each of the other bottlenecks of stages 2 and 3."""

    torch_names = AP3DSettings.torch_names + NonLocalSettings.torch_names

    def after_block(self, site: BlockSite, rng: np.random.Generator) -> NonLocalBlock | None:
        if site.stage not in (1, 2) or _is_temporal(site):
            return None
        return NonLocalBlock(site.channels, site.channels // 2, NonLocalSettings(sub_sample=True), site.groups, rng)


def _is_temporal(site: BlockSite) -> bool:
    return site.stage in (1, 2) and site.block % 2 == 0


class TemporalConvolution(nnx.Module):
    """A convolution over a frame and its two neighbours, position by position; its kernel starts at 0.

    `align` gives the neighbours; None: those at the same position. Beyond the ends of a clip there is 0.
    """

    def __init__(self, channels: int, align: "Alignment | None"):
        self.kernel = nnx.Param(jnp.zeros((3, channels, channels)))
        self.align = align

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, T, H, W, channels]` -> the same."""
        before, after = neighbours(x) if self.align is None else self.align(x)
        taps = jnp.concatenate([before, x, after], axis=-1)
        return dense(taps, cast_to(self.kernel, x).reshape(-1, x.shape[-1]))


def neighbours(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The frame before and the frame after each frame, `[B, T, ...]` each; 0 beyond the ends of a clip."""
    border = jnp.zeros_like(x[:, :1])
    return jnp.concatenate([border, x[:, :-1]], axis=1), jnp.concatenate([x[:, 1:], border], axis=1)


class Alignment(nnx.Module):
    """The appearance-preserving module: rebuilds each neighbour from its positions that look like the frame's own."""

    def __init__(self, channels: int, contrastive: bool, rng: np.random.Generator):
        inner = channels // _REDUCTION
        if not inner:
            raise InputError(f"appearance-preserving convolution of {channels} channels: it needs at least "
                             f"{_REDUCTION}; choose a larger width")
        bound = math.sqrt(1 / channels)
        self.semantic = uniform(rng, (channels, inner), bound)
        self.contrastive = contrastive
        if contrastive:
            self.centre = uniform(rng, (channels, inner), bound)
            self.neighbour = uniform(rng, (channels, inner), bound)
            self.gate = uniform(rng, (inner, 1), math.sqrt(1 / inner))

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`[B, T, H, W, channels]` -> the aligned frame before and the one after, in the same shape."""
        maps = x.reshape(*x.shape[:2], -1, x.shape[-1])
        semantic = l2_normalize(dense(maps, cast_to(self.semantic, maps)))
        before, after = (self._align(maps, semantic, *neighbour).reshape(x.shape)
                         for neighbour in zip(neighbours(maps), neighbours(semantic), strict=True))
        return before, after

    def _align(self, maps: jax.Array, semantic: jax.Array, neighbour: jax.Array,
                 neighbour_semantic: jax.Array) -> jax.Array:
        cosines = jnp.einsum("ntpd,ntqd->ntpq", semantic, neighbour_semantic,
                             preferred_element_type=accumulation_dtype(semantic))
        attention = jax.nn.softmax(_TEMPERATURE * cosines, axis=-1).astype(maps.dtype)
        aligned = jnp.einsum("ntpq,ntqc->ntpc", attention, neighbour)
        return aligned * self._fit(maps, aligned) if self.contrastive else aligned

    def _fit(self, maps: jax.Array, aligned: jax.Array) -> jax.Array:
        """How well a position fits, between 0 and 1; no gradient reaches the maps that it compares."""
        maps, aligned = jax.lax.stop_gradient((maps, aligned))
        centre = dense(maps, cast_to(self.centre, maps))
        neighbour = dense(aligned, cast_to(self.neighbour, maps))
        return jax.nn.sigmoid(dense(centre * neighbour, cast_to(self.gate, maps)))
