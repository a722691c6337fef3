"""How weights begin. NumPy draws them: the same numbers on every platform, and nothing to compile for it."""

import jax.numpy as jnp
import numpy as np
from flax import nnx


def normal(rng: np.random.Generator, shape: tuple[int, ...], deviation: float) -> nnx.Param:
    """A parameter drawn from the normal distribution with mean 0 and this standard deviation."""
    return nnx.Param(jnp.asarray(deviation * rng.standard_normal(shape, np.float32), jnp.float32))


def uniform(rng: np.random.Generator, shape: tuple[int, ...], bound: float) -> nnx.Param:
    """A parameter drawn evenly between -bound and bound."""
    return nnx.Param(jnp.asarray(rng.uniform(-bound, bound, shape), jnp.float32))
