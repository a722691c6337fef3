"""Inverse negative penalty, bootstrap intervals and camera pairs, against worked examples and plain loops."""

from itertools import permutations

import numpy as np
import pytest

from cfaan_jax import metrics
from cfaan_jax.metrics.cameras import camera_pairs
from cfaan_jax.metrics.intervals import intervals
from cfaan_jax.metrics.ranking import Identities, View


def case(seed=0, queries=40, gallery=200, people=12, cameras=3):
    rng = np.random.default_rng(seed)
    labels = dict(q_pids=rng.integers(1, people, queries), g_pids=rng.integers(-1, people, gallery),
                  q_camids=rng.integers(1, cameras + 1, queries), g_camids=rng.integers(1, cameras + 1, gallery))
    return rng.random((queries, gallery)), labels


def test_the_inverse_penalty_of_a_plain_loop():
    distances, labels = case()
    score = metrics.score(distances, **labels)
    expected = []
    for query in score.valid:
        same = labels["g_pids"] == labels["q_pids"][query]
        kept = (labels["g_pids"] != -1) & ~(same & (labels["g_camids"] == labels["q_camids"][query]))
        right = same[kept][np.argsort(distances[query][kept], kind="stable")]
        expected.append(right.sum() / (np.flatnonzero(right)[-1] + 1))
        assert score.first[score.valid.tolist().index(query)] == np.flatnonzero(right)[0] + 1
    np.testing.assert_allclose(score.inp, expected)
    assert score.mINP == pytest.approx(np.mean(expected))


def test_queries_without_a_match_count_for_the_matlab_protocol():
    score = metrics.score(np.array([[0.1, 0.2], [0.1, 0.2]]), [1, 5], [1, 2], [1, 1], [2, 2], protocol="mars_matlab")
    assert score.mINP == 0.5 and score.inp.tolist() == [1.0]
    assert intervals(score, np.array([1, 5]))["mAP"] == (0.0, 1.0)


def test_intervals_are_those_of_drawing_people():
    distances, labels = case(seed=1)
    score = metrics.score(distances, **labels)
    low, high = intervals(score, labels["q_pids"], samples=4000)["mAP"]
    assert low < score.mAP < high
    rng, means = np.random.default_rng(5), []
    pids = labels["q_pids"][score.valid]
    for _ in range(4000):
        drawn = rng.choice(np.unique(pids), len(np.unique(pids)))
        means.append(np.concatenate([score.ap[pids == pid] for pid in drawn]).mean())
    np.testing.assert_allclose((low, high), np.quantile(means, (0.025, 0.975)), atol=0.004)
    assert intervals(score, labels["q_pids"]) == intervals(score, labels["q_pids"])


def test_intervals_of_one_identity_are_a_point():
    score = metrics.score(np.array([[0.1, 0.2]]), [1], [2, 1], [1], [2, 2])
    assert intervals(score, np.array([1]))["mAP"] == (0.5, 0.5)


@pytest.mark.parametrize("seed", [0, 1])
def test_camera_pairs_are_scores_of_a_part_of_the_gallery(seed):
    distances, labels = case(seed, cameras=4)
    people = Identities(*(labels[name] for name in ("q_pids", "g_pids", "q_camids", "g_camids")), labels["q_pids"],
                        labels["g_pids"], revised=False)
    pairs = camera_pairs(distances, View(people, np.arange(distances.shape[1])))
    assert pairs.cameras.tolist() == [1, 2, 3, 4] and np.isnan(np.diag(pairs.mAP)).all()
    for i, j in permutations(range(4), 2):
        q, g = labels["q_camids"] == i + 1, labels["g_camids"] == j + 1
        expected = metrics.score(distances[q][:, g], labels["q_pids"][q], labels["g_pids"][g],
                                 labels["q_camids"][q], labels["g_camids"][g])
        assert pairs.queries[i, j] == expected.num_valid
        assert pairs.mAP[i, j] == pytest.approx(expected.mAP)
