"""The LS-VID reader: the released lists in both places, both levels of MATLAB files, and wrong input."""

import shutil

import numpy as np
import pytest
from scipy.io import savemat

from data_prep.datasets import DATASETS
from tests.data_prep.checks import check_refused, facts, write_named

TRAIN = {"tracklet_train/0000/0000_01": (0, 3, 2), "tracklet_train/0000/0000_02": (0, 15, 1),
         "tracklet_train/0007/0007_01": (7, 3, 2)}  # identity, camera, frames by the start of their names
TEST = {"tracklet_test/0003/0003_01": (3, 1, 2), "tracklet_test/0003/0003_02": (3, 2, 3),
        "tracklet_test/0004/0004_01": (4, 1, 1), "tracklet_test/0004/0004_010": (4, 9, 1),
        "tracklet_test/00-1/00-1_01": (-1, 5, 1)}


def write_frames(root, start, camera, frames):
    write_named(root, [f"{start}_{camera:02}_{frame:04}.jpg" for frame in range(frames)])


@pytest.fixture
def root(tmp_path):
    (tmp_path / "list_sequence").mkdir()
    for part, tracklets in (("train", TRAIN), ("test", TEST)):
        lines = [f"{start} {pid}\n" for start, (pid, _, _) in tracklets.items()]
        (tmp_path / f"list_sequence/list_seq_{part}.txt").write_text("".join(lines))
        for start, (_, camera, frames) in tracklets.items():
            write_frames(tmp_path, start, camera, frames)
    write_queries(tmp_path, [[3, 1]])
    return tmp_path


def write_queries(root, rows):
    (root / "test/data").mkdir(parents=True, exist_ok=True)
    savemat(root / "test/data/info_test.mat", {"query": np.array(rows, np.float64)})


EXPECTED = [
    ("train-00000", 0, 1, 3, 2), ("train-00001", 1, 1, 15, 1), ("train-00002", 2, 8, 3, 2),
    ("query-00000", 0, 4, 1, 2), ("query-00002", 2, 5, 1, 1),
    ("gallery-00001", 1, 4, 2, 3), ("gallery-00003", 3, 5, 9, 1), ("gallery-00004", 4, -1, 5, 1)]


def test_tracklets_follow_the_lists(root):
    dataset = DATASETS["lsvid"](root)
    assert dataset.name == "lsvid" and facts(dataset) == EXPECTED
    third = dataset.tracklets[5]
    assert third.sources == tuple(f"tracklet_test/0003/0003_02_02_{frame:04}.jpg" for frame in range(3))
    assert third.read(2).decode() == third.sources[2]


def test_lists_may_lie_in_info(root):
    (root / "info").mkdir()
    shutil.move(root / "list_sequence", root / "info/list_sequence")
    shutil.move(root / "test/data", root / "info/data")
    assert facts(DATASETS["lsvid"](root)) == EXPECTED


def test_queries_in_a_file_of_level_7_3(root):
    h5py = pytest.importorskip("h5py")
    path = root / "test/data/info_test.mat"

    def write(**values):
        with h5py.File(path, "w", userblock_size=512) as file:
            file.update(values)
        with path.open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")

    write(query=np.array([[3.0], [1.0]]))
    assert facts(DATASETS["lsvid"](root)) == EXPECTED
    for values in ({"other": [1]}, {"query": [1.5]}):
        write(**values)
        check_refused("info_test.mat: its queries cannot be read", DATASETS["lsvid"], root)


def test_without_h5py_the_error_names_it(root, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    (root / "test/data/info_test.mat").write_bytes(b"MATLAB 7.3 MAT-file")
    check_refused("needs h5py: pip install -r data_prep/requirements-lsvid.txt", DATASETS["lsvid"], root)


@pytest.mark.parametrize("gone", ["list_sequence", "list_sequence/list_seq_test.txt", "test/data/info_test.mat",
                                  "tracklet_test/0003"])
def test_what_is_missing_is_named(root, gone):
    shutil.move(root / gone, root / "elsewhere")
    check_refused(f"{gone}: missing", DATASETS["lsvid"], root)


@pytest.mark.parametrize("rows", [[[6]], [[0]], [[]]])
def test_queries_outside_the_list_are_refused(root, rows):
    write_queries(root, rows)
    check_refused("query must hold rows of the test list, 1 to 5", DATASETS["lsvid"], root)


@pytest.mark.parametrize("line, message", [
    ("tracklet_test/0003/0003_01", "line 1 is not a row"), ("../0003_01 3", "line 1 is not a row"),
    ("/0003_01 3", "line 1 is not a row"), ("", "empty"),
    ("tracklet_test/0003/0003_09 3", "0003_09_\\*: no image, but a list names this tracklet")])
def test_broken_lists_are_refused(root, line, message):
    write_queries(root, [[1]])
    (root / "list_sequence/list_seq_test.txt").write_text(line)
    check_refused(message, DATASETS["lsvid"], root)


@pytest.mark.parametrize("camera", [4, 16])
def test_a_tracklet_has_one_camera_of_fifteen(root, camera):
    if camera == 16:
        shutil.rmtree(root / "tracklet_train/0007")
    write_frames(root, "tracklet_train/0007/0007_01", camera, 1)
    check_refused("frames of camera .*; a tracklet has one camera, 1 to 15", DATASETS["lsvid"], root)
