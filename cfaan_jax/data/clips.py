"""Which frames of a tracklet make a clip: restricted random sampling for training, four ways of testing.

A tracklet of n frames is padded with its last frame to a multiple of T and divided into T equal parts (Li et al.,
"Diversity Regularized Spatiotemporal Attention", CVPR 2018; section 4.1 of the CF-AAN paper).
"""

import numpy as np

MODES = ("test", "test_0", "all_sampled", "all_continuous")


def train_indices(length: int, clip_length: int, rng: np.random.Generator) -> np.ndarray:
    """One frame drawn uniformly from each of the T parts.

    Args:
        length: frames in the tracklet, at least 1.
        clip_length: T.
        rng: where the draws come from.

    Returns:
        int `[T]`, indices of frames, not decreasing.
    """
    parts = _parts(length, clip_length)
    return parts[np.arange(clip_length), rng.integers(parts.shape[1], size=clip_length)]


def test_clips(length: int, clip_length: int, mode: str) -> np.ndarray:
    """The clips that stand for a whole tracklet in evaluation.

    Args:
        length: frames in the tracklet, at least 1.
        clip_length: T.
        mode: "test": one clip, the first frame of each part. "test_0": one clip from the start at the largest stride
            of 8, 4, 2, 1 that fits; a tracklet shorter than T is repeated. "all_sampled": clip i holds frame i of
            each part (the published results). "all_continuous": consecutive frames.

    Returns:
        int `[clips, T]`, indices of frames.
    """
    if mode == "test":
        return _parts(length, clip_length)[:, :1].T
    if mode == "test_0":
        stride = next((stride for stride in (8, 4, 2) if stride * (clip_length - 1) < length), 1)
        return np.arange(clip_length)[None] * stride % length
    if mode == "all_sampled":
        return _parts(length, clip_length).T
    if mode == "all_continuous":
        return _parts(length, clip_length).reshape(-1, clip_length)
    raise ValueError(f"unknown way of taking clips '{mode}'; there are {', '.join(MODES)}")


test_clips.__test__ = False  # not a test, whatever pytest makes of its name


def _parts(length: int, clip_length: int) -> np.ndarray:
    """The padded tracklet as `[T, frames in a part]`."""
    size = -(-length // clip_length)
    return np.minimum(np.arange(clip_length * size), length - 1).reshape(clip_length, size)
