"""Clips of tracklets as arrays of pixels: read, decoded and resized."""

import numpy as np
from PIL import Image

from cfaan_jax.data.records import RecordSet
from cfaan_jax.data.tracklets import ImageTracklets


def read_clip(records: RecordSet | ImageTracklets, position: int, indices: np.ndarray,
              image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Reads one clip of T frames, as `read_clips` does; without the axis of B."""
    [frames], [rectangles] = read_clips(records, np.array([position]), indices[None], image_size)
    return frames, rectangles


def read_clips(records: RecordSet | ImageTracklets, positions: np.ndarray, indices: np.ndarray,
               image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Reads the frames `indices`, int `[B, T]`, of the tracklets at `positions`, int `[B]`.

    Returns frames uint8 `[B, T, H, W, 3]`, RGB, and rectangles int32 `[B, T, 4]` in pixels of `image_size` (H, W). A
    frame of another size is resized as Pillow does it, bilinear and antialiased; its rectangle is scaled with it,
    outwards to whole pixels. InputError if a frame cannot be read or decoded, IndexError if a tracklet has fewer.
    """
    frames = np.empty((*indices.shape, *image_size, 3), np.uint8)
    rectangles = np.empty((*indices.shape, 4), np.int32)
    for row, (position, clip) in enumerate(zip(positions.tolist(), indices, strict=True)):
        chosen = clip.tolist()
        for column, k in enumerate(chosen):
            first = chosen.index(k)  # clips of short tracklets repeat frames
            frames[row, column] = (frames[row, first] if first < column else
                                   _resize(records.image(position, k), image_size))
        rectangles[row] = _scale(records.rectangles(position)[clip], records.image_sizes(position)[clip], image_size)
    return frames, rectangles


def _resize(image: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    height, width = image_size
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _scale(rectangles: np.ndarray, sizes: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Rectangles `[T, 4]` in frames of sizes `[T, 2]`, scaled to another size, outwards to whole pixels."""
    (height, width), (new_height, new_width) = sizes.T, image_size
    y0, y1, x0, x1 = rectangles.T
    return np.stack([y0 * new_height // height, -(-y1 * new_height // height),
                     x0 * new_width // width, -(-x1 * new_width // width)], axis=-1)
