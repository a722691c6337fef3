"""TCLNet (Hou et al., "Temporal Complementary Learning for Video Person Re-Identification", ECCV 2020).

Frames come in pairs. The second frame of a pair is erased where the first one was salient, so that a second learner
looks elsewhere.
"""

import math
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cfaan_jax.errors import InputError
from cfaan_jax.models.backbone_hooks import BackboneHooks, BlockSite
from cfaan_jax.models.layers.batch_norm import BatchNorm, l2_normalize
from cfaan_jax.models.layers.dense import normal
from cfaan_jax.models.layers.pooling import windows
from cfaan_jax.models.layers.precision import accumulation_dtype, cast_to
from cfaan_jax.models.non_local import PointwiseLinear
from cfaan_jax.models.resnet import Bottleneck

_TEMPERATURE = 5.0  # factor on the cosines of saliency boosting before their softmax
_NEVER = 1e8  # subtracted from a logit that must not be attended
_ERASED_ROWS = 3


@dataclass(frozen=True)
class TCLNetSettings(BackboneHooks):
    """Saliency boosting after stage 2, and saliency erasing over pairs of frames instead of stage 4."""

    any_length = False
    torch_prefixes = (
        (r"backbone\.last_stage\.shared\.(\d+)\.", "{prefix}TSE_Module.layer4.{1}.", "layer4.{1}."),
        (r"backbone\.last_stage\.learners\.(\d+)\.", "{prefix}TSE_Module.branch.{1}.", "layer4.{last}."),
        (r"backbone\.last_stage\.", "{prefix}TSE_Module.", None),
    )
    torch_names = (
        (r"output\.kernel", "W.0.weight", 2),
        (r"output\.bias", "W.0.bias", 0),
        (r"bn_output\.(\w+)", "W.1.{1}", 0),
        (r"reduction", "conv_reduce.weight", 2),
        (r"filling\.kernel", "conv_erase.0.weight", 2),
        (r"filling\.bias", "conv_erase.0.bias", 0),
        (r"bn_filling\.(\w+)", "conv_erase.1.{1}", 0),
    )

    def after_block(self, site: BlockSite, rng: np.random.Generator) -> "SaliencyBoosting | None":
        if site.stage != 1 or not site.is_last:
            return None
        return SaliencyBoosting(site.channels, site.groups, rng)

    def last_stage(self, site: BlockSite, rng: np.random.Generator) -> "SaliencyErasing":
        return SaliencyErasing(site, rng)


