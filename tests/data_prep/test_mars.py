"""The MARS reader: the released layout, the real metadata, and every way in which the files can be wrong."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from data_prep.datasets import DATASETS, mars
from tests.data_prep.checks import check_refused, write_named

TRAIN = [[1, 3, 1, 1], [4, 5, 1, 2], [6, 6, 5, 6]]
TEST = [[1, 2, -1, 3], [3, 3, 0, 1], [4, 6, 2, 1], [7, 8, 2, 4], [9, 9, 7, 5]]
FRAMES = {
    "train": ["0001C1T0001F001", "0001C1T0001F002", "0001C1T0001F003", "0001C2T0002F001", "0001C2T0002F002",
              "0005C6T0001F001"],
    "test": ["00-1C3T0001F001", "00-1C3T0001F002", "0000C1T0001F001", "0002C1T0001F001", "0002C1T0001F002",
             "0002C1T0001F003", "0002C4T0002F001", "0002C4T0002F002", "0007C5T0001F001"]}


@pytest.fixture
def root(tmp_path) -> Path:
    """A data set of eight tracklets."""
    (tmp_path / "info").mkdir()
    for part, folder in (("train", "bbox_train"), ("test", "bbox_test")):
        names = [f"{frame}.jpg" for frame in FRAMES[part]]
        (tmp_path / "info" / f"{part}_name.txt").write_text("\n".join(names) + "\n")
        for name in names:
            write_named(tmp_path / folder / name[:4], [name])
    for part, rows in (("train", TRAIN), ("test", TEST), ("query", [[3, 5]])):
        rewrite(tmp_path, part, rows)
    return tmp_path


def rewrite(root: Path, part: str, rows) -> None:
    savemat(root / "info" / mars.INFO_FILES[part], {mars.KEYS[part]: np.array(rows)})


def changed(rows, row: int, column: int, value) -> list:
    rows = [list(own) for own in rows]
    rows[row][column] = value
    return rows


def test_tracklets_come_as_train_query_gallery_by_row(root):
    dataset = DATASETS["mars"](root)
    assert dataset.name == "mars" and dataset.note == ""
    assert [(t.split, t.track_id, t.pid, t.camid, len(t)) for t in dataset.tracklets] == [
        ("train", 0, 1, 1, 3), ("train", 1, 1, 2, 2), ("train", 2, 5, 6, 1),
        ("query", 2, 2, 1, 3), ("query", 4, 7, 5, 1),
        ("gallery", 0, -1, 3, 2), ("gallery", 1, 0, 1, 1), ("gallery", 3, 2, 4, 2)]


def test_frames_are_read_from_the_folder_of_the_first_four_characters_also_in_another_process(root):
    tracklets = {tracklet.name: tracklet for tracklet in pickle.loads(pickle.dumps(DATASETS["mars"](root).tracklets))}
    assert tracklets["0001C2T0002"].read(1) == b"0001C2T0002F002.jpg"
    assert tracklets["00-1C3T0001"].read(0) == b"00-1C3T0001F001.jpg"
    assert tracklets["0002C4T0002"].sources == (
        "bbox_test/0002/0002C4T0002F001.jpg", "bbox_test/0002/0002C4T0002F002.jpg")


def test_names_stay_unique_when_two_rows_share_a_stem(root):
    rewrite(root, "train", [[1, 1, 1, 1], [2, 3, 1, 1], [4, 5, 1, 2], [6, 6, 5, 6]])
    names = [tracklet.name for tracklet in DATASETS["mars"](root).tracklets]
    assert names[:2] == ["0001C1T0001R0", "0001C1T0001R1"] and len(set(names)) == len(names)


def test_a_missing_image_names_the_file_and_the_frame(root):
    (root / "bbox_train/0001/0001C1T0001F002.jpg").unlink()
    check_refused("0001C1T0001F002.jpg.*frame 1.*unpack", DATASETS["mars"](root).tracklets[0].read, 1)


@pytest.mark.parametrize("gone, message", [
    *((f"info/{name}", f"{name}: missing; get the info folder")
      for name in (*mars.INFO_FILES.values(), *mars.NAME_FILES.values())),
    *((folder, f"{folder}.*: no such folder.*unpack bbox_") for folder in ("bbox_train", "bbox_test/0002",
                                                                           "bbox_test/00-1"))])
def test_what_is_missing_is_named(root, gone, message):
    shutil.move(root / gone, root / "elsewhere")
    check_refused(message, DATASETS["mars"], root)


@pytest.mark.parametrize(("part", "rows", "message"), [
    ("train", changed(TRAIN, 1, 3, 7), "row 2 has camera 7: cameras are 1 to 6"),
    ("test", changed(TEST, 0, 3, 0), "row 1 has camera 0: cameras are 1 to 6"),
    ("train", changed(TRAIN, 1, 1, 3), "row 2 has last frame 3: .*the tracklet is empty"),
    ("train", changed(TRAIN, 1, 0, 3), "row 2 has first frame 3: .*follow each other"),
    ("train", changed(TRAIN, 0, 0, 0), "row 1 has first frame 0: frames count from 1"),
    ("train", changed(TRAIN, 0, 2, 0), "row 1 has identity 0: identities of this list start at 1"),
    ("test", changed(TEST, 4, 2, -2), "row 5 has identity -2: identities of this list start at -1"),
    ("query", [[3, 6]], "row 2 has query index 6: tracks_test_info.mat has rows 1 to 5"),
    ("query", [[0, 3]], "row 1 has query index 0"),
    ("query", [[3, 3]], "query index 3 occurs twice"),
    ("query", [[3, 4], [1, 2]], r"query_IDX has shape \(2, 2\), expected \[1, queries\]"),
    ("train", [[1, 3, 1]], r"shape \(1, 3\), expected \[tracklets, 4\]"),
    ("test", np.zeros((0, 4)), r"expected \[tracklets, 4\]"),
    ("test", [[1, 9, 1, 1, 1, 1]], "six columns are corrected labels.*config.eval.corrections"),
    ("train", changed(TRAIN, 0, 2, 1.5), "not whole numbers"),
    ("train", changed(TRAIN, 0, 2, np.nan), "not whole numbers"),
    ("train", [["a", "b"]], "not whole numbers"),
    ("train", np.array([[{"a": 1}]], object), "not whole numbers")])
def test_wrong_metadata_names_file_value_and_remedy(root, part, rows, message):
    rewrite(root, part, rows)
    check_refused(f"{mars.INFO_FILES[part]}: .*{message}", DATASETS["mars"], root)


def test_damaged_matlab_files_are_refused(root):
    path = root / "info" / mars.INFO_FILES["test"]
    whole = path.read_bytes()
    for content in (b"", b"no matlab file", whole[:100], whole[:150], whole[:-20], b"\x89HDF\r\n\x1a\n" + bytes(600),
                    whole[:128] + bytes(range(100, 164))):
        path.write_bytes(content)
        check_refused("tracks_test_info.mat: .*restore the file", DATASETS["mars"], root)


@pytest.mark.parametrize("names, message", [
    (FRAMES["train"][:-1], "lists 5 frames, but tracks_train_info.mat counts 6; restore"),
    (["../passwd"] * 6, "'../passwd.jpg' is not a frame name"),
    ([*FRAMES["train"][:2], *FRAMES["train"][:1:-1]],
     "tracklet 1, from line 1, mixes 0001C1T0001F001.jpg with 0005C6T0001F001.jpg")])
def test_name_lists_that_do_not_fit_are_refused(root, names, message):
    (root / "info/train_name.txt").write_text("\n".join(f"{name}.jpg" for name in names))
    check_refused(f"train_name.txt: .*{message}", DATASETS["mars"], root)


def test_a_wrong_key_is_named_with_what_was_found(root):
    savemat(root / "info/tracks_train_info.mat", {"track_test_info": np.array(TRAIN)})
    check_refused("tracks_train_info.mat: holds track_test_info instead of track_train_info", DATASETS["mars"], root)


def test_the_real_metadata_has_the_published_sizes(mars_info):
    metadata = mars.read_metadata(mars_info)
    assert metadata.sizes() == {
        "training tracklets": 8298, "training identities": 625, "training frames": 509914,
        "test tracklets": 12180, "test frames": 681089, "junk tracklets": 870, "distractor tracklets": 3248,
        "test identities": 634, "query tracklets": 1980, "query identities": 626}
    lengths = metadata.test[:, 1] - metadata.test[:, 0]
    assert (lengths.min(), np.median(lengths), lengths.max(), (lengths < 6).sum()) == (2, 30, 920, 4)
    assert (metadata.test[metadata.query, 2] > 0).all()
    assert metadata.test[0, 0] == 0 and (metadata.test[1:, 0] == metadata.test[:-1, 1]).all()


def test_real_metadata_of_a_wrong_size_is_refused(mars_info, tmp_path):
    for name in mars.INFO_FILES.values():
        shutil.copyfile(mars_info / name, tmp_path / name)
    rows = loadmat(tmp_path / mars.INFO_FILES["train"])[mars.KEYS["train"]]
    savemat(tmp_path / mars.INFO_FILES["train"], {mars.KEYS["train"]: rows[:-1]})
    check_refused("looks like MARS but has 8,297 training tracklets instead of 8,298", mars.read_metadata, tmp_path)
