"""The synthetic set: MARS's layout, the same bytes for the same seed, every planted fault, stopping at any point."""

import csv
import hashlib
import json
from collections import Counter
from itertools import combinations, count, product
from pathlib import Path

import cv2
import numpy as np
import pytest

from cfaan_jax.runtime.files import UNFINISHED
from data_prep.datasets import DATASETS, Dataset, mars
from data_prep.redetect_link import detectors
from data_prep.synthetic import cameras, walks
from data_prep.synthetic import dataset as synthetic
from data_prep.synthetic.people import differences
from data_prep.synthetic.plan import BOXES, make_plan
from data_prep.synthetic.plan import replace as replace_in_plan
from tests.data_prep.checks import check_refused, contents, decode, write_named

IDENTITIES = 10
KINDS = {"person", "wrong identity", "ambiguous", "duplicate", "stranger", "background", "junk"}


def draw(root) -> Dataset:
    return DATASETS["synthetic"](root, seed=3, identities=IDENTITIES)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "set"
    draw(root)
    return root


@pytest.fixture(scope="module")
def dataset(root) -> Dataset:
    return draw(root)


@pytest.fixture(scope="module")
def truth(root) -> dict:
    """The truth; names of persons are keyed by the number of their identity."""
    truth = json.loads((root / "truth.json").read_text())
    for name in ("person_of", "second_names"):
        truth[name] = {int(pid): value for pid, value in truth[name].items()}
    return truth


@pytest.fixture(scope="module")
def full_plan() -> tuple:
    return make_plan(0, 64)


def digest(root: Path) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in contents(root, "**/*").items()}


@pytest.mark.slow
def test_the_mars_reader_reads_it(root, dataset):
    assert dataset.name == "synthetic" and dataset.note == ""
    assert [t.sources for t in mars.open(root).tracklets] == [t.sources for t in dataset.tracklets]
    image = decode(dataset.tracklets[0].read(0))
    assert image.shape == (256, 128, 3) and image.std() > 10
    listed = (root / "info/test_name.txt").read_text().split()
    assert len(set(listed)) == len(listed)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(root, tmp_path):
    draw(tmp_path / "same")
    assert digest(tmp_path / "same") == digest(root)
    plan, other = (make_plan(seed, IDENTITIES) for seed in (3, 4))
    drawn, drawn_otherwise = (walks.film(cameras.Studio(seed), cast, plans[0], seed)[0]
                              for seed, (cast, plans) in ((3, plan), (4, other)))
    assert drawn[0] != drawn_otherwise[0] and plan[0].people != other[0].people


def test_identities_are_split_and_seen_by_every_camera(dataset):
    half, four = IDENTITIES // 2, range(1, 5)
    assert {(t.split == "train", t.pid, t.camid) for t in dataset.tracklets if t.pid > 0} == {
        *product([True], range(1, half + 1), four), *product([False], range(half + 1, IDENTITIES + 1), four)}


def test_every_identity_has_two_queries_and_matches_in_other_cameras(dataset):
    queries = [tracklet for tracklet in dataset.tracklets if tracklet.split == "query"]
    gallery = {(tracklet.pid, tracklet.camid) for tracklet in dataset.tracklets if tracklet.split == "gallery"}
    assert set(Counter(tracklet.pid for tracklet in queries).values()) == {2}
    assert len({(tracklet.pid, tracklet.camid) for tracklet in queries}) == len(queries)
    for query in queries:
        assert any(pid == query.pid and camid != query.camid for pid, camid in gallery)


def test_the_default_set_has_the_size_and_the_faults_it_promises(full_plan):
    cast, plans = full_plan
    lengths = np.array([plan.length for plan in plans])
    assert 6000 <= lengths.sum() <= 7500 and lengths.min() >= 8 and lengths.max() <= 40
    assert 14 <= np.median(lengths) <= 18
    assert len(cast.person_of) == 64 and len(set(cast.person_of.values())) >= 60
    for part in ("train", "test"):
        own = [plan for plan in plans if plan.part == part and plan.pid > 0]
        kinds, boxes = Counter(plan.kind for plan in own), Counter(plan.box for plan in own)
        assert 4 <= len(own) / 32 <= 6 and kinds["wrong identity"] >= 4 and kinds["ambiguous"] >= 4
        assert set(boxes) == set(BOXES) and min(boxes.values()) >= 10
        assert 0.25 <= sum(plan.passing != "none" for plan in own) / len(own) <= 0.4
    kinds = Counter(plan.kind for plan in plans)
    assert kinds["duplicate"] >= 10 and kinds["stranger"] >= 10 and kinds["background"] >= 5 and kinds["junk"] >= 5
    assert len(cast.confusable) == 8


def test_confusable_pairs_differ_in_one_attribute_and_others_in_many(full_plan):
    cast, _ = full_plan
    for pair in cast.confusable:
        one, other = (cast.people[index] for index in pair["people"])
        assert differences(one, other) == [pair["differ_in"]]
    twins = {tuple(pair["people"]) for pair in cast.confusable}
    for one, other in combinations(sorted({cast.person_of[pid] for pid in range(1, 33)}), 2):  # those in training
        assert (one, other) in twins or len(differences(cast.people[one], cast.people[other])) >= 5


