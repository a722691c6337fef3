"""Re-ranking against the authors' code, against a plain reading of the paper, and at its edges."""

import numpy as np
import pytest

from cfaan_jax import metrics
from tests.data_prep.checks import check_refused
from tests.golden_cases import FOLDER

CASES = np.load(FOLDER / "re_ranking.npz")


@pytest.mark.parametrize("case", sorted({name.partition("/")[0] for name in CASES.files if "/" in name}))
def test_distances_are_the_references(case):
    arrays = {name: CASES[f"{case}/{name}"] for name in ("query", "gallery", "k1", "k2", "lambda_value", "final_dist")}
    distances = metrics.rerank(arrays["query"], arrays["gallery"], k1=int(arrays["k1"]), k2=int(arrays["k2"]),
                           lambda_value=float(arrays["lambda_value"]))
    np.testing.assert_allclose(distances, arrays["final_dist"], rtol=0, atol=0.005)  # the reference computes in float16


def plain(query, gallery, k1, k2, share):
    """The published algorithm with dense matrices in float64."""
    features = np.concatenate([query, gallery]).astype(np.float64)
    original = ((features[:, None] - features[None]) ** 2).sum(-1)
    original /= original.max(1, keepdims=True)
    order = np.argsort(original, axis=1, kind="stable")

    def reciprocal(i, k):
        forward = order[i, :k + 1]
        return [j for j in forward if i in order[j, :k + 1]]

    encoding = np.zeros_like(original)
    for i in range(len(features)):
        own, expanded = set(reciprocal(i, k1)), set(reciprocal(i, k1))
        for j in own:
            theirs = set(reciprocal(j, int(np.around(k1 / 2))))
            if len(theirs & own) > 2 / 3 * len(theirs):
                expanded |= theirs
        expanded = sorted(expanded)
        encoding[i, expanded] = np.exp(-original[i, expanded]) / np.exp(-original[i, expanded]).sum()
    encoding = np.stack([encoding[order[i, :k2]].mean(0) for i in range(len(features))])
    queries = len(query)
    common = np.minimum(encoding[:queries, None], encoding[None, queries:]).sum(-1)
    return (1 - common / (2 - common)) * (1 - share) + original[:queries, queries:] * share


@pytest.mark.parametrize("seed, queries, gallery, k1, k2, share", [
    (0, 12, 80, 20, 6, 0.3), (1, 5, 40, 7, 3, 0.0), (2, 30, 30, 4, 1, 0.5), (3, 3, 9, 30, 12, 0.3),
    (4, 1, 1, 20, 6, 0.3)])
def test_distances_are_those_of_a_plain_reading(seed, queries, gallery, k1, k2, share):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(6, 8))
    features = centres[rng.integers(0, 6, queries + gallery)] + 0.5 * rng.normal(size=(queries + gallery, 8))
    query, gallery = features[:queries].astype(np.float32), features[queries:].astype(np.float32)
    distances = metrics.rerank(query, gallery, k1=k1, k2=k2, lambda_value=share)
    np.testing.assert_allclose(distances, plain(query, gallery, k1, k2, share), atol=2e-5)


def test_blocks_change_nothing(monkeypatch):
    features = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    whole = metrics.rerank(features[:20], features[20:])
    monkeypatch.setattr("cfaan_jax.metrics.reranking._BLOCK_BYTES", 4 * 60 * 7)
    np.testing.assert_allclose(metrics.rerank(features[:20], features[20:]), whole, atol=1e-6)


def test_equal_features_are_equally_near():
    distances = metrics.rerank(np.ones((2, 3)), np.ones((4, 3)))
    assert np.isfinite(distances).all() and np.ptp(distances) < 1e-6


@pytest.mark.parametrize("size", [1e20, 3e38, 1e-30, 2.0**70])
def test_distances_do_not_depend_on_the_size_of_features(size):
    features = np.random.default_rng(0).normal(size=(30, 5))
    features /= np.abs(features).max()
    scaled = (features * size).astype(np.float32)
    distances = metrics.rerank(scaled[:10], scaled[10:], k1=5)
    np.testing.assert_allclose(distances, metrics.rerank(features[:10], features[10:], k1=5), atol=1e-5)


@pytest.mark.parametrize("change, expected", [
    (dict(query=np.ones((2, 4))), "features have shapes"), (dict(gallery=np.ones((0, 3))), "neither empty"),
    (dict(gallery=np.array([[0, np.nan, 0]])), "row 2 is not finite"), (dict(k1=0), "k1=0"),
    (dict(k1=2.5), "k1=2.5.*whole numbers"), (dict(k2="3"), "k2=3.*whole numbers"),
    (dict(lambda_value=1.5), "lambda_value=1.5")])
def test_bad_input_is_named(change, expected):
    check_refused(expected, metrics.rerank, **{"query": np.ones((2, 3)), "gallery": np.ones((4, 3))} | change)
