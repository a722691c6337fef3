from dataclasses import replace

import numpy as np
import pytest

from cfaan_jax.metrics import protocols, score
from cfaan_jax.metrics.search import About, Search
from tests.data_prep.checks import check_refused
from tests.metrics.test_corrections import csv_file

ABOUT = About(dataset="synthetic", note="pseudo-cameras", aligned=True, model="cfaan", seed=3, weights="best",
              clips="all_sampled")


def small_search(**changes):
    """Two queries (people 7 and 9, camera 1) and five more tracklets, as angles."""
    degrees = np.array([0, 90, 5, 10, 20, 30, 88])
    features = np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1) * 3
    fields = dict(features=features.astype(np.float32), num_queries=2, names=np.array(list("abcdefg")),
                  track_ids=np.array([1, 4, 0, 2, 3, 5, 6]), pids=np.array([7, 9, 7, -1, 0, 7, 9]),
                  camids=np.array([1, 1, 1, 2, 1, 2, 2]), about=ABOUT)
    return Search(**fields | changes)


def test_distances_are_minus_the_cosine():
    search = small_search()
    np.testing.assert_allclose(search.distances()[0], -np.cos(np.radians([0, 90, 5, 10, 20, 30, 88])), atol=1e-6)
    assert search.distances().dtype == np.float32


def test_euclidean_distances_are_squared_and_of_features_as_they_are():
    search = small_search(about=replace(ABOUT, distance="euclidean"))
    search.features[1:] *= 2
    expected = ((search.features[:2, None] - search.features[None]) ** 2).sum(-1)
    np.testing.assert_allclose(search.distances(), expected, atol=1e-5)
    nearest = search.nearest([0], protocols.get("mars"), count=1)[0][0]
    assert nearest.distance == pytest.approx(expected[0, nearest.row], abs=1e-5)
    assert "euclidean distance" in search.about.line() and "distance" not in ABOUT.line()


def test_a_zero_feature_is_far_from_everything_but_no_error():
    assert not small_search(features=np.zeros((7, 2), np.float32)).distances().any()


def test_scores_by_hand():
    """Query a, in order of angle: c ignored, d junk, e distractor, f right. Query b: g right."""
    scores = small_search().score(["mars", "mars_matlab", "cfaan_released", "mars_revised"])
    assert {name: score.gallery_size for name, score in scores.items()} == {
        "mars": 4, "mars_matlab": 7, "cfaan_released": 3, "mars_revised": 4}
    assert scores["mars"].ap.tolist() == [1 / 2, 1]
    assert scores["cfaan_released"].ap.tolist() == [1, 1]
    assert scores["mars_revised"].ap.tolist() == [1, 1]  # the distractor is in the query's camera
    assert scores["mars_matlab"].ap.tolist() == [pytest.approx((0 + 1 / 2) / 2), 1]


def test_all_is_every_protocol_of_the_data_set():
    assert list(small_search().score("all")) == [protocol.name for protocol in protocols.resolve("all")]
    assert list(small_search(about=replace(ABOUT, dataset="dukev")).score("all")) == ["dukev", "dukev_revised"]


def test_corrections_change_the_revised_protocols_only(tmp_path):
    """The junk tracklet stays out of the gallery of `mars_revised`; tracklet 3, the distractor, is person 9 or 7."""
    path = csv_file(tmp_path, "3,9,7\n2,7,7\n5,9,9\n")
    scores = small_search().score(["mars", "mars_revised", "mars_matlab_revised"], path)
    assert scores["mars"].ap.tolist() == [1 / 2, 1]
    assert scores["mars_revised"].valid.tolist() == [1]
    assert scores["mars_revised"].ap.tolist() == [1]  # g and f are person 9; the ambiguous one is in the own camera
    assert scores["mars_matlab_revised"].ap.tolist() == [1, 1]


def test_nearest_by_hand():
    lists = small_search().nearest([0, 1], protocols.get("mars_matlab"), count=4)
    first, second = ([(each.row, each.kind) for each in answers] for answers in lists)
    assert first == [(0, "ignored"), (2, "ignored"), (3, "ignored"), (4, "wrong")]
    assert second == [(1, "ignored"), (6, "right"), (5, "wrong"), (4, "wrong")]
    assert lists[0][1].distance == pytest.approx(-np.cos(np.radians(5)))


def test_nearest_under_the_revised_rules(tmp_path):
    path = csv_file(tmp_path, "5,9,7\n")
    [[*answers]] = small_search().nearest([0], protocols.get("mars_revised"), path)
    assert [(each.row, each.kind) for each in answers] == [(2, "ignored"), (4, "ignored"), (5, "right"), (6, "wrong")]
    [[*answers]] = small_search().nearest([0], protocols.get("mars"), path)
    assert [(each.row, each.kind) for each in answers] == [(2, "ignored"), (4, "wrong"), (5, "right"), (6, "wrong")]


