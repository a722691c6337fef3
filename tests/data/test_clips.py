"""Which frames make a clip, against the frames that the authors' code takes."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfaan_jax.data import clips

GOLDEN = np.load(Path(__file__).parents[1] / "golden/sampling.npz")
RELEASED_NAMES = {"test": "test", "test_0": "test_0", "all_sampled": "test_all_sampled",
                  "all_continuous": "test_all_continuous"}


def golden(mode: str) -> list[tuple[int, int, np.ndarray]]:
    """(clip length, tracklet length, the reference's answer) of every case."""
    keys = [key.split("/") for key in GOLDEN.files if f"/{mode}/len_" in key]
    assert keys, f"no golden case for {mode}"
    return [(int(t[1:]), int(length[4:]), GOLDEN["/".join((t, mode, length))]) for t, mode, length in keys]


@pytest.mark.parametrize("mode", clips.MODES)
def test_each_way_of_testing_takes_the_released_frames(mode):
    for clip_length, length, expected in golden(RELEASED_NAMES[mode]):
        found = clips.test_clips(length, clip_length, mode)
        np.testing.assert_array_equal(found.reshape(-1), expected, err_msg=f"T={clip_length} n={length}")
        assert found.shape[1] == clip_length


def test_training_draws_every_frame_of_the_released_pools_and_no_other():
    rng = np.random.default_rng(0)
    for clip_length, length, pools in golden("train_pool"):
        drawn = np.stack([clips.train_indices(length, clip_length, rng) for _ in range(60 * pools.shape[1])])
        for slot, pool in enumerate(pools):
            assert set(drawn[:, slot]) == set(pool[pool >= 0]), f"T={clip_length} n={length} slot {slot}"


@given(length=st.integers(1, 1000), clip_length=st.integers(1, 16), seed=st.integers(0, 2**32))
def test_training_frames_exist_and_are_in_order(length, clip_length, seed):
    drawn = clips.train_indices(length, clip_length, np.random.default_rng(seed))
    assert drawn.shape == (clip_length,)
    assert 0 <= drawn.min() and drawn.max() < length and (np.diff(drawn) >= 0).all()


@given(length=st.integers(1, 300), clip_length=st.integers(1, 16))
def test_both_exhaustive_modes_use_every_frame(length, clip_length):
    for mode in ("all_sampled", "all_continuous"):
        assert set(clips.test_clips(length, clip_length, mode).reshape(-1)) == set(range(length))


def test_an_unknown_mode_is_named():
    with pytest.raises(ValueError, match="all_smapled"):
        clips.test_clips(10, 6, "all_smapled")
