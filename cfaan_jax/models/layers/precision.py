"""In which numbers a network computes.

The activations say it: parameters, which stay float32, are brought to the type of what they are applied to. Statistics,
logits, softmax and pooled features are never narrower than float32.
"""

import jax
import jax.numpy as jnp
from flax import nnx

COMPUTE = ("float32", "bfloat16")


def wide(x: jax.Array) -> jnp.dtype:
    """The type in which sums over `x` are kept: its own, at least float32."""
    return jnp.promote_types(x.dtype, jnp.float32)


def widened(x: jax.Array) -> jax.Array:
    """`x` as `wide` says."""
    return x.astype(wide(x))


def matching(parameter: nnx.Variable, x: jax.Array) -> jax.Array:
    """A parameter in the type of what it is applied to."""
    return parameter[...].astype(x.dtype)
