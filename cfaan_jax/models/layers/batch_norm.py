"""Batch normalisation with the semantics of torch, on which released weights and statistics rely, and unit length."""

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


class BatchNorm(nnx.Module):
    """Batch normalisation over every axis but the channels.

    It differs from `flax.nnx.BatchNorm` where the released code needs it: the running variance is the UNBIASED one, the
    variance is computed in two passes, and statistics can be taken over equal groups of the batch, as if each group lay
    on a device of its own. The running statistics follow the first group, as those of `torch.nn.DataParallel` follow
    its first replica.

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
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.var = nnx.BatchStat(jnp.ones(channels))
        self.groups, self.imported_batches = groups, 0
        self.use_running_average = False

    def __call__(self, x: jax.Array, axis: int = -1) -> jax.Array:
        """Normalises `x`, channels on `axis`; shape and dtype stay, statistics are at least float32.

        After `model.train()` it uses the statistics of the batch and updates the running ones; after `model.eval()` it
        uses the running ones.
        """
        axis %= x.ndim
        channels = [x.shape[i] if i == axis else 1 for i in range(x.ndim)]
        if self.use_running_average:
            mean, var = self.mean[...].reshape(channels), self.var[...].reshape(channels)
            return self._scale(upcast(x), mean, var, channels).astype(x.dtype)
        grouped = upcast(x).reshape(self.groups, x.shape[0] // self.groups, *x.shape[1:])
        reduced = tuple(i for i in range(1, grouped.ndim) if i != axis + 1)
        mean = grouped.mean(reduced, keepdims=True)
        var = jnp.square(grouped - mean).mean(reduced, keepdims=True)
        self._update(mean[0].ravel(), var[0].ravel(), samples=grouped[0].size // x.shape[axis])
        return self._scale(grouped, mean, var, [1, *channels]).reshape(x.shape).astype(x.dtype)

    def _scale(self, x: jax.Array, mean: jax.Array, var: jax.Array, channels: list[int]) -> jax.Array:
        y = (x - mean) * (jax.lax.rsqrt(var + EPSILON) * self.scale[...].reshape(channels))
        return y if self.bias is None else y + self.bias[...].reshape(channels)

    def _update(self, mean: jax.Array, var: jax.Array, samples: int) -> None:
        unbiased = var * (samples / max(samples - 1, 1))
        # `mean[...] = ` would ask the traced array for its sharding, which took most of the time of tracing a step.
        self.mean.set_value((1 - MOMENTUM) * self.mean[...] + MOMENTUM * jax.lax.stop_gradient(mean))
        self.var.set_value((1 - MOMENTUM) * self.var[...] + MOMENTUM * jax.lax.stop_gradient(unbiased))
