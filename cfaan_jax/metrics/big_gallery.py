"""Distances of queries to a gallery too large for one matrix: a strip of some queries at a time, on all devices.

A strip reaches over the whole gallery, so ranks are exact, and every distance is computed once. Counting by blocks what
is nearer than the right answers would compute it twice: a product's last bits may depend on a row's place in its block.
"""

import mmap
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cfaan_jax.errors import InputError
from cfaan_jax.runtime import sharding
from cfaan_jax.runtime.progress import Progress

_BLOCK = 8192
_SHORTEST = 1e-12
_BFLOAT16_ON_DISK = np.dtype("V2")
_READ_UNCHANGED = (np.float16, jnp.bfloat16, np.float32)


class CosineDistances:
    """Minus the cosine of every query with every gallery feature, float32 [Q, G], computed some rows at a time.

    Examples:
        >>> import numpy as np
        >>> from cfaan_jax import metrics
        >>> from cfaan_jax.metrics.big_gallery import CosineDistances
        >>> distances = CosineDistances(np.eye(2, 3), np.eye(3), memory=1 << 20)  # or of np.load(..., mmap_mode="r")
        >>> metrics.score(distances, [1, 2], [1, 2, 0], [1, 1], [2, 2, 2]).mAP
        distances of 2 queries to 3 features: 1/1 ...
        1.0

    Args:
        queries, gallery: features [Q, D] and [G, D] of any real dtype, not normalised; mapped files stay on disk.
            Raw pairs of bytes (dtype V2) are taken as bfloat16, which a .npy file does not have.
        memory: bytes for one strip. The gallery is read 4 x Q x G / memory times.
        mesh: devices along an axis "data", over which a block of the gallery is divided; None = those of this process.
    Raises:
        InputError: shapes that do not fit, no rows, not a real dtype; from `strips`: a feature that is not finite.
    """

    def __init__(self, queries: np.ndarray, gallery: np.ndarray, memory: int = 4 << 30, mesh: Mesh | None = None):
        self._queries, self._gallery = _features(queries, "queries"), _features(gallery, "gallery")
        self.shape = len(self._queries), len(self._gallery)
        if self._queries.shape[1] != self._gallery.shape[1]:
            raise InputError(f"queries have {self._queries.shape[1]} dimensions, the gallery {self._gallery.shape[1]}; "
                             "both must come from one network")
        self._mesh = mesh or sharding.data_mesh(jax.local_devices())
        strips = -(-self.shape[0] // max(1, memory // (4 * self.shape[1])))
        self._height = -(-self.shape[0] // strips)
        self._block = -(-min(_BLOCK, self.shape[1]) // self._mesh.size) * self._mesh.size

    def strips(self) -> Iterator[np.ndarray]:
        """The rows in order, a strip [q, G] at a time; a strip overwrites the one before it."""
        strip = np.empty((self._height, self.shape[1]), np.float32)
        tops, lefts = range(0, self.shape[0], self._height), range(0, self.shape[1], self._block)
        label = f"distances of {self.shape[0]:,} queries to {self.shape[1]:,} features"
        with Progress(label, len(tops) * len(lefts)) as progress:
            for top in tops:
                queries = _read(self._queries, top, self._height)
                queries = jax.device_put(queries, sharding.replicated(self._mesh))
                running: list[tuple] = []
                for left in lefts:
                    block = _read(self._gallery, left, self._block)
                    block = jax.device_put(block, sharding.batch_sharding(self._mesh, self._block))
                    running.append((top, left, _minus_cosines(queries, block)))
                    if len(running) > 1:  # read a block while the devices work on the one before it
                        _store(strip, *running.pop(0))
                        progress.advance()
                _store(strip, *running.pop())
                progress.advance()
                yield strip[:self.shape[0] - top]


def _features(values: np.ndarray, name: str) -> np.ndarray:
    values = np.asanyarray(values)
    if values.dtype == _BFLOAT16_ON_DISK:
        values = values.view(jnp.bfloat16)
    if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "fiu" and values.dtype != jnp.bfloat16:
        raise InputError(f"{name} have shape {values.shape} and dtype {values.dtype}; they must be real numbers "
                         f"[{name}, dimensions], not empty")
    return values


def _read(features: np.ndarray, start: int, count: int) -> np.ndarray:
    """A copy of `count` rows, with zeros after the last one: blocks of one shape are computed by one program."""
    dtype = features.dtype if features.dtype in _READ_UNCHANGED else np.float32
    block = np.zeros((count, features.shape[1]), dtype)
    block[:len(features) - start] = features[start:start + count]
    _release_pages(features)
    return block


def _release_pages(features: np.ndarray) -> None:
    """Frees the memory of a mapped file's pages, which would grow to the whole file; they are read again if needed."""
    base: object = features
    while isinstance(base, np.ndarray):
        if getattr(base, "mode", None) == "c":  # copy on write: changes would be lost
            return
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


@jax.jit
def _minus_cosines(queries: jax.Array, block: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Distances [Q, B], and the lengths of the queries [Q] and of the block's features [B].

    The lengths are divided out last: products of small whole numbers are exact, so equal distances stay equal.
    """
    queries, block = _scale_to_one(queries.astype(jnp.float32)), _scale_to_one(block.astype(jnp.float32))
    q_lengths, g_lengths = jnp.linalg.norm(queries, axis=1), jnp.linalg.norm(block, axis=1)
    products = jnp.matmul(queries, block.T, precision=jax.lax.Precision.HIGHEST)
    scale = jnp.maximum(q_lengths, _SHORTEST)[:, None] * jnp.maximum(g_lengths, _SHORTEST)
    return -products / scale, q_lengths, g_lengths


def _scale_to_one(rows: jax.Array) -> jax.Array:
    """Rows times powers of two, which is exact, so that squares neither overflow nor vanish."""
    _, exponent = jnp.frexp(jnp.abs(rows).max(axis=1, keepdims=True))
    return jnp.ldexp(rows, -jnp.clip(exponent, -120, 120))


def _store(strip: np.ndarray, top: int, left: int, block: tuple[jax.Array, jax.Array, jax.Array]) -> None:
    """Waits for a block and copies it into the strip, without the rows and columns of padding."""
    distances, q_lengths, g_lengths = block
    for name, first, lengths in (("query", top, q_lengths), ("gallery", left, g_lengths)):
        bad = ~np.isfinite(lengths)
        if bad.any():
            raise InputError(f"the {name} feature of row {first + int(bad.argmax())} is not finite")
    width = min(distances.shape[1], strip.shape[1] - left)
    strip[:, left:left + width] = np.asarray(distances)[:, :width]
