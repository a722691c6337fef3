"""Clips of tracklets as arrays of pixels: read, decoded and brought to one size."""

import sys
import threading
from collections.abc import Callable

import numpy as np
from PIL import Image

from cfaan_jax.data.records import RecordSet


def _private(shape: tuple[int, ...]) -> np.ndarray:
    return np.empty(shape, np.uint8)


class Memory:
    """Arrays that are given out again once nobody holds them or a part of them: fresh memory costs a tenth of decoding.

    What nobody holds would be freed, and its memory given to somebody else, just the same: this only comes before. JAX
    holds what it was given until it needs it no more, also where it copies nothing.

    Args:
        fresh: makes an array of a shape, uint8.
        kept: how many are kept at most; beyond these they go with their holders.
    """

    def __init__(self, fresh: Callable[[tuple[int, ...]], np.ndarray] = _private, kept: int = 64):
        self._fresh, self._kept = fresh, kept
        self._arrays, self._lock = [], threading.Lock()

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """An array of that shape, uint8, with any content."""
        with self._lock:
            for array in self._arrays:
                if array.shape == shape and sys.getrefcount(array) == 3:  # in the list, in `array`, in this call
                    return array
            fresh = self._fresh(shape)
            if len(self._arrays) < self._kept:
                self._arrays.append(fresh)
            return fresh


class ClipReader:
    """Reads clips of a record set in the thread that asks for them; safe to use from several threads."""

    def __init__(self, records: RecordSet):
        self._records, self._memory = records, Memory()

    def __call__(self, positions: np.ndarray, indices: np.ndarray,
                 image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Reads clips as `read_into` does, into memory of their own.

        Returns:
            frames uint8 `[B, T, H, W, 3]`, RGB, and rectangles int32 `[B, T, 4]`.
        """
        frames = self._memory.take((*indices.shape, *image_size, 3))
        return frames, read_into(frames, self._records, positions, indices)


def read_clip(records: RecordSet, position: int, indices: np.ndarray,
              image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Reads one clip.

    Args:
        records: the record set.
        position: of the tracklet in it.
        indices: int `[T]`, which frames.
        image_size: (H, W). A stored frame of another size is resized as Pillow does it, bilinear and antialiased, and
            its rectangle with it, outwards to whole pixels.

    Returns:
        frames uint8 `[T, H, W, 3]`, RGB, and rectangles int32 `[T, 4]`.

    Raises:
        InputError: a frame that cannot be decoded.
    """
    frames = np.empty((1, len(indices), *image_size, 3), np.uint8)
    [rectangles] = read_into(frames, records, np.array([position]), indices[None])
    return frames[0], rectangles


def read_into(frames: np.ndarray, records: RecordSet, positions: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """As `read_clip`, many clips at once and into given frames, uint8 `[B, T, H, W, 3]`, so that nothing is copied.

    All that is looked up is looked up here for the whole batch, since the time that Python takes between two frames is
    time in which no other thread can go on to its next one.

    Args:
        frames: where they go, side by side in memory.
        records: the record set.
        positions: int `[B]`.
        indices: int `[B, T]`.

    Returns:
        rectangles int32 `[B, T, 4]`.
    """
    if frames.dtype != np.uint8 or not frames.flags.c_contiguous:
        raise ValueError(f"frames of {frames.dtype}, strides {frames.strides}; give contiguous ones of uint8")
    image_size, pixels = frames.shape[2:4], frames.reshape(-1, *frames.shape[2:])
    tracklets, wanted = np.repeat(positions, indices.shape[1]), indices.ravel()
    sizes = records.image_sizes_at(tracklets, wanted)
    # Short tracklets repeat frames, and identities with few tracklets repeat these: each frame is decoded once.
    _, once, those = np.unique(tracklets * (wanted.max(initial=0) + 1) + wanted, return_index=True, return_inverse=True)
    fits = (sizes == image_size).all(axis=1)
    plain = once[fits[once]]
    records.images_into([pixels[row] for row in plain], tracklets[plain], wanted[plain])
    for row in once[~fits[once]]:
        pixels[row] = _resized(records.image(tracklets[row], wanted[row]), image_size)
    for row in np.flatnonzero(once[those] != np.arange(len(wanted))):
        pixels[row] = pixels[once[those[row]]]
    rectangles = records.rectangles_at(tracklets, wanted)
    scaled = rectangles if fits.all() else _scale(rectangles, sizes, image_size)
    return scaled.reshape(*indices.shape, 4)


def _resized(image: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    height, width = image_size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _scale(rectangles: np.ndarray, stored: np.ndarray, wanted: tuple[int, int]) -> np.ndarray:
    """Rectangles `[T, 4]` in frames of stored sizes `[T, 2]`, brought to the wanted size, outwards to whole pixels."""
    (height, width), (new_height, new_width) = stored.T, wanted
    y0, y1, x0, x1 = rectangles.T
    scaled = [y0 * new_height // height, -(-y1 * new_height // height),
              x0 * new_width // width, -(-x1 * new_width // width)]
    return np.stack(scaled, axis=-1).astype(np.int32)