class SaliencyBoosting(nnx.Module):
    """Adds to each frame its attention, from its mean to all positions of the other frames."""

    def __init__(self, channels: int, groups: int, rng: np.random.Generator):
        self.output = PointwiseLinear(channels, channels, rng, he=True)
        self.bn_output = BatchNorm(channels, groups=groups, zero_init=True)

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, T, H, W, channels]` -> the same."""
        values = x.reshape(x.shape[0], -1, x.shape[-1])
        attended = jnp.einsum("btp,bpc->btc", self.attend(x).astype(x.dtype), values)
        return x + self.bn_output(self.output(attended))[:, :, None, None]

    def attend(self, x: jax.Array) -> jax.Array:
        """Attention of each frame to all positions of the clip, `[B, T, T * H * W]`.

        The positions are compared by their means over 2x2 cells, each with the cells above and to its left.
        """
        batch, frames, rows, columns, channels = x.shape
        first, *others = windows(x.reshape(-1, rows, columns, channels), size=2, stride=1, fill=0.0)
        memory = l2_normalize(sum(others, first)).reshape(batch, -1, channels)
        query = l2_normalize(x.mean((2, 3)))
        logits = _TEMPERATURE * jnp.einsum("btc,bpc->btp", query, memory, preferred_element_type=accumulation_dtype(x))
        own = jnp.repeat(jnp.eye(frames), rows * columns, axis=1)
        return jax.nn.softmax(logits - _NEVER * own, axis=-1)


class SaliencyErasing(nnx.Module):
    """The last stage, over pairs of frames: shared bottlenecks, then a learner for the first and one for the second.

    The released code takes clips of four frames (of longer ones it leaves out what follows the fourth); here the clip
    may have any even number, and an odd one raises InputError. The pairs go one after another: each is a batch of its
    own for batch normalisation, in training as in the released code. `site` is that of the stage's first bottleneck.
    """

    def __init__(self, site: BlockSite, rng: np.random.Generator):
        if site.size[0] % 2:
            raise InputError(f"clip_length={site.size[0]}: tclnet takes frames in pairs; give an even number")
        *shared, last = [replace(site, block=block, inputs=site.channels if block else site.inputs)
                         for block in range(site.depth)]
        self.shared = nnx.List([Bottleneck(block, rng) for block in shared])
        self.learners = nnx.List([Bottleneck(last, rng) for _ in range(2)])
        self.reduction = normal(rng, (site.channels, site.inputs), math.sqrt(2 / site.inputs))
        self.filling = PointwiseLinear(site.inputs, site.inputs, rng, he=True)
        self.bn_filling = BatchNorm(site.inputs, groups=site.groups, zero_init=True)

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, T, H, W, inputs]` -> `[B, T, H, W, channels]`."""
        maps = [frame for i in range(0, x.shape[1], 2) for frame in self.pair(x[:, i], x[:, i + 1])]
        return jnp.stack(maps, axis=1)

    def pair(self, first: jax.Array, second: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Two frames, `[B, H, W, inputs]` -> `[B, H, W, channels]` each."""
        ones = jnp.ones(first.shape[:3], accumulation_dtype(first))
        learnt = self._learn(0, self.erase(first, ones, ones))
        saliency = self.correlation(jax.lax.stop_gradient(learnt), second)
        mask = jnp.broadcast_to(remaining_rows(saliency)[:, :, None], saliency.shape)
        return learnt, self._learn(1, self.erase(second, mask, saliency))

    def _learn(self, learner: int, x: jax.Array) -> jax.Array:
        for block in (*self.shared, self.learners[learner]):
            x = block(x)
        return x

    def correlation(self, first: jax.Array, second: jax.Array) -> jax.Array:
        """The similarity of each position of a frame to the learnt mean of another, `[B, H, W]`.

        The other frame's maps are `first`, `[B, H, W, channels]`; those of the frame `second`, `[B, H, W, inputs]`.
        """
        query = jnp.einsum("bc,cd->bd", first.mean((1, 2)), cast_to(self.reduction, first))
        similar = jnp.einsum("bc,bhwc->bhw", query, second, preferred_element_type=accumulation_dtype(second))
        return similar / math.sqrt(second.shape[-1])

    def erase(self, x: jax.Array, mask: jax.Array, saliency: jax.Array) -> jax.Array:
        """Erases positions of `[B, H, W, inputs]` and adds to all of them a learnt map of the mean of the others.

        `mask` is 0 where a position is erased, else 1; `saliency` are the logits that weigh the mean; both `[B, H, W]`.
        """
        logits = (saliency - _NEVER * (1 - mask)).reshape(x.shape[0], -1)
        weights = jax.nn.softmax(logits, axis=-1).reshape(mask.shape)
        mean = jnp.einsum("bhw,bhwc->bc", weights.astype(x.dtype), x)
        return x * mask[..., None].astype(x.dtype) + self.bn_filling(self.filling(mean))[:, None, None]


def remaining_rows(saliency: jax.Array) -> jax.Array:
    """0 for the three neighbouring rows whose sum is largest, 1 for the others: `[B, H, W]` -> `[B, H]`.

    The map is padded with 0, so that the block may lie half outside of a map that is negative everywhere.
    """
    height, reach = saliency.shape[1], _ERASED_ROWS // 2
    rows = jnp.pad(saliency.mean(2), ((0, 0), (reach, reach)))
    sums = sum(rows[:, i:i + height] for i in range(_ERASED_ROWS))
    distance = jnp.abs(jnp.arange(height) - jnp.argmax(sums, axis=1)[:, None])
    return (distance > reach).astype(saliency.dtype)
