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


@pytest.mark.parametrize("mode", RELEASED_NAMES)
def test_each_way_of_testing_takes_the_released_frames(mode):
    for clip_length, length, expected in golden(RELEASED_NAMES[mode]):
        indices = clips.test_clips(length, clip_length, mode)
        np.testing.assert_array_equal(indices.reshape(-1), expected, err_msg=f"T={clip_length} n={length}")
        assert indices.shape[1] == clip_length


def test_training_draws_every_frame_of_the_released_pools_and_no_other():
    rng = np.random.default_rng(0)
    for clip_length, length, pools in golden("train_pool"):
        drawn = clips.train_clips(np.full(60 * pools.shape[1], length), clip_length, rng)
        for slot, pool in enumerate(pools):
            assert set(drawn[:, slot]) == set(pool[pool >= 0]), f"T={clip_length} n={length} slot {slot}"


@given(length=st.integers(1, 1000), clip_length=st.integers(1, 16), seed=st.integers(0, 2**32),
       sampling=st.sampled_from(sorted(clips.SAMPLINGS)))
def test_training_frames_exist_and_are_in_order(length, clip_length, seed, sampling):
    [drawn] = clips.train_clips([length], clip_length, np.random.default_rng(seed), sampling)
    assert drawn.shape == (clip_length,)
    assert 0 <= drawn.min() and drawn.max() < length
    assert (np.diff(drawn) >= 0).all() or (sampling == "consecutive" and length < clip_length)


@given(length=st.integers(1, 300), clip_length=st.integers(1, 16))
def test_both_exhaustive_modes_use_every_frame(length, clip_length):
    for mode in ("all_sampled", "all_continuous", "dense", "dense_cut"):
        assert set(clips.test_clips(length, clip_length, mode).reshape(-1)) - {-1} == set(range(length))


@pytest.mark.parametrize("file", ["tclnet_blocks", "ftwft_models_eval"])
def test_dense_clips_are_those_of_tclnet_and_ft_wft(file):
    stored = np.load(Path(__file__).parents[1] / f"golden/{file}.npz")
    keys = [key for key in stored.files if key.startswith("clips/T")]
    assert keys
    for key in keys:
        clip_length, length = (int(part.strip("Tlen_")) for part in key.split("/")[1:])
        np.testing.assert_array_equal(clips.test_clips(length, clip_length, "dense"), stored[key], err_msg=key)


def test_cut_clips_are_those_of_ap3d():
    stored = np.load(Path(__file__).parents[1] / "golden/ap3d_head_losses.npz")
    keys = [key for key in stored.files if key.endswith("/clip_lengths")]
    assert keys
    for key in keys:
        length = int(key.split("/")[1].removeprefix("len_"))
        indices = clips.test_clips(length, 4, "dense_cut")
        np.testing.assert_array_equal((indices >= 0).sum(1), [4] * (length // 4) + [length % 4] * (length % 4 > 0))
        assert len(indices) == len(stored[key]) == -(-length // 4)
        np.testing.assert_array_equal(indices[indices >= 0], np.arange(length))


@pytest.mark.parametrize("length, firsts", [(70, range(46)), (32, range(8))])
def test_strided_clips_take_every_eighth_frame(length, firsts):
    drawn = clips.train_clips([length] * 800, 4, np.random.default_rng(0), "strided")
    assert (np.diff(drawn) == 8).all() and set(drawn[:, 0]) == set(firsts)


@pytest.mark.parametrize("length", [4, 9, 31])
def test_strided_clips_of_shorter_tracklets_are_different_frames_in_order(length):
    drawn = clips.train_clips([length] * 600, 4, np.random.default_rng(0), "strided")
    assert (np.diff(drawn) > 0).all() and set(drawn.reshape(-1)) == set(range(length))


def test_consecutive_clips_begin_anywhere_but_at_the_last_place():
    drawn = clips.train_clips([10] * 200, 4, np.random.default_rng(0), "consecutive")
    assert (np.diff(drawn) == 1).all() and set(drawn[:, 0]) == set(range(6))
    np.testing.assert_array_equal(clips.train_clips([3], 4, np.random.default_rng(0), "consecutive"), [[0, 1, 2, 0]])


@pytest.mark.parametrize("sampling", clips.SAMPLINGS)
def test_clips_are_drawn_one_behind_the_other_from_one_stream(sampling):
    """So what a tracklet gives depends on those before it alone."""
    lengths, rng = np.random.default_rng(0).integers(1, 200, 40), np.random.default_rng(1)
    one_by_one = [clips.train_clips([length], 6, rng, sampling)[0] for length in lengths]
    np.testing.assert_array_equal(clips.train_clips(lengths, 6, np.random.default_rng(1), sampling), one_by_one)


def test_an_unknown_mode_is_named():
    with pytest.raises(ValueError, match="all_smapled"):
        clips.test_clips(10, 6, "all_smapled")
