import numpy as np
import pytest
import scipy.io

from cfaan_jax.metrics import corrections
from tests.data_prep.checks import check_refused

TRACKS, PIDS = np.array([10, 11, 12, 13]), np.array([5, 0, 6, -1])


def csv_file(tmp_path, lines, header="track_id,pid,second_pid\n"):
    path = tmp_path / "corrections.csv"
    path.write_text(header + lines, encoding="utf-8")
    return path


def mat_file(tmp_path, table, key="track_test_info"):
    path = tmp_path / "clean_tracks_test_info.mat"
    scipy.io.savemat(path, {key: table})
    return path


def test_csv(tmp_path):
    path = csv_file(tmp_path, "12,5,6,ambiguous\n11,6,6,a person after all\n", "track_id,pid,second_pid,kind\n")
    corrected, second = corrections.read(path).apply(TRACKS, PIDS)
    assert corrected.tolist() == [5, 6, 5, -1]
    assert second.tolist() == [5, 6, 6, -1]
    assert PIDS.tolist() == [5, 0, 6, -1]


def test_mat(tmp_path):
    """Row i of the file is tracklet i; the tracklets may come in any order."""
    table = np.array([[1, 9, 0, 1, 0, 0], [10, 19, 5, 2, 5, 6], [20, 29, 6, 3, 5, 5]], np.int32)
    corrected, second = corrections.read(mat_file(tmp_path, table)).apply(np.array([2, 0, 1]), np.array([6, 0, 5]))
    assert corrected.tolist() == [5, 0, 5]
    assert second.tolist() == [5, 0, 6]


def test_mat_of_other_data_is_refused(tmp_path):
    table = np.array([[1, 9, 0, 1, 0, 0], [10, 19, 5, 2, 5, 6]], np.int32)
    read = corrections.read(mat_file(tmp_path, table))
    check_refused("track_id 1 had another identity than in the records", read.apply, np.array([0, 1]), np.array([0, 7]))


@pytest.mark.parametrize("text, message", [
    ("track_id,pid\n10,5\n", "first line must name .*wrong: second_pid"),
    ("", "first line must name"),
    ("track_id,pid,second_pid\n10,five,5\n", "line 2: '10,five,5' are not three whole numbers"),
    ("track_id,pid,second_pid\n10,5\n", "line 2: '10,5,' are not three whole numbers"),
    ("track_id,pid,second_pid\n10,5,5\n10,6,6\n", "track_id 10 is corrected more than once"),
    ("track_id,pid,second_pid,pid\n10,5,5,6\n", "once; wrong: pid"),
    ("track_id,pid,second_pid\n10,1_0,10\n", "are not three whole numbers"),
    ("track_id,pid,second_pid\n10,99999999999999999999999,5\n", "are not three whole numbers"),
    ("track_id,pid,second_pid\n10,-7,-7\n", "-7 is not an identity")])
def test_malformed_csv_is_refused(tmp_path, text, message):
    check_refused(message, corrections.read, csv_file(tmp_path, text, header=""))


def test_what_spreadsheets_write_is_read(tmp_path):
    path = tmp_path / "corrections.csv"
    path.write_bytes('\ufefftrack_id, pid, second_pid\r\n10, "5", 5\r\n\r\n'.encode())
    assert corrections.read(path).pids.tolist() == [5]
    path.write_bytes("track_id,pid,second_pid\n10,5,5\n".encode("utf-16"))
    check_refused("not a CSV file in UTF-8", corrections.read, path)


def test_malformed_or_missing_files_are_refused(tmp_path):
    check_refused("instead of track_test_info", corrections.read, mat_file(tmp_path, np.zeros((2, 6)), key="other"))
    check_refused("is 2x4; it must have six columns", corrections.read, mat_file(tmp_path, np.zeros((2, 4))))
    check_refused("not whole numbers", corrections.read, mat_file(tmp_path, np.full((2, 6), 0.5)))
    (tmp_path / "broken.mat").write_bytes(b"not a matrix")
    check_refused("broken.mat: not a readable MATLAB file", corrections.read, tmp_path / "broken.mat")
    check_refused("nowhere.csv: no such file", corrections.read, tmp_path / "nowhere.csv")


@pytest.mark.parametrize("line, tracks, message", [
    ("14,5,5", TRACKS, r"corrections.csv: no test tracklet has track_id 14"),
    ("10,5,5", [10, 10, 12, 13], "share a track id"),
    ("12,5,-1", TRACKS, "second identity -1 of 1 tracklets looks like a marker"),
    ("12,5,0", TRACKS, "second identity 0 of 1 tracklets looks like a marker")])
def test_what_fits_no_tracklet_and_markers_below_every_identity_are_refused(tmp_path, line, tracks, message):
    check_refused(message, corrections.read(csv_file(tmp_path, line)).apply, np.array(tracks), PIDS)


def test_marker_above_every_identity_is_refused(tmp_path):
    pids = np.array([1, 2, 3, 3])
    check_refused("second identity 9999 of 3 tracklets", corrections.refuse_shared_marker, pids,
                  np.array([9999, 9999, 9999, 3]), pids, "labels")
    read = corrections.read(csv_file(tmp_path, "0,1,9999\n1,2,9999\n2,3,9999\n3,3,1\n"))
    check_refused("corrections.csv: second identity 9999 of 3 tracklets", read.apply, np.arange(20), np.full(20, 3))


def test_ambiguous_identities_are_no_marker():
    """One real person may be the second identity of many, and a person without a tracklet that of several."""
    pids = np.array([1, 2, 3, 4, 0, -1])
    corrections.refuse_shared_marker(pids, np.array([4, 4, 4, 4, 4, -1]), pids, "labels")
    corrections.refuse_shared_marker(pids, np.array([77, 77, 3, 4, 0, -1]), pids, "labels")
    corrections.refuse_shared_marker(pids[:2], np.array([77, 77]), pids, "labels")
    pids = np.array([1, 2, 3, 4, 5, 6, 0])
    corrections.refuse_shared_marker(pids, np.array([77, 77, 77, 4, 5, 6, 0]), pids, "labels")