def test_labels_in_the_truth_are_those_of_the_files(dataset, truth):
    assert {tracklet.name for tracklet in dataset.tracklets} == set(truth["tracklets"])
    for tracklet in dataset.tracklets:
        own = truth["tracklets"][tracklet.name]
        assert (own["part"] == "train", own["query"]) == (tracklet.split == "train", tracklet.split == "query")
        assert (own["track_id"], own["stored_pid"], own["camid"]) == (tracklet.track_id, tracklet.pid, tracklet.camid)
        assert len(own["own"] or tracklet.sources) == len(tracklet)


def test_the_true_identity_is_the_person_who_is_drawn(truth):
    person_of = truth["person_of"]
    for name, own in truth["tracklets"].items():
        kind, drawn = own["kind"], own["person"]
        if kind in ("person", "ambiguous"):
            assert drawn == person_of[own["stored_pid"]] == person_of[own["pid"]]
        elif kind == "wrong identity":
            assert drawn == person_of[own["pid"]] != person_of[own["stored_pid"]]
        elif kind == "duplicate":
            original = truth["tracklets"][own["duplicate_of"]]
            assert own["stored_pid"] == 0 and original["kind"] == "person" and own["duplicate_of"] != name
            assert (drawn, own["camid"], own["pid"]) == (original["person"], original["camid"], original["pid"])
        elif kind == "stranger":
            assert own["stored_pid"] == own["pid"] == 0 and drawn in truth["strangers"]
        elif kind == "background":
            assert own["stored_pid"] == 0 and drawn is None and own["own"] is None
        else:
            assert kind == "junk" and own["stored_pid"] == own["pid"] == -1
        if kind == "ambiguous":
            assert person_of[own["second_pid"]] == own["companion"] != drawn
        else:
            assert own["second_pid"] == own["pid"]
    assert {own["kind"] for own in truth["tracklets"].values()} == KINDS