def test_round_trip(tmp_path):
    search = small_search()
    search.save(tmp_path / "features.npz")
    again = Search.load(tmp_path / "features.npz")
    assert again.about == search.about and again.num_queries == 2
    for name in ("features", "names", "track_ids", "pids", "camids"):
        np.testing.assert_array_equal(getattr(again, name), getattr(search, name))
        assert getattr(again, name).dtype == getattr(search, name).dtype
    assert [path.name for path in tmp_path.iterdir()] == ["features.npz"]


def test_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", x=1)
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "empty.npz").touch()
    for name, reason in (("other", "no array"), ("text", "not an .npz"), ("empty", "not an .npz"), ("gone", "No such")):
        check_refused(f"{name}.npz: not a file of features .*{reason}", Search.load, tmp_path / f"{name}.npz")


def test_sizes_are_checked_on_the_whole_of_mars_only():
    mars = replace(ABOUT, dataset="mars")
    assert small_search(about=mars).score("mars")["mars"].gallery_size == 4  # a part of the data set
    rows = np.arange(12180)
    features = np.random.default_rng(0).standard_normal((len(rows), 2), np.float32)
    whole = Search(features, 2, rows.astype(str), rows, np.full(len(rows), 5), rows % 6 + 1, mars)
    check_refused("protocol mars: 2 queries .*the real data set has 1980", whole.score, "mars")


def test_the_line_says_what_a_figure_belongs_to():
    assert small_search().about.line() == (
        "cfaan, aligned tracklets of synthetic, weights best, clips all_sampled, seed 3; pseudo-cameras")


def test_true_corrections_give_what_clean_labels_give(tmp_path):
    """Five identities; wrong labels, duplicates among the distractors and ambiguous tracklets are planted."""
    rng = np.random.default_rng(5)
    true, camids = rng.integers(1, 6, 60), rng.integers(1, 4, 60)
    stored, second = true.copy(), true.copy()
    stored[20:30], stored[30:40], second[40:50] = rng.integers(1, 6, 10), 0, rng.integers(1, 6, 10)
    features = rng.normal(size=(60, 8)).astype(np.float32)
    fields = dict(features=features, num_queries=15, names=np.arange(60).astype(str), track_ids=np.arange(60),
                  camids=camids, about=ABOUT)
    path = csv_file(tmp_path, "".join(f"{i},{true[i]},{second[i]}\n" for i in range(20, 50)))
    corrected = Search(pids=stored, **fields).score("mars_revised", path)["mars_revised"]
    clean = score(Search(pids=true, **fields).distances()[:, 15:], true[:15], true[15:], camids[:15], camids[15:],
                  "mars_revised", second[:15], second[15:])
    assert corrected.mAP == clean.mAP and corrected.ap.tolist() == clean.ap.tolist()
    assert corrected.mAP != Search(pids=stored, **fields).score("mars_revised")["mars_revised"].mAP


@pytest.mark.parametrize("change, message", [
    (dict(features=np.zeros((7, 2, 1), np.float32)), "shape"), (dict(features=np.zeros((6, 2), np.float32)), "shape"),
    (dict(features=np.full((7, 2), np.nan, np.float32)), "tracklet a is not finite"),
    (dict(num_queries=-1), "are queries"), (dict(num_queries=7), "are queries"),
    (dict(features=np.zeros((7, 2), complex)), "features of complex128"),
    (dict(num_queries=2.5), "num_queries of float64"),
    (dict(features=np.full((7, 2), 1e300)), "features of float64"), (dict(pids=np.ones(7, bool)), "pids of bool"),
    (dict(camids=np.ones((7, 1), int)), r"camids of int64 and shape \[7, 1\]"),
    (dict(about=replace(ABOUT, distance="foo")), "distance foo"),
    (dict(about=replace(ABOUT, distance=None)), "distance is None"),
    (dict(about=replace(ABOUT, left_out="abc")), "left_out is 'abc'"),
    (dict(about=replace(ABOUT, dataset=["a"])), "dataset is")])
def test_stored_features_that_do_not_fit_are_refused(tmp_path, change, message):
    small_search(**change).save(tmp_path / "features.npz")
    check_refused(message, Search.load, tmp_path / "features.npz")


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_cosines_do_not_depend_on_the_scale(factor):
    search = small_search()
    scaled = small_search(features=search.features * np.float32(factor))
    np.testing.assert_allclose(scaled.distances(), search.distances(), atol=1e-6)
