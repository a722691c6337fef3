"""What differs within a tracklet counts less, without a label."""

import numpy as np
import pytest

from cfaan_jax.metrics.distances import l2_normalize, pairwise
from cfaan_jax.metrics.whitening import whitened


def yard(rng: np.random.Generator, people: int, clips: int) -> tuple[np.ndarray, np.ndarray]:
    """Clips of two tracklets of each person, whose pose hides in one direction who they are; and their tracklets."""
    who = np.repeat(rng.normal(size=(people, 16)), 2, axis=0)
    pose = np.zeros(16)
    pose[3] = 30
    features = 100 + who[:, None] + rng.normal(size=(2 * people, clips, 1)) * pose
    features += rng.normal(0, 0.1, features.shape)
    return features.reshape(-1, 16), np.repeat(np.arange(2 * people), clips)


def rank1(features: np.ndarray) -> float:
    unit = l2_normalize(features)
    return (pairwise("cosine", unit[::2], unit[1::2]).argmin(1) == np.arange(len(unit) // 2)).mean()


@pytest.mark.parametrize("clips", [2, 7])
def test_a_direction_that_says_nothing_of_a_person_stops_to_decide(clips):
    features, tracklets = yard(np.random.default_rng(clips), 40, clips)
    plain = np.array([features[tracklets == place].mean(0) for place in range(80)])
    assert rank1(plain) < 0.3 and rank1(whitened(features, tracklets, np.ones(len(features)))) > 0.8


def test_tracklets_count_alike_and_clips_by_their_frames():
    features, tracklets = yard(np.random.default_rng(0), 10, 3)
    frames = np.tile([6, 6, 2], 20)
    result = whitened(features, tracklets, frames)
    rows = np.repeat(np.arange(60), frames)  # a clip of six frames is six clips of one
    order = np.random.default_rng(1).permutation(len(rows))
    repeated = whitened(features[rows][order], tracklets[rows][order], np.ones(len(rows)))
    np.testing.assert_allclose(result, repeated, rtol=1e-4, atol=1e-4)
    twice = np.concatenate([np.arange(60), np.arange(3)])  # every clip of one tracklet again
    np.testing.assert_allclose(result, whitened(features[twice], tracklets[twice], frames[twice]), rtol=1e-4, atol=1e-4)


def test_tracklets_of_one_clip_leave_nothing_to_whiten():
    features = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    np.testing.assert_allclose(whitened(features, np.arange(12), np.full(12, 6)), features - features.mean(0),
                               atol=1e-6)