def test_some_people_have_two_identities_and_the_first_is_true(truth):
    person_of, second_names = truth["person_of"], truth["second_names"]
    assert {pid <= IDENTITIES // 2 for pid in second_names} == {True, False}
    for pid, first in second_names.items():
        assert first < pid and person_of[pid] == person_of[first]
    for own in truth["tracklets"].values():
        assert own["pid"] not in second_names and own["second_pid"] not in second_names


def test_corrections_list_the_test_tracklets_whose_identity_changes(root, truth):
    expected = {own["track_id"]: (own["pid"], own["second_pid"]) for own in truth["tracklets"].values()
                if own["part"] == "test" and {own["pid"], own["second_pid"]} != {own["stored_pid"]}}
    with (root / "corrections.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {int(row["track_id"]): (int(row["pid"]), int(row["second_pid"])) for row in rows} == expected
    assert list(rows[0]) == ["track_id", "pid", "second_pid"] and len(rows) == len(expected) > 4


def test_boxes_have_the_faults_that_the_truth_names(truth):
    people = [own for own in truth["tracklets"].values() if own["kind"] == "person"]
    assert {own["box"] for own in people} == set(BOXES)
    for own in people:
        boxes, sides = np.array(own["own"]), own["cut"]
        if own["box"].startswith("cut"):
            assert sum(own["box"].removeprefix("cut ") in frame for frame in sides) >= len(sides) / 2
        if own["box"] == "tight":
            assert (np.abs(boxes.reshape(-1, 2, 2).mean(axis=2) - [128, 64]) < [256 / 8, 128 / 4]).all()
        if own["box"] == "loose":
            assert ((boxes[:, 1] - boxes[:, 0]) < 225).all()


def test_drifting_boxes_slide_off():
    target, rng = np.tile([1.0, 2.7, 4.0, 4.7], (20, 1)), np.random.default_rng(0)
    moved = {kind: [abs(np.diff(walks.window(rng, target, kind)[[0, -1], 2])[0]) for _ in range(40)]
             for kind in ("tight", "drifting")}
    assert min(moved["drifting"]) > 0.2 and np.mean(moved["drifting"]) > 4 * np.mean(moved["tight"])


def test_passers_cross_and_companions_stay(truth):
    passing = [own for own in truth["tracklets"].values() if own["passing"] != "none" and own["kind"] == "person"]
    assert {own["passing"] for own in passing} == {"in front", "behind"}
    for own in passing:
        seen = [index for index, box in enumerate(own["other"]) if box]
        assert seen and own["passer"] != own["person"]
        centres = [np.mean(own["other"][index][2:]) for index in seen]
        assert len(seen) < 3 or abs(centres[-1] - centres[0]) > 20
    ambiguous = [own for own in truth["tracklets"].values() if own["kind"] == "ambiguous"]
    assert ambiguous and all(all(own["other"]) for own in ambiguous)


def test_a_passer_in_front_is_sometimes_the_largest_person(full_plan):
    cast, plans = full_plan
    studio, larger = cameras.Studio(0), 0
    for plan in [plan for plan in plans if plan.passing == "in front"][:10]:
        shown = walks.film(studio, cast, plan, 0)[1]
        own, other = (np.array([box or [0, 0, 0, 0] for box in shown[name]]) for name in ("own", "other"))
        larger += bool(((other[:, 1] - other[:, 0]) > (own[:, 1] - own[:, 0])).any())
    assert larger >= 5


def test_boxes_in_the_truth_lie_on_the_person(full_plan):
    """The picture differs from the empty place inside the box and, but for the shadow, nowhere else."""
    cast, plans = full_plan
    studio = cameras.Studio(0)
    plan = next(plan for plan in plans if plan.box == "loose" and plan.passing == "none" and plan.kind == "person")
    frames, shown = walks.film(studio, cast, plan, 0)
    empty = walks.film(studio, cast, replace_in_plan(plan, person=None), 0)[0]
    y0, y1, x0, x1 = shown["own"][0]
    difference = np.abs(decode(frames[0]).astype(int) - decode(empty[0])).max(axis=2)
    inside = np.zeros_like(difference, bool)
    inside[max(0, y0):y1, max(0, x0):x1] = True
    without_shadow = np.arange(256)[:, None] < y1 - 14
    assert difference[inside].mean() > 4 * difference[~inside & without_shadow].mean()
    assert (difference[y0 + 2:y0 + 12, x0:x1] > 25).any() and (difference[y0:y1, x0:x0 + 8] > 25).any()


def test_the_hog_detector_finds_the_people(dataset, truth):
    detector, detected = detectors.create("hog"), []
    for tracklet in dataset.tracklets:
        own = truth["tracklets"][tracklet.name]
        if own["kind"] == "person" and own["box"] == "tight" and own["passing"] == "none":
            image = decode(tracklet.read(len(tracklet) // 2))
            people = detector.detect([cv2.copyMakeBorder(image, 48, 48, 48, 48, cv2.BORDER_REPLICATE)])[0]
            detected.append(len(people) > 0)
    assert len(detected) >= 8 and np.mean(detected) >= 0.8


def test_cameras_see_the_same_grey_card_differently():
    studio = cameras.Studio(0)
    card, window = np.full((256, 128, 3), 128, np.uint8), np.array([3.0, 5.0, 4.0, 5.0])
    seen = np.array([decode(studio.develop(camera, card, window, np.ones(3), (0, 0))).mean(axis=(0, 1))
                     for camera in range(4)])
    assert np.linalg.norm(seen[:, None] - seen[None], axis=2)[np.triu_indices(4, 1)].min() > 8


@pytest.mark.slow
def test_a_stopped_drawing_resumes_and_ends_with_the_same_bytes(root, tmp_path, monkeypatch):
    film, drawn = synthetic.film, count()

    def stopping(*args):
        if next(drawn) == 12:
            raise KeyboardInterrupt
        return film(*args)

    monkeypatch.setattr(synthetic, "film", stopping)
    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path / "set")
    assert not (tmp_path / "set/truth.json").exists()
    finished = next((tmp_path / "set/bbox_train").rglob("*.jpg"))
    stamp = finished.stat().st_mtime_ns
    # As if the next image had been half written when the power went.
    name = next((root / "bbox_test/0006").iterdir()).name
    write_named(tmp_path / "set/bbox_test/0006", [f"{name}{UNFINISHED}"])
    monkeypatch.setattr(synthetic, "film", film)
    draw(tmp_path / "set")
    assert digest(tmp_path / "set") == digest(root) and finished.stat().st_mtime_ns == stamp


def test_a_finished_set_is_not_drawn_again(root, monkeypatch):
    monkeypatch.setattr(synthetic, "make_plan", lambda *_: pytest.fail("drawn again"))
    assert draw(root).tracklets


@pytest.mark.parametrize(("options", "message"), [
    ({"seed": 3, "identities": 12}, "drawn with .*'identities': 10.* choose another --root or remove this folder"),
    ({"seed": 0, "identities": IDENTITIES}, "drawn with .*'seed': 3.*"),
    ({"identities": 7}, "--identities=7: .* between 8 and 5000"),
    ({"identities": 10**30}, f"--identities={10**30}: .* between 8 and 5000"), ({"seed": -1}, "--seed=-1")])
def test_other_settings_are_refused_and_nothing_is_lost(root, options, message):
    before = digest(root)
    check_refused(message, DATASETS["synthetic"], root, **options)
    assert digest(root) == before


def test_a_folder_with_other_files_or_damaged_settings_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    check_refused("exists and is not a synthetic set; choose another --root", DATASETS["synthetic"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    check_refused("exists and is not a synthetic set", DATASETS["synthetic"], tmp_path / "thesis.txt")
    (tmp_path / "settings.json").write_text("{")
    check_refused("settings.json: cannot be read", DATASETS["synthetic"], tmp_path)


def test_the_smallest_and_an_odd_set_can_be_planned():
    for identities in (8, 9, 33):
        cast, plans = make_plan(1, identities)
        assert sorted(cast.person_of) == list(range(1, identities + 1))
        assert {plan.kind for plan in plans} >= KINDS
