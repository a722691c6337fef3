"""FT-WFT (Pathak et al., "Video Person Re-ID: Fantastic Techniques and Where to Find Them", AAAI 2020).

A ResNet-50 whose frames are weighed by an attention that looks at their whole maps; the network `ResNet50TA_BT2` of the
released code.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cfaan_jax.errors import InputError
from cfaan_jax.models.backbone_hooks import BackboneHooks, BlockSite
from cfaan_jax.models.layers.dense import normal
from cfaan_jax.models.layers.precision import cast_to


@dataclass(frozen=True)
class FTWFTSettings(BackboneHooks):
    """Attention over frames, from whole maps brought down to `inner_channels`."""

    inner_channels: int = 256

    any_size = False
    torch_names = (
        (r"frame_weights\.over_map", "attention_conv.weight", 0),
        (r"frame_weights\.map_offset", "attention_conv.bias", 0),
        (r"frame_weights\.over_time", "attention_tconv.weight", 0),
        (r"frame_weights\.time_offset", "attention_tconv.bias", 0),
    )

    def __post_init__(self):
        if self.inner_channels < 1:
            raise InputError(f"inner_channels={self.inner_channels}: give at least 1")

    def frame_weights(self, site: BlockSite, rng: np.random.Generator) -> "FrameAttention":
        return FrameAttention(site.size[1:], site.channels, self.inner_channels, rng)


class FrameAttention(nnx.Module):
    """Logits of the frames of a clip: a convolution over the whole map, then one over three frames, each with a ReLU.

    The released code fixes the map at 14x7 cells, those of an image of 224x112; here it has the `map_size` (rows and
    columns) of the images that the network is made for. `inner` are the channels between the two convolutions.
    """

    def __init__(self, map_size: tuple[int, int], channels: int, inner: int, rng: np.random.Generator):
        he = math.sqrt(2 / (math.prod(map_size) * channels))  # fan in
        self.over_map = normal(rng, (*map_size, channels, inner), he)
        self.map_offset = nnx.Param(jnp.zeros(inner))
        self.over_time = normal(rng, (3, inner, 1), math.sqrt(2 / (3 * inner)))
        self.time_offset = nnx.Param(jnp.zeros(1))

    def __call__(self, maps: jax.Array) -> jax.Array:
        """`[B, T, H, W, channels]` -> `[B, T]`."""
        over_map, map_offset, over_time, time_offset = (cast_to(each, maps) for each in (
            self.over_map, self.map_offset, self.over_time, self.time_offset))
        frames = nnx.relu(jnp.einsum("bthwc,hwcd->btd", maps, over_map) + map_offset)
        padded = jnp.pad(frames, ((0, 0), (1, 1), (0, 0)))
        taps = jnp.stack([padded[:, i:i + frames.shape[1]] for i in range(3)], axis=2)
        return nnx.relu(jnp.einsum("btkd,kdo->bto", taps, over_time) + time_offset)[..., 0]
