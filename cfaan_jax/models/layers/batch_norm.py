"""Batch normalisation with the semantics of torch, which the released weights and statistics rely on."""

import jax
import jax.numpy as jnp
from flax import nnx

from cfaan_jax.models.layers.precision import widened

EPSILON = 1e-5
MOMENTUM = 0.1  # share of the new batch in the running statistics, in torch's sense


def unit(x: jax.Array) -> jax.Array:
    """Vectors along the last axis brought to length 1; those shorter than 1e-12 are divided by that."""
    squares = jnp.square(widened(x)).sum(-1, keepdims=True)
    return (x * jax.lax.rsqrt(jnp.maximum(squares, 1e-24))).astype(x.dtype)


class BatchNorm(nnx.Module):
    """Batch normalisation over every axis but the channels.

    It differs from `flax.nnx.BatchNorm` where the released code needs it: the running variance is the UNBIASED one, the
    variance is computed in two passes, and statistics can be taken over equal groups of the batch, as if each group had
    lain on a device of its own. The running statistics then follow the first group, as those of
    `torch.nn.DataParallel` follow its first replica.

    Args:
        channels: number of channels.
        groups: number of groups that the leading axis is divided into in training.
        offset: "trained"; "frozen": kept as it was loaded, 0 at the start; or "none", which is 0 always.
        zero_init: start with scale 0, so that a residual branch starts as nothing.

    Attributes:
        imported_batches: how many training batches the weights had seen when they were imported from torch, which
            counts them (`num_batches_tracked`) without using the number; kept for the way back.
    """

    def __init__(self, channels: int, *, groups: int = 1, offset: str = "trained", zero_init: bool = False):
        self.scale = nnx.Param(jnp.zeros(channels) if zero_init else jnp.ones(channels))
        kinds = {"trained": nnx.Param, "frozen": nnx.BatchStat}
        self.bias = None if offset == "none" else kinds[offset](jnp.zeros(channels))
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.var = nnx.BatchStat(jnp.ones(channels))
        self.groups, self.imported_batches = groups, 0
        self.use_running_average = False

    def __call__(self, x: jax.Array, axis: int = -1) -> jax.Array:
        """Normalises `x`, channels on `axis`; shape and type stay, statistics are at least float32.

        After `model.train()` it uses the statistics of the batch and updates the running ones, after `model.eval()` it
        uses the running ones.
        """
        axis %= x.ndim
        if self.use_running_average:
            shape = [x.shape[i] if i == axis else 1 for i in range(x.ndim)]
            return self._scaled(widened(x), self.mean[...].reshape(shape), self.var[...].reshape(shape),
                                axis).astype(x.dtype)
        grouped = widened(x).reshape(self.groups, x.shape[0] // self.groups, *x.shape[1:])
        others = tuple(i for i in range(1, grouped.ndim) if i != axis + 1)
        mean = grouped.mean(others, keepdims=True)
        var = jnp.square(grouped - mean).mean(others, keepdims=True)
        self._update(mean[0].ravel(), var[0].ravel(), samples=grouped[0].size // x.shape[axis])
        return self._scaled(grouped, mean, var, axis + 1).reshape(x.shape).astype(x.dtype)

    def _scaled(self, x: jax.Array, mean: jax.Array, var: jax.Array, axis: int) -> jax.Array:
        shape = [x.shape[i] if i == axis else 1 for i in range(x.ndim)]
        y = (x - mean) * (jax.lax.rsqrt(var + EPSILON) * self.scale[...].reshape(shape))
        return y if self.bias is None else y + self.bias[...].reshape(shape)

    def _update(self, mean: jax.Array, var: jax.Array, samples: int) -> None:
        unbiased = var * (samples / max(samples - 1, 1))
        # `mean[...] = ` asks the traced array for its sharding, for which JAX looks through all of the program so far:
        # that took most of the time of tracing a step.
        self.mean.set_value((1 - MOMENTUM) * self.mean[...] + MOMENTUM * jax.lax.stop_gradient(mean))
        self.var.set_value((1 - MOMENTUM) * self.var[...] + MOMENTUM * jax.lax.stop_gradient(unbiased))
