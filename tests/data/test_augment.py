"""What happens to clips on the device."""

from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cfaan_jax.data import augment

GOLDEN = np.load(Path(__file__).parents[1] / "golden/sampling.npz")
MEAN, STD = np.array(augment.IMAGENET_MEAN), np.array(augment.IMAGENET_STD)


def settings(**changes):
    released = {"flip": 0.5, "erasing": 0.5, "erasing_area": (0.02, 0.4), "erasing_aspect": (0.3, 1 / 0.3)}
    return SimpleNamespace(**{**released, **changes})


def whole(frames: np.ndarray) -> np.ndarray:
    return np.tile(np.array([0, frames.shape[2], 0, frames.shape[3]], np.int32), (*frames.shape[:2], 1))


def random_frames(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_frames_are_normalised_with_the_moments_of_imagenet():
    frames = random_frames(2, 3, 32, 16)
    clips, _ = augment.prepare(frames, whole(frames))
    np.testing.assert_allclose(clips, (frames / 255 - MEAN) / STD, atol=1e-6)
    assert clips.dtype == jnp.float32


def test_rectangles_are_floored_to_cells_at_both_ends():
    rectangles = np.array([[[0, 256, 0, 128], [16, 250, 15, 127], [33, 64, 47, 48]]], np.int32)
    _, cells = augment.prepare(np.zeros((1, 3, 256, 128, 3), np.uint8), rectangles)
    np.testing.assert_array_equal(cells, [[[0, 16, 0, 8], [1, 15, 0, 7], [2, 4, 2, 3]]])


@pytest.mark.parametrize("height, width", [(256, 128), (64, 32), (100, 40)])
def test_every_mask_keeps_at_least_one_cell_of_the_map(height, width):
    rng = np.random.default_rng(0)
    rectangles = np.stack([rng.integers(0, end + 1, 2000) for end in (height, height, width, width)], -1)
    rectangles = np.concatenate([rectangles, [[0, 0, 0, 0], [height, height, width, width], [0, height, 0, width]]])
    _, cells = augment.prepare(np.zeros((1, 1, height, width, 3), np.uint8), rectangles[None].astype(np.int32))
    top, bottom, left, right = np.moveaxis(np.asarray(cells), -1, 0)
    assert (0 <= top).all() and (top < bottom).all() and (bottom <= -(-height // 16)).all()
    assert (0 <= left).all() and (left < right).all() and (right <= -(-width // 16)).all()


def test_masks_are_mirrored_as_the_released_code_does():
    mask = GOLDEN["mask_flip/mask"].astype(np.int32)
    np.testing.assert_array_equal(augment.mirror(mask, 8), GOLDEN["mask_flip/flipped"])


def test_a_flip_mirrors_all_frames_of_a_clip_and_their_masks():
    frames = random_frames(64, 3, 32, 64)
    rectangles = np.tile(np.array([[0, 32, 0, 16], [0, 16, 16, 48], [16, 32, 48, 64]], np.int32), (64, 1, 1))
    plain, cells = augment.prepare(frames, rectangles)
    clips, flipped, _ = augment.prepare_training(jax.random.key(0), frames, rectangles, settings(erasing=0.0))
    mirrored = np.array([not np.array_equal(one, other) for one, other in zip(clips, plain, strict=True)])
    assert 16 < mirrored.sum() < 48
    np.testing.assert_array_equal(clips[mirrored], plain[mirrored][..., ::-1, :])
    np.testing.assert_array_equal(flipped[~mirrored], cells[~mirrored])
    np.testing.assert_array_equal(flipped[mirrored][0], [[0, 2, 3, 4], [0, 1, 1, 3], [1, 2, 0, 1]])


def test_erasing_has_the_released_shares_shapes_and_fill():
    frames = np.zeros((400, 2, 64, 32, 3), np.uint8)
    clips, cells, hit = augment.prepare_training(jax.random.key(1), frames, whole(frames), settings(flip=0.0))
    erased = np.isclose(clips, MEAN.astype(np.float32)).all(-1).reshape(-1, 64, 32)
    touched = erased.any((1, 2))
    np.testing.assert_array_equal(hit.reshape(-1), touched)
    assert (touched.reshape(400, 2).sum(1) == 1).any()  # frames of a clip are erased one by one
    assert abs(touched.mean() - 0.5) < 0.06  # 800 frames: three standard deviations are 0.053
    tall, wide = erased.any(2).sum(1)[touched], erased.any(1).sum(1)[touched]
    area = erased.sum((1, 2))[touched]
    np.testing.assert_array_equal(area, tall * wide)  # one whole rectangle
    share = area / (64 * 32)
    assert 0.015 < share.min() < 0.05 and 0.36 < share.max() < 0.42 and abs(share.mean() - 0.21) < 0.03
    assert 0.2 < (tall / wide).min() < 0.5 and 2.8 < (tall / wide).max() < 4.2
    assert erased[:, 0].any() and erased[:, -1].any() and erased[:, :, 0].any() and erased[:, :, -1].any()
    np.testing.assert_array_equal(cells, np.tile([0, 4, 0, 2], (400, 2, 1)))
    untouched = np.asarray(clips).reshape(-1, 64, 32, 3)[~erased]
    np.testing.assert_allclose(untouched, np.broadcast_to(-MEAN / STD, untouched.shape), atol=1e-6)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_probabilities_of_zero_and_one_are_kept(probability):
    frames = random_frames(20, 2, 64, 32)
    always = settings(flip=probability, erasing=probability)
    clips, *_ = augment.prepare_training(jax.random.key(3), frames, whole(frames), always)
    assert np.isclose(clips, MEAN.astype(np.float32)).all(-1).any((2, 3)).mean() == probability


def test_the_same_key_gives_the_same_clips_under_jit():
    frames = random_frames(2, 2, 32, 16)
    run = jax.jit(lambda key: augment.prepare_training(key, frames, whole(frames), settings()))
    one, again, other = run(jax.random.key(4)), run(jax.random.key(4)), run(jax.random.key(5))
    np.testing.assert_array_equal(one[0], again[0])
    assert not np.array_equal(one[0], other[0])
