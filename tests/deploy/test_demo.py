"""The page of those who appear again: the right tracklets, figures only where identities are known."""

import re
from dataclasses import replace

import numpy as np
import pytest

from cfaan_jax import FeatureExtractor
from cfaan_jax.deploy import demo
from cfaan_jax.deploy.crop_features import CropFeatures
from cfaan_jax.metrics.search import About, Search
from cfaan_jax.report import matches
from tests import tiny_records
from tests.data_prep.checks import check_refused


@pytest.fixture
def by_colour(monkeypatch):
    """In place of weights: the colours of the upper and the lower half of a frame."""
    network = CropFeatures(lambda crops: np.concatenate([crops[:, :8].mean((1, 2)), crops[:, 8:].mean((1, 2))], axis=1),
                           (16, 8), "CPU")
    extractor = FeatureExtractor(network, clip_length=1, image_size=(16, 8), clips="all_continuous")
    monkeypatch.setattr(demo.FeatureExtractor, "open", lambda weights: extractor)


def page(records, tmp_path, capsys, *flags) -> tuple[str, str]:
    """The page, and what was printed."""
    demo.main([str(records), "--weights=colours", f"--out={tmp_path / 'report'}", *flags])
    printed = capsys.readouterr().out
    assert f"report: {tmp_path / 'report' / 'matches.html'}" in printed
    return (tmp_path / "report/matches.html").read_text(), printed


def lists(html: str) -> dict[str, list[tuple[str, str]]]:
    """(kind, name) of every answer by the name of the query."""
    sections = re.findall(r'<section.*?<h3>(.*?)</h3>(.*?)</section>', html, re.DOTALL)
    return {name: re.findall(r'class="card (\w+)" title="([^,]*),', body) for name, body in sections}


def test_known_identities_give_figures(by_colour, records_directory, tmp_path, capsys):
    html, printed = page(records_directory, tmp_path, capsys)
    assert "rank-1: 4 of 4 queries" in printed and "| mars" in printed
    assert "Rank-1: <strong>4 of 4</strong>" in html and "Mutual nearest" not in html
    found = lists(html)
    assert set(found) == {"query-0", "query-1", "query-2", "query-3"}
    for answers in found.values():
        assert [kind for kind, _ in answers] == ["right"] * 2 + ["wrong"] * 7


def test_features_are_fitted_where_enough_tracklets_say_how(by_colour, records_directory, tmp_path, capsys):
    html, printed = page(records_directory, tmp_path, capsys)
    assert "whitening (within-class covariance)" in printed and "whitening (within-class covariance)" in html
    html, printed = page(records_directory, tmp_path, capsys, "--plain")
    assert "rank-1: 4 of 4 queries" in printed and "whitening" not in printed + html
    rng = np.random.default_rng(0)
    few = [tiny_records.tracklet(f"{split}{pid}", split, pid, pid, camid, [tiny_records.frame(rng, pid)] * 2)
           for camid, split in enumerate(("query", "gallery"), start=1) for pid in range(1, 4)]
    html, printed = page(tiny_records.write(tmp_path / "few", few), tmp_path, capsys)
    assert "rank-1: 3 of 3 queries" in printed and "whitening" not in printed + html


def test_unknown_identities_give_pairs_and_no_figures(by_colour, tmp_path, capsys):
    rng = np.random.default_rng(0)
    people = [(1, "a", 1), (1, "a", 2), (1, "a", 3), (2, "b", 2), (2, "b", 9), (3, "c", 3), (3, "c", 1), (3, "c", 8)]
    tracklets = [tiny_records.tracklet(f"{video}{person}", "query" if camid == 1 else "gallery", row, row + 1, camid,
                                       [tiny_records.frame(rng, person) for _ in range(3)])
                 for row, (camid, video, person) in enumerate(people)]
    html, printed = page(tiny_records.write(tmp_path / "records", tracklets), tmp_path, capsys)
    found = lists(html)
    assert {name: answers[0] for name, answers in found.items()} == {
        "a1": ("mutual", "c1"), "a2": ("mutual", "b2"), "a3": ("mutual", "c3")}
    assert all(len(answers) == 5 for answers in found.values())
    pairs = sum(kind == "mutual" for answers in found.values() for kind, _ in answers)
    assert f"{pairs} pairs of a query and a tracklet of another camera" in printed and "mAP" not in printed + html


def test_answers_from_another_time_may_be_the_same_person(by_colour, tmp_path, capsys):
    rng, tracklets = np.random.default_rng(0), []
    walks = {1: (5, 0, 40), 2: (5, 60, 90), 3: (6, 35, 70)}  # of each track: the person, first and last frame
    for split, camid in (("query", 1), ("gallery", 2)):
        for pid, (person, first, last) in walks.items():
            ends = (first, (first + last) // 2) if camid == 1 else ((first + last) // 2 + 1, last)
            tracklet = tiny_records.tracklet(f"T{pid}C{camid}", split, len(tracklets), pid, camid,
                                             [tiny_records.frame(rng, person) for _ in ends])
            tracklets.append(replace(tracklet, sources=tuple(f"yard.avi#{frame:06}" for frame in ends)))
    html, printed = page(tiny_records.write(tmp_path / "records", tracklets), tmp_path, capsys)
    assert "rank-1 among co-visible tracks: 3 of 3 queries" in printed and "<strong>3 of 3</strong>" in html
    assert "rank-1 without co-visible tracklets: 3 of 3 queries" in printed
    # The first half of track 3 is seen with the second of track 1, and the first of track 2 with the second of track 3.
    assert {name: dict(map(reversed, answers)) for name, answers in lists(html).items()} == {
        "T1C1": {"T1C2": "right", "T2C2": "unsure", "T3C2": "wrong"},
        "T2C1": {"T1C2": "unsure", "T2C2": "right"},
        "T3C1": {"T2C2": "wrong", "T3C2": "right"}}


def test_mutual_neighbours_are_within_pairs_of_cameras():
    angles = np.array([0.0, 0.5, 0.1, 0.2, 3.0])  # two queries, two tracklets of camera 2, one of camera 3
    found = Search(np.stack([np.cos(angles), np.sin(angles)], axis=1), 2, np.array(list("abcde")), np.arange(5),
                   np.arange(1, 6), np.array([1, 1, 2, 2, 3]), About("tiny", "", False, "none", None, "none", "test"))
    assert matches.mutual_neighbours(found) == {(0, 2), (1, 4)}


def test_what_cannot_be_is_refused_before_anything_is_computed(by_colour, records_directory, tmp_path, capsys):
    report = f"--out={tmp_path / 'report'}"
    demo.main([str(tmp_path / "gone"), "--weights=colours", report, "--check"])
    assert not list(tmp_path.iterdir())
    (tmp_path / "report").write_text("mine")
    for more in ([], ["--check"]):
        check_refused("report", demo.main, [str(records_directory), "--weights=colours", report, *more])
    assert "features of" not in capsys.readouterr().out and (tmp_path / "report").read_text() == "mine"


def test_missing_weights_are_told_with_a_remedy(records_directory, tmp_path):
    check_refused(r"gone: no weights there; name a workdir, an export, an \.onnx file", demo.main, [
        str(records_directory), f"--weights={tmp_path / 'gone'}", f"--out={tmp_path / 'report'}"])
    assert not list(tmp_path.iterdir())
