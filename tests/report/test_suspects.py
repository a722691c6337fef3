import numpy as np
import pytest

from cfaan_jax.metrics.search import Search
from cfaan_jax.report.label_review import suspects
from tests import tiny_records
from tests.data_prep.checks import check_refused


def search(pids, centres, noise=0.3, seed=0, **fields) -> Search:
    """Tracklets labelled `pids`, the features of each around the centre of the person it really shows."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(max(centres) + 1, 32))[list(centres)] + noise * rng.normal(size=(len(pids), 32))
    return Search(features.astype(np.float32), num_queries=0, names=np.array([f"t{i}" for i in range(len(pids))]),
                  track_ids=np.arange(len(pids)), pids=np.array(pids), about=tiny_records.ABOUT,
                  **dict(camids=rng.integers(1, 4, len(pids))) | fields)


def test_wrong_labels_and_duplicates_come_first():
    """Ten people with five tracklets each; tracklet 7 of person 1 shows person 4, distractors 50 and 52 show 2."""
    shown = [*np.repeat(np.arange(10), 5), 2, 10, 2, 11]
    pids = [*np.repeat(np.arange(1, 11), 5), 0, 0, 0, 0]
    shown[7] = 4
    first = suspects.find(search(pids, shown))[:3]
    assert first[0].row == 7 and first[0].kind == suspects.IDENTITY and first[0].weight > 0
    assert {suspect.row for suspect in first if suspect.kind == suspects.DUPLICATE} <= {50, 52}
    assert len(first[0].others) == 3 and [pids[row] for row in first[0].others[0]] == [5] * 3
    assert set(first[0].own) < {5, 6, 8, 9}


def test_junk_is_neither_suspect_nor_match():
    shown, pids = [0, 0, 1, 1, 0, 1], [1, 1, 2, 2, -1, -1]
    doubtful = suspects.find(search(pids, shown))
    assert {suspect.row for suspect in doubtful} == {0, 1, 2, 3}
    assert all(row < 4 for suspect in doubtful for row in sum(suspect.others, suspect.own))


def test_two_persons_by_the_share_of_frames():
    crowded = np.array([[1, 2], [10, 20], [1, 30], [0, 9], [9, 9], [0, 4]])
    doubtful = suspects.find(search([1, 1, 2, 2, 3, 3], [0, 0, 1, 1, 2, 2]), crowded)
    weights = {suspect.row: suspect.weight for suspect in doubtful if suspect.kind == suspects.AMBIGUOUS}
    assert max(weights, key=weights.get) == 4
    bound = suspects.lower_bound(*crowded.T)
    assert bound[4] > bound[1] > bound[0]  # one frame of two says less than ten of twenty
    assert not [each for each in suspects.find(search([1, 1, 2, 2], [0, 0, 1, 1])) if each.kind == suspects.AMBIGUOUS]


def test_lower_bound_is_wilsons():
    """8 of 10: centre (0.8 + 2.706 / 20) / 1.2706, half a width 1.645 sqrt(0.016 + 2.706 / 400) / 1.2706."""
    assert suspects.lower_bound(np.array([8]), np.array([10]))[0] == pytest.approx(0.5408, abs=5e-4)
    assert suspects.lower_bound(np.array([0]), np.array([5]))[0] == pytest.approx(0, abs=1e-12)


def test_evidence_is_that_of_the_two_nearest():
    evidence = np.array([[3.0, -1, 5], [-np.inf, 2, -np.inf], [-np.inf, -np.inf, -np.inf]])
    assert suspects._mean_of_best(evidence).tolist() == [4, 2, -np.inf]


def test_blocks_change_nothing(monkeypatch):
    shown = np.repeat(np.arange(8), 4)
    labelled = search(shown + 1, shown)
    whole = suspects.find(labelled)
    monkeypatch.setattr(suspects, "_BLOCK", 5)
    assert [(each.row, each.kind, each.own, each.others) for each in suspects.find(labelled)] == [
        (each.row, each.kind, each.own, each.others) for each in whole]


def test_cosines_under_one_camera_count_less():
    """People of camera 1 all look alike there: a high cosine says nothing for pairs under it."""
    rng = np.random.default_rng(3)
    people, camids = np.repeat(np.arange(12), 4), np.tile([1, 1, 2, 3], 12)
    background = np.where(camids == 1, 3.0, 0.0)[:, None] * rng.normal(size=32)
    features = rng.normal(size=(12, 32))[people] + background + 0.3 * rng.normal(size=(48, 32))
    tracks = np.arange(48)
    resemblance = suspects._Resemblance(
        Search(features.astype(np.float32), 0, tracks.astype(str), tracks, people + 1, camids, tiny_records.ABOUT))
    assert resemblance._bits(0.7, True) < resemblance._bits(0.7, False)


@pytest.mark.parametrize("pids, message", [([1, 2, 3], "two tracklets"), ([1, 1, 0], "only one identity")])
def test_sets_that_tell_nothing(pids, message):
    check_refused(message, suspects.find, search(pids, [0, 1, 2]))


def test_each_tracklet_comes_once():
    doubtful = suspects.find(search([1, 1, 2, 2], [0, 0, 1, 1]), np.array([[4, 4], [0, 4], [0, 4], [3, 4]]))
    assert sorted(suspect.row for suspect in doubtful) == [0, 1, 2, 3]
