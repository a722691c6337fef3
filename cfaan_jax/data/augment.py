"""From stored frames to the network's input, on the device: normalisation, masks, flip, random erasing."""

import jax
import jax.numpy as jnp

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# The released code draws up to 100 rectangles until one fits. A rectangle fits with a probability of about 0.9, so with
# ten tries fewer than one frame in 10^9 stays as it is.
_ERASING_TRIES = 10


def prepare(frames: jax.Array, rectangles: jax.Array, stride: int = 16) -> tuple[jax.Array, jax.Array]:
    """Normalises clips with ImageNet's mean and standard deviation, and scales masks to cells of the last feature map.

    Frames are uint8 `[B, T, H, W, 3]`, RGB, and rectangles `(y0, y1, x0, x1)` of real pixels int32 `[B, T, 4]`. Returns
    float32 and int32 of these shapes. A cell is `stride` pixels wide: both ends of a rectangle are divided by it and
    rounded down, to at least one cell high and wide.
    """
    mean, std = jnp.array(IMAGENET_MEAN), jnp.array(IMAGENET_STD)
    clips = (frames.astype(jnp.float32) / 255 - mean) / std
    return clips, _to_cells(rectangles, frames.shape[2], frames.shape[3], stride)


def prepare_training(key: jax.Array, frames: jax.Array, rectangles: jax.Array, config,
                     stride: int = 16) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`prepare`, then a horizontal flip of whole clips and random erasing of single frames.

    Masks are flipped with their clip. The erased rectangle of a frame covers a share of its area drawn from
    `erasing_area`, with a ratio height / width drawn from `erasing_aspect`. It is filled with IMAGENET_MEAN after the
    normalisation, as in the released code. Masks stay as they are. The config's `flip` is a probability per clip,
    `erasing` one per frame. Returns also which frames have an erased rectangle, bool `[B, T]`.
    """
    clips, cells = prepare(frames, rectangles, stride)
    flip_key, erase_key = jax.random.split(key)
    flipped = jax.random.bernoulli(flip_key, config.flip, frames.shape[:1])
    clips = jnp.where(flipped[:, None, None, None, None], clips[..., ::-1, :], clips)
    cells = jnp.where(flipped[:, None, None], mirror(cells, -(-frames.shape[3] // stride)), cells)
    erased = _erased(erase_key, frames.shape[:4], config)
    return jnp.where(erased[..., None], jnp.array(IMAGENET_MEAN), clips), cells, erased.any((2, 3))


def mirror(rectangles: jax.Array, width: int) -> jax.Array:
    """Flips rectangles `[..., 4]` horizontally inside an image or map of that width."""
    y0, y1, x0, x1 = jnp.moveaxis(rectangles, -1, 0)
    return jnp.stack([y0, y1, width - x1, width - x0], axis=-1)


def _to_cells(rectangles: jax.Array, height: int, width: int, stride: int) -> jax.Array:
    start = jnp.minimum(rectangles[..., 0::2], jnp.array([height - 1, width - 1])) // stride
    end = jnp.maximum(rectangles[..., 1::2] // stride, start + 1)
    return jnp.stack([start[..., 0], end[..., 0], start[..., 1], end[..., 1]], axis=-1).astype(jnp.int32)


def _erased(key: jax.Array, shape: tuple[int, int, int, int], config) -> jax.Array:
    """Which pixels random erasing (Zhong et al., AAAI 2020) fills: bool `[B, T, H, W]`."""
    *frames, height, width = shape
    chosen_key, area_key, aspect_key, place_key = jax.random.split(key, 4)
    tries = (*frames, _ERASING_TRIES)
    area = height * width * jax.random.uniform(area_key, tries, jnp.float32, *config.erasing_area)
    aspect = jax.random.uniform(aspect_key, tries, jnp.float32, *config.erasing_aspect)
    tall, wide = jnp.round(jnp.sqrt(area * aspect)), jnp.round(jnp.sqrt(area / aspect))
    fits = (tall < height) & (wide < width)
    first = jnp.argmax(fits, axis=-1, keepdims=True)
    tall, wide, fits = (jnp.take_along_axis(values, first, axis=-1) for values in (tall, wide, fits))
    place = jax.random.uniform(place_key, (*frames, 2))
    top, left = jnp.floor(place[..., :1] * (height - tall + 1)), jnp.floor(place[..., 1:] * (width - wide + 1))
    rows, columns = jnp.arange(height), jnp.arange(width)
    inside_rows = (rows >= top) & (rows < top + tall)
    inside_columns = (columns >= left) & (columns < left + wide)
    chosen = jax.random.bernoulli(chosen_key, config.erasing, tuple(frames)) & fits[..., 0]
    return chosen[..., None, None] & inside_rows[..., :, None] & inside_columns[..., None, :]
