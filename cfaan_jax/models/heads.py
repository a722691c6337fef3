"""From feature maps to one feature and class logits: masked pooling, the BN neck, the classifier (section 3.3)."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cfaan_jax.models.layers.batch_norm import BatchNorm, l2_normalize
from cfaan_jax.models.layers.dense import normal

_CLASSIFIER_DEVIATION = 0.001  # of the classifier's initial weights


def masked_average(maps: jax.Array, rectangles: jax.Array | None) -> jax.Array:
    """Averages each frame's feature map over its real pixels, the mask M' of section 3.3.

    Args:
        maps: `[B, T, H, W, C]`.
        rectangles: int `[B, T, 4]`, (y0, y1, x0, x1) in cells, end exclusive; None for whole maps. A frame without
            a cell gives 0, never NaN; `cfaan_jax.data.augment` makes every rectangle hold one.

    Returns:
        `[B, T, C]`.
    """
    if rectangles is None:
        return maps.mean((2, 3))
    y0, y1, x0, x1 = jnp.split(rectangles, 4, axis=-1)
    row, column = jnp.arange(maps.shape[2]), jnp.arange(maps.shape[3])
    rows = ((row >= y0) & (row < y1)).astype(maps.dtype)
    columns = ((column >= x0) & (column < x1)).astype(maps.dtype)
    cells = rows.sum(-1) * columns.sum(-1)
    total = jnp.einsum("bthwc,bth,btw->btc", maps, rows, columns)
    return total / jnp.maximum(cells, 1)[..., None]


@dataclass(frozen=True)
class HeadSettings:
    """What distinguishes heads; the defaults are the head of CF-AAN.

    Attributes:
        pool: from maps `[B, T, H, W, C]` and rectangles to pooled frames `[B, T, C]`.
        branches: number of necks and classifiers; branch i sees every `branches`-th frame from i on.
        per_frame: normalise and classify every frame and average afterwards, as the released c2d does, instead of
            averaging the frames first.
        neck_bias: of the neck, see `BatchNorm`.
        classifier_bias: whether the classifier has one.
        triplet_after_neck: whether the losses that compare features see those after or before the neck.
        test_feature_after_neck: the same for the evaluation feature.
    """

    pool: Callable[[jax.Array, jax.Array | None], jax.Array] = masked_average
    branches: int = 1
    per_frame: bool = False
    neck_bias: str = "none"
    classifier_bias: bool = False
    triplet_after_neck: bool = False
    test_feature_after_neck: bool = True


class Head(nnx.Module):
    """BN neck and classifier over pooled frames (section 3.3; Luo et al. 2019).

    Args:
        channels: of a pooled frame.
        num_classes: training identities.
        settings, groups: see `HeadSettings` and `BatchNorm`.
        rng: draws the initial weights.
    """

    def __init__(self, channels: int, num_classes: int, settings: HeadSettings, groups: int, rng: np.random.Generator):
        self.per_frame = settings.per_frame
        self.neck = BatchNorm(channels, groups=groups, bias=settings.neck_bias)
        self.classifier = normal(rng, (channels, num_classes), _CLASSIFIER_DEVIATION)
        # The classifier's bias; the name is that of its weights in checkpoints.
        self.classifier_offset = nnx.Param(jnp.zeros(num_classes)) if settings.classifier_bias else None

    def __call__(self, frames: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Pooled frames `[B, T, C]` -> logits `[B, classes]`, feature after the neck `[B, C]`."""
        batch, _, channels = frames.shape
        samples = frames.reshape(-1, channels) if self.per_frame else frames.mean(1)
        normalised = self.neck(samples)
        logits = jnp.einsum("nc,ck->nk", normalised, self.classifier[...])
        if self.classifier_offset is not None:
            logits = logits + self.classifier_offset[...]
        if self.per_frame:
            normalised = normalised.reshape(batch, -1, channels).mean(1)
            logits = logits.reshape(batch, -1, logits.shape[-1]).mean(1)
        return logits, normalised


def tracklet_feature(means: jax.Array, branches: int) -> jax.Array:
    """Features of tracklets `[N, D]` from the means of their clips' features; each of several branches at length 1."""
    if branches == 1:
        return means
    return jnp.concatenate([l2_normalize(part) for part in jnp.split(means, branches, axis=-1)], axis=-1)
