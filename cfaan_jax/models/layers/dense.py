"""Products over the channels."""

import jax


def on_channels(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """`[..., c]` times `[c, d]` -> `[..., d]`.

    The product sees all axes before the channels as one. With several of them XLA makes, on CPUs, a transposed copy of
    what comes back before it multiplies for the gradient of the matrix: a third of the time of a training step.
    """
    return (x.reshape(-1, x.shape[-1]) @ matrix).reshape(*x.shape[:-1], -1)
