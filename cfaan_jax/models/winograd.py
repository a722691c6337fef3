"""3x3 convolutions with 16 multiplications for 2x2 outputs where the definition has 36 (Lavin and Gray 2016).

The compiler for CPUs has no such algorithm, and its own convolution is slower than the products of matrices here are.
They round less, too, because they add up nine times fewer products.

Letters: i, j row and column of a kernel or a tile; a, b those of a transformed one; c, d input and output channel.
"""

import jax
import jax.numpy as jnp

# F(2x2, 3x3) of their section 4.1: the matrix G; the transposes of B and A are the sums in `_of_tile`, `_to_outputs`.
_KERNEL = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
_TILES = 4096  # in a step, so that what belongs to them stays in the caches,
_FRAMES = 8     # unless they would be fewer frames than there are devices to divide a batch


def convolved(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`[N, H, W, c]` with a kernel `[3, 3, c, d]`, stride 1, zeros around: `[N, H, W, d]`."""
    transform = jnp.array(_KERNEL, x.dtype)
    kernel = jnp.einsum("ai,bj,ijcd->abcd", transform, transform, kernel)
    frames, rows, columns = x.shape[:3]
    together = _largest_divisor(frames, max(_FRAMES, _TILES // (-(-rows // 2) * -(-columns // 2))))
    if together == frames:
        return _at_once(x, kernel)
    # Frames that are far apart go together: where the batch is divided over devices, each has its share of every step.
    x = x.reshape(together, frames // together, *x.shape[1:])

    def step(i: jax.Array, done: jax.Array) -> jax.Array:
        some = jax.lax.dynamic_index_in_dim(x, i, axis=1, keepdims=False)
        return jax.lax.dynamic_update_index_in_dim(done, _at_once(some, kernel), i, axis=1)

    empty = jnp.zeros((*x.shape[:-1], kernel.shape[-1]), x.dtype)
    return jax.lax.fori_loop(0, x.shape[1], step, empty).reshape(frames, rows, columns, -1)


def _largest_divisor(number: int, limit: int) -> int:
    return max(divisor for divisor in range(1, min(number, limit) + 1) if number % divisor == 0)


def _at_once(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """As `convolved`, with a kernel that is transformed, `[4, 4, c, d]`."""
    frames, rows, columns, channels = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1 + rows % 2), (1, 1 + columns % 2), (0, 0)))
    height, width = x.shape[1] - 3, x.shape[2] - 3
    tiles = [[x[:, i:i + height:2, j:j + width:2].reshape(-1, channels) for j in range(4)] for i in range(4)]
    inputs = _both_ways(_of_tile, tiles)
    products = [[inputs[a][b] @ kernel[a, b] for b in range(4)] for a in range(4)]
    outputs = jnp.stack([jnp.stack(row, axis=1) for row in _both_ways(_to_outputs, products)], axis=1)
    outputs = outputs.reshape(frames, -1, -(-columns // 2), 2, 2, kernel.shape[-1]).swapaxes(2, 3)
    return outputs.reshape(frames, 2 * outputs.shape[1], -1, kernel.shape[-1])[:, :rows, :columns]


def _both_ways(transform, grid: list[list[jax.Array]]) -> list[list[jax.Array]]:
    """A transform of four places applied to the columns and to the rows of a grid of arrays."""
    columns = [transform([row[j] for row in grid]) for j in range(4)]
    return [transform([column[a] for column in columns]) for a in range(len(columns[0]))]


def _of_tile(x: list[jax.Array]) -> list[jax.Array]:
    return [x[0] - x[2], x[1] + x[2], x[2] - x[1], x[1] - x[3]]


def _to_outputs(x: list[jax.Array]) -> list[jax.Array]:
    return [x[0] + x[1] + x[2], x[1] - x[2] - x[3]]
