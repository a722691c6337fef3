"""Batch normalisation with the semantics of torch, on which released weights and statistics rely, and unit length."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from cfaan_jax.models.layers.precision import upcast

EPSILON = 1e-5
MOMENTUM = 0.1  # share of the new batch in the running statistics; flax calls 1 - 0.1 = 0.9 the momentum


def l2_normalize(x: jax.Array) -> jax.Array:
    """Vectors along the last axis divided by their length, or by 1e-12 where they are shorter."""
    squares = jnp.square(upcast(x)).sum(-1, keepdims=True)
    return (x * jax.lax.rsqrt(jnp.maximum(squares, 1e-24))).astype(x.dtype)


def statistics(x: jax.Array, reduced: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance over some axes, which stay with length 1.

    In one pass over bfloat16, in two over float32, whose difference of squares would lose too many digits.
    """
    if x.dtype != jnp.bfloat16:
        mean = x.mean(reduced, keepdims=True)
        return mean, jnp.square(x - mean).mean(reduced, keepdims=True)
    wide, zero = upcast(x), jnp.float32(0)
    sums = jax.lax.reduce((wide, jnp.square(wide)), (zero, zero), lambda a, b: (a[0] + b[0], a[1] + b[1]), reduced)
    mean, square = (jnp.expand_dims(total, reduced) * (total.size / x.size) for total in sums)
    return mean, jnp.maximum(square - jnp.square(mean), 0)


def standardize(x: jax.Array, scale: jax.Array, bias: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
    """(x - mean) / deviation * scale + bias, in the dtype of `x`."""
    return ((upcast(x) - mean) * (jax.lax.rsqrt(variance + EPSILON) * scale) + bias).astype(x.dtype)


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def normalize(x: jax.Array, scale: jax.Array, bias: jax.Array,
              reduced: tuple[int, ...]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`x` normalised over the axes `reduced`, times scale, plus bias; the mean; the biased variance.

    The derivative is written out. Its transpose, which training needs, reads each array once for two sums a channel;
    that of the formula would read it several times.
    """
    mean, variance = statistics(x, reduced)
    return standardize(x, scale, bias, mean, variance), mean, variance


@normalize.defjvp
def _normalize_jvp(reduced, primals, tangents):
    (x, scale, bias), (dx, dscale, dbias) = primals, tangents
    y, mean, variance = normalize(x, scale, bias, reduced)
    inverse, dx = jax.lax.rsqrt(variance + EPSILON), upcast(dx)
    unit, gain = (upcast(x) - mean) * inverse, scale * inverse
    dmean, dunit = dx.mean(reduced, keepdims=True), (unit * dx).mean(reduced, keepdims=True)
    dy = gain * dx + (dbias - gain * dmean) + unit * (dscale - gain * dunit)
    return (y, mean, variance), (dy.astype(y.dtype), dmean, 2 * dunit / inverse)


class BatchNorm(nnx.Module):
    """Batch normalisation over every axis but the channels.

    It differs from `flax.nnx.BatchNorm` where the released code needs it: the running variance is the UNBIASED one, and
    statistics can be taken over equal groups of the batch, as if each group lay on a device of its own. The running
    statistics follow the first group, as those of `torch.nn.DataParallel` follow its first replica.

    Args:
        channels: number of channels.
        groups: number of groups of the leading axis in training.
        bias: "trained"; "frozen": kept as loaded, 0 at the start; or "none": always 0.
        zero_init: start with scale 0, so that a residual branch starts as 0.

    Attributes:
        imported_batches: torch's `num_batches_tracked` of imported weights, for the way back; torch does not use it.
    """

    def __init__(self, channels: int, *, groups: int = 1, bias: str = "trained", zero_init: bool = False):
        self.scale = nnx.Param(jnp.zeros(channels) if zero_init else jnp.ones(channels))
        kinds = {"trained": nnx.Param, "frozen": nnx.BatchStat}
        self.bias = None if bias == "none" else kinds[bias](jnp.zeros(channels))
        self.mean, self.var = nnx.BatchStat(jnp.zeros(channels)), nnx.BatchStat(jnp.ones(channels))
        self.groups, self.imported_batches = groups, 0
        self.use_running_average = False

    def __call__(self, x: jax.Array, axis: int = -1) -> jax.Array:
        """Normalises `x`, channels on `axis`; shape and dtype stay, statistics are at least float32.

        After `model.train()` it uses the statistics of the batch and updates the running ones; after `model.eval()` it
        uses the running ones.
        """
        return self.parts([x], axis)[0]

    def parts(self, arrays: Sequence[jax.Array], axis: int = -1, interleaved: bool = False) -> list[jax.Array]:
        """Normalises arrays of one shape that share the channels, one array's after another's, or `interleaved`."""
        order = "F" if interleaved else "C"
        shape = [length if i == axis % arrays[0].ndim else 1 for i, length in enumerate(arrays[0].shape)]
        scales, biases, means, variances = (
            [jnp.zeros(shape)] * len(arrays) if values is None else
            [part.reshape(shape) for part in values[...].reshape(len(arrays), -1, order=order)]
            for values in (self.scale, self.bias, self.mean, self.var))
        if self.use_running_average:
            return list(map(standardize, arrays, scales, biases, means, variances))
        grouped = [x.reshape(self.groups, x.shape[0] // self.groups, *x.shape[1:]) for x in arrays]
        reduced = tuple(i for i in range(1, grouped[0].ndim) if shape[i - 1] == 1)
        outputs, *moments = zip(*map(partial(normalize, reduced=reduced), grouped, scales, biases), strict=True)
        samples = grouped[0][0].size // max(shape)
        mean, variance = (jax.lax.stop_gradient(jnp.stack([part[0].ravel() for part in parts]).ravel(order=order))
                          for parts in moments)
        # `mean[...] = ` would ask the traced array for its sharding, which took most of the time of tracing a step.
        self.mean.set_value((1 - MOMENTUM) * self.mean[...] + MOMENTUM * mean)
        self.var.set_value((1 - MOMENTUM) * self.var[...] + MOMENTUM * variance * (samples / max(samples - 1, 1)))
        return [y.reshape(x.shape) for x, y in zip(arrays, outputs, strict=True)]
