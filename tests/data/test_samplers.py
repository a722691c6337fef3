"""P x K batches."""

import numpy as np

from cfaan_jax.data.samplers import IdentitySampler
from tests.data_prep.checks import check_refused

PIDS = np.array([30, 7, 7, 30, 12, 7, 30, 7, 30, 5, 5, 5, 5, 5, 7])  # pid 12 has one tracklet


def epoch(sampler: IdentitySampler, number: int) -> np.ndarray:
    first = number * sampler.steps_per_epoch
    return np.stack([sampler.batch(first + place) for place in range(sampler.steps_per_epoch)])


def test_each_epoch_has_every_identity_once_with_k_different_tracklets():
    sampler = IdentitySampler(PIDS, identities=2, tracklets=4, seed=0)
    for number in range(5):
        drawn = epoch(sampler, number)
        assert drawn.shape == (2, 8)
        groups = PIDS[drawn].reshape(4, 4)
        assert (groups == groups[:, :1]).all()
        assert sorted(groups[:, 0]) == [5, 7, 12, 30]
        for group in drawn.reshape(4, 4):
            assert len(set(group)) == (1 if PIDS[group[0]] == 12 else 4)


def test_an_epoch_of_tracklets_has_groups_of_each_identity():
    sampler = IdentitySampler(PIDS, identities=2, tracklets=2, seed=0, epoch_of="tracklets")
    assert sampler.steps_per_epoch == 3  # 4, 5, 5 and 1 tracklets: 2 + 2 + 2 + 1 groups, the last one left over
    seen = []
    for number in range(30):
        groups = epoch(sampler, number).reshape(-1, 2)
        assert (PIDS[groups[:, 0]] == PIDS[groups[:, 1]]).all()
        several = groups[PIDS[groups[:, 0]] != 12]
        assert len(set(several.reshape(-1))) == several.size
        seen.append(tuple(map(tuple, groups)))
    assert len(set(seen)) == 30 and {place for groups in seen for pair in groups for place in pair} == set(range(15))


def test_identities_left_over_are_dropped_and_change_from_epoch_to_epoch():
    sampler = IdentitySampler(PIDS, identities=3, tracklets=2, seed=0)
    assert sampler.steps_per_epoch == 1
    seen = {frozenset(PIDS[epoch(sampler, number)].reshape(-1)) for number in range(20)}
    assert len(seen) == 4 and all(len(each) == 3 for each in seen)


def test_mars_takes_78_batches_an_epoch():
    sampler = IdentitySampler(np.repeat(np.arange(1, 626), 13), identities=8, tracklets=4, seed=0)
    assert (sampler.num_classes, sampler.steps_per_epoch) == (625, 78)


def test_classes_follow_the_sorted_pids_whatever_the_order_of_tracklets():
    shuffled = np.random.default_rng(0).permutation(PIDS)
    sampler = IdentitySampler(shuffled, 2, 2, seed=0)
    np.testing.assert_array_equal(sampler.pids, [5, 7, 12, 30])
    np.testing.assert_array_equal(sampler.pids[sampler.labels], shuffled)


def test_junk_and_distractors_are_never_drawn():
    pids = np.concatenate([PIDS, [-1, 0, 0, -1]])
    sampler = IdentitySampler(pids, 4, 8, seed=3)
    assert sampler.num_classes == 4
    assert all((pids[epoch(sampler, number)] > 0).all() for number in range(10))


def test_too_few_identities_names_field_value_and_remedy():
    check_refused("config.data.identities=8.*4 identities.*at most 4", IdentitySampler, PIDS, 8, 4, seed=0)
