"""Pooling and up-sampling of feature maps, with the windows and the gradients of torch."""

import jax
import jax.numpy as jnp
import numpy as np


def windows(x: jax.Array, size: int, stride: int, fill: float) -> list[jax.Array]:
    """What lies under each position of a sliding window, row by row.

    Args:
        x: `[N, H, W, C]`, padded with `fill` by `size // 2` on each side.
        size, stride: of the square window.
        fill: value of the border.

    Returns:
        size * size arrays `[N, ceil(H / stride), ceil(W / stride), C]`.
    """
    border = (size // 2, size // 2)
    rows, columns = (-(-length // stride) for length in x.shape[1:3])
    x = jnp.pad(x, ((0, 0), border, border, (0, 0)), constant_values=fill)
    return [x[:, i:i + stride * (rows - 1) + 1:stride, j:j + stride * (columns - 1) + 1:stride]
            for i in range(size) for j in range(size)]


def largest(arrays: list[jax.Array]) -> jax.Array:
    """Element by element the largest of several arrays; the gradient goes to the first of equals, as in torch.

    The gradient of `jnp.max` and of `jnp.maximum` looks for elements that equal the result. Where the compiler computes
    the two apart and rounds them differently it finds none, and gives NaN or 0; this one compares the elements alone.
    On a CPU it is several times faster than the gradient of a window reduction, too.
    """
    result, *others = arrays
    for other in others:
        result = jnp.where(other > result, other, result)
    return result


def stem_max_pool(x: jax.Array) -> jax.Array:
    """Maximum over 3x3 windows with stride 2: `[N, H, W, C]` -> `[N, ceil(H / 2), ceil(W / 2), C]`."""
    return largest(windows(x, size=3, stride=2, fill=-jnp.inf))


def adaptive_max_pool(x: jax.Array, axis: int, cells: int) -> jax.Array:
    """Maximum along one axis: cell i of `cells` covers floor(i * in / out) to ceil((i + 1) * in / out)."""
    length = x.shape[axis]
    if length == cells:
        return x
    if length % cells == 0:  # windows side by side, so that no gather is needed
        x = x.reshape(*x.shape[:axis], cells, length // cells, *x.shape[axis + 1:])
        return largest([jax.lax.index_in_dim(x, i, axis + 1, keepdims=False) for i in range(length // cells)])
    cell = np.arange(cells)
    first, last = cell * length // cells, -(-(cell + 1) * length // cells) - 1
    widest = (last - first).max() + 1
    return largest([jnp.take(x, np.minimum(first + i, last), axis) for i in range(widest)])


def map_maximum(maps: jax.Array) -> jax.Array:
    """The largest value of each channel on a feature map: `[..., H, W, C]` -> `[..., C]`."""
    rows, columns = maps.ndim - 3, maps.ndim - 2
    return adaptive_max_pool(adaptive_max_pool(maps, columns, 1), rows, 1)[..., 0, 0, :]


def nearest(x: jax.Array, axis: int, cells: int) -> jax.Array:
    """Nearest-neighbour up-sampling along one axis: cell i of `cells` shows source cell floor(i * in / out)."""
    length = x.shape[axis]
    if length == cells:
        return x
    if cells % length == 0:
        return jnp.repeat(x, cells // length, axis)
    return jnp.take(x, np.arange(cells) * length // cells, axis)
