"""Scores against the released evaluators' numbers, against cases worked out by hand, and against a plain definition."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfaan_jax import metrics
from cfaan_jax.metrics import protocols, ranking
from tests.data_prep.checks import check_refused

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "eval_protocol.npz")
CASES = json.loads(str(GOLDEN["meta"]))["cases"]


def matrix_case(name):
    return {key: GOLDEN[f"{name}/{key}"] for key in
            ("distmat", "q_pids", "g_pids", "q_camids", "g_camids", "q_ambis", "g_ambis", "max_rank")}


def score_case(case, protocol, **changes):
    arguments = {"q_second": case["q_ambis"], "g_second": case["g_ambis"], "max_rank": int(case["max_rank"]), **changes}
    return metrics.score(case["distmat"], case["q_pids"], case["g_pids"], case["q_camids"], case["g_camids"],
                         protocol, **arguments)


@pytest.mark.parametrize("protocol, prefix", [("mars", "old"), ("mars_revised", "new")])
@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("metric")])
def test_matches_the_released_evaluator(name, protocol, prefix):
    result = score_case(matrix_case(name), protocol)
    np.testing.assert_allclose(result.cmc, GOLDEN[f"{name}/{prefix}_cmc"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(result.mAP, GOLDEN[f"{name}/{prefix}_mAP"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(result.ap.mean(), result.mAP, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("metric")])
def test_matches_the_released_metric_from_features(name):
    features, queries = GOLDEN[f"{name}/features"], int(GOLDEN[f"{name}/num_query"])
    if CASES[name]["feat_norm"] == "yes":
        features = features / np.linalg.norm(features, axis=1, keepdims=True)
    pids, camids, second = (GOLDEN[f"{name}/{key}"] for key in ("pids", "camids", "ambis"))
    result = metrics.score(-features[:queries] @ features[queries:].T, pids[:queries], pids[queries:],
                           camids[:queries], camids[queries:], "mars_revised" if CASES[name]["new_eval"] else "mars",
                           second[:queries], second[queries:])
    np.testing.assert_allclose(result.cmc, GOLDEN[f"{name}/cmc"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(result.mAP, GOLDEN[f"{name}/mAP"], rtol=0, atol=1e-9)


def test_by_hand():
    """Query of person 1, camera 1. In order of distance: right, ignored (own camera), wrong, right."""
    arguments = ([[0.1, 0.2, 0.3, 0.4]], [1], [1, 1, 2, 1], [1], [2, 1, 2, 3])
    step = metrics.score(*arguments, "mars", max_rank=4)
    assert step.ap.tolist() == [pytest.approx((1 / 1 + 2 / 3) / 2)]
    assert step.cmc.tolist() == [1, 1, 1, 1]
    assert (step.num_valid, step.num_queries, step.gallery_size, step.protocol) == (1, 1, 4, "mars")
    # Ranks 1 and 3. Before rank 1 the precision counts as 1, at rank 2 it is 1/2.
    trapezoid = metrics.score(*arguments, "mars_matlab")
    assert trapezoid.ap.tolist() == [pytest.approx(((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2) / 2)]


def test_unmatched_queries_count_only_where_the_protocol_says_so():
    arguments = ([[0.1, 0.2], [0.1, 0.2], [0.1, 0.2]], [1, 5, 2], [1, 2], [1, 1, 2], [2, 2])
    skipped = metrics.score(*arguments, "mars", max_rank=2)  # query 2 has its only match under its own camera
    assert (skipped.num_valid, skipped.valid.tolist(), skipped.mAP, skipped.cmc.tolist()) == (1, [0], 1, [1, 1])
    counted = metrics.score(*arguments, "mars_matlab", max_rank=2)
    assert (counted.num_valid, counted.num_queries) == (1, 3)
    assert counted.mAP == pytest.approx(1 / 3) and counted.cmc.tolist() == pytest.approx([1 / 3, 1 / 3])


def test_revised_rules_by_hand():
    """Own-camera distractors are ignored; an ambiguous tracklet is a right answer to both its people."""
    distances, camids = [[0.1, 0.2, 0.3, 0.4]], [1, 2, 2, 2]
    g_pids, g_second = [0, 2, 2, 1], [0, 2, 1, 1]
    result = metrics.score(distances, [1], g_pids, [1], camids, "mars_revised", [1], g_second)
    assert result.ap.tolist() == [pytest.approx((1 / 2 + 2 / 3) / 2)]
    original = metrics.score(distances, [1], g_pids, [1], camids, "mars", [1], g_second)
    assert original.ap.tolist() == [pytest.approx(1 / 4)]
    # The other way round: an ambiguous query finds both people, and ignores both under its own camera.
    g_pids = [2, 3, 2, 1]
    result = metrics.score(distances, [1], g_pids, [1], camids, "mars_revised", [2], g_pids)
    assert result.ap.tolist() == [pytest.approx((1 / 2 + 2 / 3) / 2)]


def test_distractors_and_junk_are_nobody():
    """A query that a correction turned into a distractor matches no other distractor."""
    result = metrics.score([[0.1, 0.2]] * 2, [0, 1], [0, 1], [1, 1], [2, 2], "mars_revised", max_rank=2)
    assert result.valid.tolist() == [1]


def plain_definition(distmat, identities, max_rank):
    """CMC and AP by a stable sort and loops, as the evaluators of the field are written."""
    curves, aps, valid = [], [], []
    for q, distances in enumerate(distmat):
        good, bad = [], []
        for g in np.argsort(distances, kind="stable"):
            mine = {identities.q_pids[q], identities.q_second[q] if identities.revised else identities.q_pids[q]}
            other = {identities.g_pids[g], identities.g_second[g] if identities.revised else identities.g_pids[g]}
            match = bool((mine & other) - {0, -1})
            here = identities.q_camids[q] == identities.g_camids[g]
            ignored = identities.g_pids[g] == -1 or here and (match or identities.revised and identities.g_pids[g] == 0)
            if not ignored:
                good.append(match)
                bad.append(not match)
        if any(good):
            hits = np.flatnonzero(good)
            aps.append(np.mean([(i + 1) / (hit + 1) for i, hit in enumerate(hits)]))
            curves.append(np.arange(max_rank) >= hits[0])
            valid.append(q)
    return np.mean(curves, axis=0), np.array(aps), np.array(valid)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), revised=st.booleans(), levels=st.sampled_from([1, 3, 20, 10**6]))
def test_equals_the_plain_definition(seed, revised, levels):
    rng = np.random.default_rng(seed)
    queries, rows = int(rng.integers(1, 8)), int(rng.integers(1, 40))
    q_pids, g_pids = rng.integers(1, 6, queries), rng.integers(-1, 6, rows)
    people = np.union1d(q_pids, g_pids[g_pids > 0])
    q_second = np.where(rng.random(queries) < 0.3, rng.choice(people, queries), q_pids)
    g_second = np.where(rng.random(rows) < 0.3, rng.choice(people, rows), g_pids)
    identities = ranking.Identities(q_pids, g_pids, rng.integers(1, 4, queries), rng.integers(1, 4, rows),
                                    q_second, g_second, revised)
    distmat = rng.integers(0, levels, (queries, rows)).astype(np.float32)
    given = (distmat, q_pids, g_pids, identities.q_camids, identities.g_camids, "mars_revised" if revised else "mars",
             q_second, g_second, 10)
    if not any((g_pids[identities.of_query(q)[0]] != -1).any() for q in range(queries)):
        check_refused("none of the", metrics.score, *given)
        return
    result = metrics.score(*given)
    cmc, ap, valid = plain_definition(distmat, identities, 10)
    np.testing.assert_allclose(result.cmc, cmc, atol=1e-12)
    np.testing.assert_allclose(result.ap, ap, atol=1e-12)
    np.testing.assert_array_equal(result.valid, valid)


def test_score_all_equals_one_score_after_another():
    """Of query and gallery split of one data set, which are mixed in the order of its file."""
    rng, n, rest = np.random.default_rng(3), 12, 80
    order, pids = rng.permutation(n + rest), np.r_[rng.integers(1, 8, n), rng.integers(-1, 8, rest)]
    tracks = np.r_[np.sort(order[:n]), np.sort(order[n:])]
    distmat, camids = rng.integers(0, 30, (n, n + rest)).astype(np.float32), rng.integers(1, 4, n + rest)
    corrected = np.where(np.arange(n + rest) % 7 == 0, 3, pids)
    ambiguous = (rng.random(n + rest) < 0.2) & (pids > 0)
    second = np.where(corrected > 0, np.where(ambiguous, 3, pids).clip(1), corrected)
    galleries = {name: protocols.gallery_rows(protocol, pids[:n], pids[n:], tracks[:n], tracks[n:])
                 for name, protocol in protocols.PROTOCOLS.items()}
    together = metrics.score_all(distmat, pids[:n], pids, camids[:n], camids, list(galleries), second[:n], second,
                                 galleries=galleries, q_corrected=corrected[:n], g_corrected=corrected)
    assert list(together) == list(galleries)
    for name, rows in galleries.items():
        who = corrected if protocols.get(name).revised else pids
        alone = metrics.score(distmat[:, rows], who[:n], who[rows], camids[:n], camids[rows], name,
                              second[:n], second[rows])
        np.testing.assert_array_equal(together[name].ap, alone.ap)
        np.testing.assert_array_equal(together[name].cmc, alone.cmc)
        assert together[name].gallery_size == alone.gallery_size == len(rows)
    assert len({together[name].mAP for name in together}) > 4  # the protocols do differ on this data


VALID = dict(distmat=np.array([[0.1, 0.2]]), q_pids=[1], g_pids=[1, 2], q_camids=[1], g_camids=[2, 2])


@pytest.mark.parametrize("changes, message", [
    (dict(protocol="market"), "unknown protocol 'market'.*mars_with_queries.*dukev, or <name>_revised"),
    (dict(distmat=np.zeros((1, 0)), g_pids=[], g_camids=[]), "shape .1, 0.*not empty"),
    (dict(distmat=np.zeros((0, 2)), q_pids=[], q_camids=[]), "shape .0, 2.*not empty"),
    (dict(distmat=np.array([[0.1, np.nan]])), "query 0 hold NaN"),
    (dict(distmat=np.array([0.1, 0.2])), "real matrix"), (dict(distmat=np.array([["a", "b"]])), "real matrix"),
    (dict(g_pids=[1, 2, 3]), "g_pids has shape .3,.*needs .2,."),
    (dict(q_camids=[1, 1]), "q_camids has shape .2,.*needs .1,."),
    (dict(g_second=[1]), "g_second has shape"),
    (dict(g_pids=[1.5, 2]), "g_pids holds values that are not whole numbers"),
    (dict(g_pids=[2, 2]), "none of the 1 queries has a right answer"),
    (dict(g_camids=[1, 1]), "none of the 1 queries has a right answer"),
    (dict(max_rank=0), "max_rank is 0"), (dict(check_sizes=True), "the real data set has 1980")])
def test_bad_input_has_a_defined_error(changes, message):
    arguments = VALID | dict(protocol="mars_revised" if "g_second" in changes else "mars") | changes
    assert metrics.score(**VALID).mAP == 1  # without the mistake
    check_refused(message, metrics.score, **arguments)


@pytest.mark.parametrize("marker", [-1, 0, 9999])
def test_shared_marker_for_not_ambiguous_is_refused(marker):
    case = matrix_case("plain")
    seconds = {f"{side}_second": np.full_like(case[f"{side}_pids"], marker) for side in "qg"}
    check_refused(f"second identity {marker} of .* looks like a marker", score_case, case, "mars_revised", **seconds)


def test_galleries_must_be_columns_of_the_matrix():
    for rows, message in (([], "empty"), ([0, 2], "different columns out of 2"), ([1, 1], "different columns")):
        check_refused(message, metrics.score_all, **VALID, protocols=["mars"], galleries={"mars": np.array(rows, int)})


def test_ranking_needs_little_memory_beside_the_distances():
    """Ranks 300 queries against 20,000 rows (24 MB)."""
    rng = np.random.default_rng(0)
    distmat = rng.random((300, 20_000), np.float32)
    g_pids, g_camids = rng.integers(0, 500, 20_000), rng.integers(2, 6, 20_000)
    tracemalloc.start()
    metrics.score(distmat, rng.integers(1, 500, 300), g_pids, np.ones(300, int), g_camids, "mars")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20
