"""The compute dtype: float32, or bfloat16 for all activations before the pooling.

The activations carry the dtype. Parameters stay float32 and are cast to the dtype of what they are applied to.
Statistics, logits, softmax and pooled features are at least float32.
"""

import jax
import jax.numpy as jnp
from flax import nnx

COMPUTE = ("float32", "bfloat16")


def accumulation_dtype(x: jax.Array) -> jnp.dtype:
    """The dtype of sums over `x`: its own, at least float32."""
    return jnp.promote_types(x.dtype, jnp.float32)


def upcast(x: jax.Array) -> jax.Array:
    """`x` in its `accumulation_dtype`."""
    return x.astype(accumulation_dtype(x))


def cast_to(parameter: nnx.Variable, x: jax.Array) -> jax.Array:
    """A parameter in the dtype of what it is applied to."""
    return parameter[...].astype(x.dtype)
