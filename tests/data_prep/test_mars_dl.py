"""MARS-DL's layout: written from records, read back, written again; masks that do not fit are named."""

import shutil

import numpy as np
import pytest

from cfaan_jax.data.manifest import load_manifest
from cfaan_jax.data.records import RecordSet
from data_prep.build_tfrecords import main
from data_prep.datasets import mars_dl
from tests.data_prep.checks import check_refused, contents, records

pytestmark = pytest.mark.slow


def pack(root, out, *more) -> int:
    return main(["--dataset=mars_dl", f"--root={root}", f"--out={out}", *more])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small synthetic set through Re-Detect and Link, as records and as images, and records from the images."""
    folder = tmp_path_factory.mktemp("dl")
    assert main(["--dataset=synthetic", "--identities=8", f"--root={folder / 'synthetic'}",
                 f"--out={folder / 'records'}", "--detector=hog", "--linker=largest",
                 f"--export_images={folder / 'images'}"]) == 0
    assert pack(folder / "images", folder / "again", f"--export_images={folder / 'images_again'}") == 0
    return folder


def test_written_read_and_written_again_it_is_the_same(made):
    first, second = contents(made / "images", "**/*"), contents(made / "images_again", "**/*")
    assert first.keys() == second.keys() and len(first) > 100
    assert all(first[path] == second[path] for path in first)
    assert {path.name for path in (made / "images/info").iterdir()} == {
        "train_name.txt", "test_name.txt", "tracks_train_info.mat", "tracks_test_info.mat", "query_IDX.mat",
        "mask_info.csv", "mask_info_test.csv"}


def test_records_from_the_images_hold_what_the_direct_ones_do(made):
    padded = set()
    for one, other in zip(records(made / "records"), records(made / "again"), strict=True):
        assert one.frames == other.frames and one.sources == other.sources
        assert (one.name, one.split, one.pid, one.camid, one.track_id) == (
            other.name, other.split, other.pid, other.camid, other.track_id)
        np.testing.assert_array_equal(one.rectangles, other.rectangles)
        if (one.rectangles != (0, 256, 0, 128)).any():
            padded.add(one.split)
    assert padded == {"train", "query", "gallery"}


def test_they_count_as_aligned_though_no_detector_ran(made, capsys):
    manifest = load_manifest(made / "again")
    assert manifest["aligned"] and manifest["detector"] == "none"
    assert pack(made / "images", made / "again") == 0
    text = capsys.readouterr().out
    assert "padding" in text and "persons detected" not in text


def test_masks_follow_the_name_list_line_by_line(made):
    lines = (made / "images/info/mask_info.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == (made / "images/info/train_name.txt").read_text().split()
    first = RecordSet.open(made / "records", "train").rectangles(0)[0]
    assert lines[0].split(",")[1:] == [str(value) for value in first]


@pytest.fixture
def images(made, tmp_path):
    """The images' lists in a folder of their own; the image folders are links."""
    shutil.copytree(made / "images/info", tmp_path / "info")
    for part in ("bbox_train", "bbox_test"):
        (tmp_path / part).symlink_to(made / "images" / part)
    return tmp_path


@pytest.mark.parametrize("change, expected", [
    (lambda lines: lines[1:], r"mask_info.csv: no row for bbox_train/"),
    (lambda lines: [lines[0].rsplit(",", 1)[0], *lines[1:]], r"mask_info.csv: line 1 is not a row"),
    (lambda lines: [lines[0], "x,1,2,3,tall", *lines[1:]], r"mask_info.csv: line 2 is not a row"),
    (lambda lines: [lines[0].split(",")[0] + ",9,9,0,5", *lines[1:]], r"mask_info.csv: line 1, .* at least one pixel"),
    (lambda lines: [lines[0].split(",")[0] + ",inf,256,0,128", *lines[1:]], r"line 1 is not a row .*inf is not a"),
    (lambda lines: [lines[0].split(",")[0] + ",0,3000000000,0,128", *lines[1:]], r"line 1 is not a row .*3000000000"),
    (lambda lines: [lines[0].split(",")[0] + ",0.5,256,0,128", *lines[1:]], r"line 1 is not a row .*0.5")])
def test_broken_masks_are_named(images, capsys, change, expected):
    path = images / "info/mask_info.csv"
    path.write_text("\n".join(change(path.read_text().splitlines())))
    check_refused(expected, mars_dl.open, images)


def test_a_mask_that_leaves_its_frame_is_named(images, capsys):
    path = images / "info/mask_info.csv"
    name, *rows = path.read_text().splitlines()
    path.write_text("\n".join([name.split(",")[0] + ",0,300,0,128", *rows]))
    assert pack(images, images / "out") == 2
    assert "(0, 300, 0, 128) leaves the image of 256 x 128 pixels" in capsys.readouterr().err


def test_masks_that_are_missing_point_to_mars(images):
    (images / "info/mask_info_test.csv").unlink()
    check_refused(r"mask_info_test.csv: missing; .*--dataset=mars", mars_dl.open, images)


def test_an_export_onto_other_images_or_lists_is_refused(made, tmp_path, capsys):
    path = next((made / "images/bbox_train").rglob("*.jpg"))
    other = tmp_path / path.relative_to(made / "images")
    other.parent.mkdir(parents=True)
    other.write_bytes(b"another")
    assert pack(made / "images", made / "again", f"--export_images={tmp_path}") == 2
    assert "exists with another content" in capsys.readouterr().err
    assert other.read_bytes() == b"another" and not (tmp_path / "info").exists()
    lists = tmp_path / "lists"  # refused before anything is written
    (lists / "info").mkdir(parents=True)
    (lists / "info/train_name.txt").write_text("another")
    assert pack(made / "images", made / "again", f"--export_images={lists}") == 2
    assert "train_name.txt: exists with another content" in capsys.readouterr().err
    assert [path.name for path in lists.rglob("*")] == ["info", "train_name.txt"]


@pytest.mark.parametrize("where", ["images", "images/bbox_train", ".", "again"])
def test_an_export_into_what_is_read_or_written_is_refused(made, capsys, where):
    before = contents(made / "images", "**/*")
    assert pack(made / "images", made / "again", f"--export_images={made / where}") == 2
    assert "is, holds or lies in" in capsys.readouterr().err and contents(made / "images", "**/*") == before


def test_detecting_in_padded_frames_is_refused(made, tmp_path, capsys):
    assert pack(made / "images", tmp_path / "out", "--detector=hog", "--linker=largest") == 2
    assert "MARS-DL is aligned already" in capsys.readouterr().err and not (tmp_path / "out").exists()
