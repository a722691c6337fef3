"""The DukeMTMC-VideoReID reader: the released folders, both ways of naming frames, and wrong input."""

import shutil
from pathlib import Path

import pytest

from data_prep.datasets import DATASETS
from tests.data_prep.checks import check_refused, write_named

TRACKLETS = {
    "train/0001/0002": ["0001_C2_F0002_X00011.jpg", "0001_C2_F0001_X00010.jpg", "0001_C2_F0010_X00020.jpg"],
    "train/0010/0011": ["0010_C8_F0001_X00001.jpg"], "train/0002/0003": ["0002_C1_F0001_X00001.jpg"],
    "query/0005/0007": ["0005C3F0001X30823.jpg", "0005C3F0002X30824.jpg"],
    "query/0004/0006": ["0004_C1_F0001_X00001.jpg"],
    "gallery/0005/0008": ["0005_C4_F0001_X00001.jpg"], "gallery/0004/0005": ["0004_C2_F0002_X00001.jpg"]}


@pytest.fixture
def root(tmp_path) -> Path:
    """Seven tracklets, and a hidden folder as other systems add it."""
    for folder, names in TRACKLETS.items():
        write_named(tmp_path / folder, names)
    (tmp_path / "train/.AppleDouble").mkdir()
    return tmp_path


def test_tracklets_are_numbered_by_identity_and_folder(root):
    dataset = DATASETS["dukev"](root)
    assert dataset.name == "dukev" and dataset.note == ""
    assert [(t.split, t.track_id, t.pid, t.camid, t.name) for t in dataset.tracklets] == [
        ("train", 0, 1, 2, "train-0001-0002"), ("train", 1, 2, 1, "train-0002-0003"),
        ("train", 2, 10, 8, "train-0010-0011"), ("query", 0, 4, 1, "query-0004-0006"),
        ("query", 1, 5, 3, "query-0005-0007"), ("gallery", 2, 4, 2, "gallery-0004-0005"),
        ("gallery", 3, 5, 4, "gallery-0005-0008")]


def test_frames_follow_their_numbers_in_both_namings(root):
    tracklets = {tracklet.name: tracklet for tracklet in DATASETS["dukev"](root).tracklets}
    first = tracklets["train-0001-0002"]
    assert [first.read(i).decode() for i in range(len(first))] == [
        "0001_C2_F0001_X00010.jpg", "0001_C2_F0002_X00011.jpg", "0001_C2_F0010_X00020.jpg"]
    assert tracklets["query-0005-0007"].sources[1] == "query/0005/0007/0005C3F0002X30824.jpg"


def test_empty_tracklets_empty_splits_and_missing_ones_are_named(root):
    (root / "train/0002/0003/0002_C1_F0001_X00001.jpg").unlink()
    check_refused("train/0002/0003: empty tracklet", DATASETS["dukev"], root)
    shutil.rmtree(root / "gallery")
    (root / "gallery").mkdir()
    check_refused("gallery: holds no <identity>/<tracklet> folder", DATASETS["dukev"], root)
    shutil.rmtree(root / "query")
    check_refused("no folder query; --root must be the folder DukeMTMC-VideoReID", DATASETS["dukev"], root)


@pytest.mark.parametrize(("folder", "name", "message"), [
    ("train/0002/0003", "frame.jpg", "frame.jpg: not a frame name such as"),
    ("train/0002/0003", "0002_C9_F0002_X00002.jpg", r"camera 1, 9; a tracklet has one camera, 1 to 8"),
    ("train/0002/0003", "0007_C1_F0002_X00002.jpg", r"frames of identity 2, 7; move them"),
    ("train/0002/0009", "0002_C9_F0001_X00001.jpg", r"camera 9; a tracklet has one camera, 1 to 8"),
    ("train/notes", "0002_C1_F0001_X00001.jpg", "train/notes: the name of this folder is not a number")])
def test_a_frame_or_a_folder_that_does_not_belong_is_refused(root, folder, name, message):
    (root / folder).mkdir(exist_ok=True)
    (root / folder / name).touch()
    check_refused(message, DATASETS["dukev"], root)
