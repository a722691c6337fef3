"""The readers of iLIDS-VID and PRID-2011: the released folders, their splits, and wrong input."""

import json
import shutil

import numpy as np
import pytest
from scipy.io import savemat

from data_prep.datasets import DATASETS
from tests.data_prep.checks import check_refused, facts, write_named

PEOPLE = (1, 2, 5, 14)  # numbers are not the places in the list
MAT = "train-test people splits/train_test_splits_ilidsvid.mat"


def write_ilids(root, table):
    for camera in (1, 2):
        for person in PEOPLE:
            write_named(root / f"i-LIDS-VID/sequences/cam{camera}/person{person:03}",
                        [f"cam{camera}_person{person:03}_{frame:05}.png" for frame in (317, 9, 318)[:camera + 1]])
    (root / MAT).parent.mkdir(exist_ok=True)
    savemat(root / MAT, {"ls_set": np.asarray(table, np.float64)})
    return root


@pytest.fixture
def ilids(tmp_path):
    """Ten orders of the four people; the first is 3 1 4 2, the last 1 2 3 4."""
    rng = np.random.default_rng(0)
    return write_ilids(tmp_path, [[3, 1, 4, 2], *(rng.permutation(4) + 1 for _ in range(8)), [1, 2, 3, 4]])


@pytest.fixture
def prid(tmp_path):
    for camera, frames in (("a", 2), ("b", 3)):
        for person in PEOPLE:
            write_named(tmp_path / f"prid_2011/multi_shot/cam_{camera}/person_{person:04}",
                        [f"{frame:04}.png" for frame in range(1, frames + 1)])
    splits = [{"train": ["person_0014", "person_0001"], "test": ["person_0005"]}] * 9
    splits.append({"train": ["person_0002"], "test": ["person_0005", "person_0001"]})
    (tmp_path / "splits_prid2011.json").write_text(json.dumps(splits))
    return tmp_path


def test_the_first_half_of_a_row_of_ilids_is_for_test(ilids):
    dataset = DATASETS["ilids"](ilids)
    assert dataset.name == "ilids"
    assert facts(dataset) == [
        ("train-person002-C1", 0, 2, 1, 2), ("train-person002-C2", 1, 2, 2, 3),
        ("train-person014-C1", 2, 14, 1, 2), ("train-person014-C2", 3, 14, 2, 3),
        ("query-person001-C1", 0, 1, 1, 2), ("query-person005-C1", 1, 5, 1, 2),
        ("gallery-person001-C2", 2, 1, 2, 3), ("gallery-person005-C2", 3, 5, 2, 3)]
    last = DATASETS["ilids"](ilids, split=9)
    assert [t.pid for t in last.tracklets if t.split == "query"] == [1, 2]
    assert [t.split for t in last.tracklets] == ["train"] * 4 + ["query"] * 2 + ["gallery"] * 2


def test_frames_follow_their_numbers(ilids):
    (ilids / "i-LIDS-VID/sequences/cam2/person002/._cam2_person002_00001.png").touch()
    tracklet = DATASETS["ilids"](ilids).tracklets[1]
    assert [tracklet.read(i).decode() for i in range(3)] == [
        f"cam2_person002_{frame:05}.png" for frame in (9, 317, 318)]
    assert tracklet.sources[0] == "i-LIDS-VID/sequences/cam2/person002/cam2_person002_00009.png"


def test_prid_takes_the_people_of_its_splits(prid):
    dataset = DATASETS["prid"](prid)
    assert dataset.name == "prid"
    assert facts(dataset) == [
        ("train-person_0001-C1", 0, 1, 1, 2), ("train-person_0001-C2", 1, 1, 2, 3),
        ("train-person_0014-C1", 2, 14, 1, 2), ("train-person_0014-C2", 3, 14, 2, 3),
        ("query-person_0005-C1", 0, 5, 1, 2), ("gallery-person_0005-C2", 1, 5, 2, 3)]
    assert [t.pid for t in DATASETS["prid"](prid, split=9).tracklets] == [2, 2, 1, 5, 1, 5]
    shutil.move(prid / "prid_2011/multi_shot", prid / "multi_shot")
    assert facts(DATASETS["prid"](prid)) == facts(dataset)


@pytest.mark.parametrize("name", ["ilids", "prid"])
@pytest.mark.parametrize("number", [-1, 10])
def test_a_split_that_does_not_exist_is_refused(name, number, request):
    root = request.getfixturevalue(name)
    check_refused(f"--split={number}: .* holds splits 0 to 9", DATASETS[name], root, split=number)


@pytest.mark.parametrize("name, gone", [
    ("ilids", "i-LIDS-VID"), ("ilids", "i-LIDS-VID/sequences/cam2"), ("ilids", "train-test people splits"),
    ("prid", "prid_2011"), ("prid", "prid_2011/multi_shot/cam_b"), ("prid", "splits_prid2011.json")])
def test_what_is_missing_is_named(name, gone, request):
    root = request.getfixturevalue(name)
    shutil.move(root / gone, root / "elsewhere")
    check_refused(f"{gone}.*: missing; --root must be the folder that holds", DATASETS[name], root)


def test_a_person_in_one_camera_only_is_named(ilids):
    shutil.rmtree(ilids / "i-LIDS-VID/sequences/cam1/person005")
    check_refused("person005 is in one camera only", DATASETS["ilids"], ilids)


@pytest.mark.parametrize("table", [np.tile([1, 2, 3, 3], (10, 1)), np.tile([0, 1, 2, 3], (10, 1)),
                                   np.tile([1, 2, 3, 4], (9, 1)), np.tile([1, 2, 3], (10, 1))])
def test_splits_of_other_people_are_refused(tmp_path, table):
    check_refused("ls_set of shape .* does not number the 4 people", DATASETS["ilids"], write_ilids(tmp_path, table))


@pytest.mark.parametrize("splits, message", [
    ("no JSON", "splits cannot be read"), ({"train": []}, "splits cannot be read"),
    ([{"train": ["person_0001"]}], "KeyError"),
    ([{"train": [3], "test": ["person_0001"]}], "a name that is not a string"),
    ([{"train": ["person_0001"], "test": ["person_0001"]}], "nobody may occur twice"),
    ([{"train": ["person_0001"], "test": []}], "split 0 has 1 people for training and 0 for test"),
    ([{"train": ["person_0001"], "test": ["person_0900"]}], "person_0900: holds no .png file"),
    ([{"train": ["person_0001"], "test": [".."]}], "not the name of a person's folder")])
def test_broken_splits_of_prid_are_refused(prid, splits, message):
    (prid / "splits_prid2011.json").write_text(splits if isinstance(splits, str) else json.dumps(splits))
    check_refused(message, DATASETS["prid"], prid)
