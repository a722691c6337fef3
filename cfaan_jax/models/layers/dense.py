"""Products over the channels, and the draw of initial weights.

NumPy draws the weights: the same numbers on every platform. `jax.nn.initializers` would compile a program for each of
the 37 shapes of CF-AAN, which makes a start several seconds slower.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


def normal(rng: np.random.Generator, shape: tuple[int, ...], deviation: float) -> nnx.Param:
    """A parameter drawn from the normal distribution with mean 0 and this standard deviation."""
    return nnx.Param(jnp.asarray(deviation * rng.standard_normal(shape, np.float32), jnp.float32))


def uniform(rng: np.random.Generator, shape: tuple[int, ...], bound: float) -> nnx.Param:
    """A parameter drawn uniformly between -bound and bound."""
    return nnx.Param(jnp.asarray(rng.uniform(-bound, bound, shape), jnp.float32))


def dense(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`[..., c]` times `[c, d]` -> `[..., d]`.

    All other axes are merged into one. Otherwise XLA for CPUs transposes a copy for the gradient of the kernel.
    """
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], -1)
