"""Which frames of a tracklet make a clip: in training one clip by one of `SAMPLINGS`, in evaluation by one of `MODES`.

Restricted random sampling (Li et al., "Diversity Regularized Spatiotemporal Attention", CVPR 2018; section 4.1 of the
CF-AAN paper) pads a tracklet of n frames with its last frame to a multiple of T and divides it into T equal parts.
"""

from collections.abc import Callable

import numpy as np

MODES = ("test", "test_0", "all_sampled", "all_continuous", "dense", "dense_cut")
STRIDE = 8  # of strided sampling


def train_clips(lengths: np.ndarray, clip_length: int, rng: np.random.Generator,
                sampling: str = "restricted") -> np.ndarray:
    """Draws training clips of tracklets with `lengths` frames, int `[B]`, at least 1: indices of frames, int `[B, T]`.

    "restricted": one frame drawn uniformly from each of the T parts (CF-AAN).
    "strided": every eighth frame from a random start; from a tracklet shorter than 8 T frames T random frames, in order
        (AP3D, TCLNet).
    "consecutive": T frames from a random start, which for a longer tracklet is never the last possible one; a tracklet
        shorter than T is repeated (FT-WFT).
    """
    return SAMPLINGS[sampling](np.asarray(lengths)[:, None], clip_length, rng)


def _restricted(lengths: np.ndarray, clip_length: int, rng: np.random.Generator) -> np.ndarray:
    sizes = -(-lengths // clip_length)  # frames in a part
    drawn = rng.integers(sizes, size=(len(lengths), clip_length))
    return np.minimum(sizes * np.arange(clip_length) + drawn, lengths - 1)


def _strided(lengths: np.ndarray, clip_length: int, rng: np.random.Generator) -> np.ndarray:
    return np.stack([_strided_clip(length, clip_length, rng) for length in lengths[:, 0]])


def _strided_clip(length: int, clip_length: int, rng: np.random.Generator) -> np.ndarray:
    if length < clip_length * STRIDE:
        return np.sort(rng.choice(length, clip_length, replace=length < clip_length))
    return rng.integers(length - (clip_length - 1) * STRIDE) + STRIDE * np.arange(clip_length)


def _consecutive(lengths: np.ndarray, clip_length: int, rng: np.random.Generator) -> np.ndarray:
    return (rng.integers(np.maximum(lengths - clip_length, 1)) + np.arange(clip_length)) % lengths


SAMPLINGS: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
    "restricted": _restricted, "strided": _strided, "consecutive": _consecutive}


def test_clips(length: int, clip_length: int, mode: str) -> np.ndarray:
    """The clips that represent a whole tracklet of at least one frame in evaluation: indices, int `[clips, T]`.

    "test": one clip, the first frame of each part.
    "test_0": one clip from the start at the largest stride of 8, 4, 2, 1 that fits; a shorter tracklet is repeated.
    "all_sampled": clip i holds frame i of each part (the published results).
    "all_continuous": consecutive frames, padded with the last frame.
    "dense": consecutive frames, the last clip padded with its own frames from its start (TCLNet, FT-WFT).
    "dense_cut": consecutive frames, the last clip is shorter, with -1 after its end (AP3D).
    ValueError for another mode.
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
    if mode in ("dense", "dense_cut"):
        frames = np.arange(-(-length // clip_length) * clip_length).reshape(-1, clip_length)
        start, missing = frames[-1, 0], frames[-1] >= length
        repeated = start + np.arange(clip_length) % (length - start)
        frames[-1] = np.where(missing, -1 if mode == "dense_cut" else repeated, frames[-1])
        return frames
    raise ValueError(f"unknown mode '{mode}' of clips; choose one of {', '.join(MODES)}")


test_clips.__test__ = False  # pytest takes the name for a test


def _parts(length: int, clip_length: int) -> np.ndarray:
    """The padded tracklet as `[T, frames in a part]`."""
    size = -(-length // clip_length)
    return np.minimum(np.arange(clip_length * size), length - 1).reshape(clip_length, size)
