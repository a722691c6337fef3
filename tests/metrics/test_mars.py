"""All protocols on the real test split of MARS with stand-in features, against the released evaluators' numbers."""

import csv
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from cfaan_jax import metrics
from cfaan_jax.errors import InputError
from cfaan_jax.metrics import protocols
from tests.golden import mars_features

GOLDEN = Path(__file__).parents[1] / "golden"
EXPECTED = np.load(GOLDEN / "mars_protocols.npz")
# Which of our protocols each released evaluator, run on its own gallery, corresponds to.
EVALUATORS = {
    "official_matlab": "mars_matlab", "ap3d": "mars_with_queries", "tclnet": "mars_with_queries", "torchreid": "mars",
    "cfaan_released": "cfaan_released", "old_11310": "mars_with_queries", "old_9330": "mars",
    "new_11310": "mars_with_queries_revised", "new_9330": "mars_revised", "new_6082": "cfaan_released_revised"}


class Mars:
    """The test split as arrays over [queries, the rest], and the distances of the golden features."""

    def __init__(self, info: Path):
        table = scipy.io.loadmat(info / "tracks_test_info.mat")["track_test_info"].astype(np.int64)
        queries = scipy.io.loadmat(info / "query_IDX.mat")["query_IDX"].ravel().astype(np.int64) - 1
        self.tracks = np.r_[queries, np.setdiff1d(np.arange(len(table)), queries)]
        self.n, self.pids, self.camids = len(queries), table[self.tracks, 2], table[self.tracks, 3]
        self.corrected = table[:, 2].copy()
        with (GOLDEN / "mars_corrections.csv").open() as file:
            changes = np.array([[int(line[key]) for key in ("row", "new_pid", "second_pid")]
                                for line in csv.DictReader(file)])
        self.corrected[changes[:, 0]] = changes[:, 1]
        self.second = self.corrected.copy()
        self.second[changes[:, 0]] = changes[:, 2]
        self.corrected, self.second = self.corrected[self.tracks], self.second[self.tracks]
        self.distmat = self._distances(table[:, 2], table[:, 3])

    def _distances(self, pids, camids):
        settings = json.loads(str(EXPECTED["meta"]))["recipe"]
        features, _ = mars_features.make(pids, camids, settings["seed"], settings["setting"])
        assert zlib.crc32((features * 1024).astype("<i2").tobytes()) == settings["features_crc32"]
        return -(features[self.tracks[:self.n]] @ features[self.tracks].T)

    def gallery(self, name):
        n, pids, tracks = self.n, self.pids, self.tracks
        return protocols.gallery_rows(protocols.get(name), pids[:n], pids[n:], tracks[:n], tracks[n:])


@pytest.fixture(scope="module")
def mars(mars_info):
    return Mars(mars_info)


@pytest.fixture(scope="module")
def scores(mars):
    names = [protocol.name for protocol in protocols.resolve("all")]
    return metrics.score_all(mars.distmat, mars.pids[:mars.n], mars.pids, mars.camids[:mars.n], mars.camids, names,
                             mars.second[:mars.n], mars.second, check_sizes=True, q_corrected=mars.corrected[:mars.n],
                             g_corrected=mars.corrected, galleries={name: mars.gallery(name) for name in names})


def assert_equals(result, evaluator):
    ap = EXPECTED[f"{evaluator}/ap"]
    np.testing.assert_array_equal(result.valid, np.flatnonzero(~np.isnan(ap)))
    np.testing.assert_allclose(result.ap, ap[result.valid], rtol=0, atol=1e-9)
    np.testing.assert_allclose(result.mAP, EXPECTED[f"{evaluator}/mAP"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(result.cmc, EXPECTED[f"{evaluator}/cmc"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("evaluator, name", EVALUATORS.items())
def test_matches_the_released_evaluators(scores, evaluator, name):
    assert_equals(scores[name], evaluator)


def test_sizes_of_the_galleries(scores):
    sizes = {name: (score.gallery_size, score.num_valid) for name, score in scores.items() if "revised" not in name}
    assert sizes == {"mars_matlab": (12180, 1980), "mars_with_queries": (11310, 1980), "mars": (9330, 1840),
                     "cfaan_released": (6082, 1840)}


def test_a_gallery_of_the_wrong_protocol_is_refused(mars):
    rows = mars.gallery("cfaan_released")
    with pytest.raises(InputError, match="gallery of 6082; the real data set has 1980 .1840., 9330"):
        metrics.score(mars.distmat[:, rows], mars.pids[:mars.n], mars.pids[rows], mars.camids[:mars.n],
                      mars.camids[rows], "mars", check_sizes=True)
