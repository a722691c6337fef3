"""Pooling and up-sampling of feature maps, with the windows and the gradients of torch."""

from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np


def windows(x: jax.Array, size: int, stride: int, fill: float) -> list[jax.Array]:
    """The inputs under each of the size * size positions of a square sliding window, row by row.

    `[N, H, W, C]`, padded with `fill` by `size // 2` -> arrays `[N, ceil(H / stride), ceil(W / stride), C]`.
    """
    border = (size // 2, size // 2)
    rows, columns = (-(-length // stride) for length in x.shape[1:3])
    x = jnp.pad(x, ((0, 0), border, border, (0, 0)), constant_values=fill)
    return [x[:, i:i + stride * (rows - 1) + 1:stride, j:j + stride * (columns - 1) + 1:stride]
            for i in range(size) for j in range(size)]


def elementwise_max(arrays: list[jax.Array]) -> jax.Array:
    """The elementwise maximum of several arrays; the gradient goes to the first of equal elements, as in torch.

    The gradients of `jnp.max` and `jnp.maximum` look for elements equal to the result. Where the compiler rounds the
    two differently there are none, and the gradient is NaN or 0. This one compares inputs and keeps their numbers.
    """
    largest, chosen = arrays[0], jnp.zeros(arrays[0].shape, jnp.uint8)
    for number, array in enumerate(arrays[1:], start=1):
        larger = array > largest
        largest, chosen = jnp.where(larger, array, largest), jnp.where(larger, jnp.uint8(number), chosen)
    return reduce(lambda result, pair: jnp.where(chosen == pair[0], pair[1], result), enumerate(arrays), arrays[0])


def adaptive_max_pool(x: jax.Array, axis: int, cells: int) -> jax.Array:
    """Maximum along one axis: cell i of `cells` covers floor(i * in / out) to ceil((i + 1) * in / out)."""
    length = x.shape[axis]
    if length == cells:
        return x
    if length % cells == 0:  # windows do not overlap: no gather is needed
        x = x.reshape(*x.shape[:axis], cells, length // cells, *x.shape[axis + 1:])
        return elementwise_max([jax.lax.index_in_dim(x, i, axis + 1, keepdims=False) for i in range(length // cells)])
    cell = np.arange(cells)
    first, last = cell * length // cells, -(-(cell + 1) * length // cells) - 1
    widest = (last - first).max() + 1
    return elementwise_max([jnp.take(x, np.minimum(first + i, last), axis) for i in range(widest)])


def upsample_nearest(x: jax.Array, axis: int, cells: int) -> jax.Array:
    """Nearest-neighbour up-sampling along one axis: cell i of `cells` shows source cell floor(i * in / out)."""
    length = x.shape[axis]
    if length == cells:
        return x
    if cells % length == 0:
        return jnp.repeat(x, cells // length, axis)
    return jnp.take(x, np.arange(cells) * length // cells, axis)
