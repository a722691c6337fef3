"""Images that claim to be huge, and indexes whose columns do not fit each other or point elsewhere."""

import cv2
import numpy as np
import pytest

from cfaan_jax.data import images
from cfaan_jax.data.index import index_path
from cfaan_jax.data.records import RecordSet
from cfaan_jax.data.tracklets import ImageTracklets
from cfaan_jax.errors import InputError
from data_prep.redetect_link import packing
from data_prep.redetect_link.tracklet import Tracklet
from tests import tiny_records
from tests.data_prep.checks import check_refused


def claiming(height: int, width: int) -> bytes:
    """A small JPEG file whose header says another size."""
    file = tiny_records.frame(np.random.default_rng(0), 1)
    place = file.index(b"\xff\xc0") + 5
    return file[:place] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + file[place + 4:]


@pytest.mark.parametrize("height, width", [(65_000, 65_000), (10_000, 10_000)])
def test_images_that_claim_to_be_huge_are_refused_wherever_they_come_from(tmp_path, height, width):
    bomb, whole = claiming(height, width), tiny_records.frame(np.random.default_rng(0), 1)
    assert images.decode(bomb) is None
    check_refused("tracklet a, frame 1 is not a readable image", ImageTracklets({"a": [whole, bomb]}).image_sizes, 0)
    with pytest.raises(InputError, match="bomb.jpg: frame 0 of tracklet t is not a readable image.*claims"):
        packing.read_frame(Tracklet("t", "train", 0, 1, 1, ("bomb.jpg",), lambda _: bomb), 0)
    record = tiny_records.tracklet("t", "train", 0, 1, 1, [whole, bomb])
    check_refused(r"tiny-train.*00001: record 0: an image that claims", tiny_records.write, tmp_path, [record])


def test_an_image_of_the_largest_size_is_read(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 64 * 32)
    file = cv2.imencode(".png", np.zeros((64, 32, 3), np.uint8))[1].tobytes()
    assert images.decode(file).shape == (64, 32, 3) and images.size_of(file) == (64, 32)
    assert images.decode(cv2.imencode(".png", np.zeros((65, 32, 3), np.uint8))[1].tobytes()) is None


@pytest.fixture
def folder(records_directory, tmp_path):
    """Links to the files of a folder of records."""
    for path in records_directory.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


def change_column(folder, name: str, change) -> None:
    """Puts an index with another column in the place of the link to that of gallery tracklets."""
    path = index_path(folder, "gallery")
    with np.load(path) as arrays:  # no pickle among them
        columns = dict(arrays)
    path.unlink()
    np.savez(path, **columns | {name: change(columns[name])})


def _codes(texts: np.ndarray, code: int) -> np.ndarray:
    """The same with a number in place of the last text's first character."""
    codes = texts.view(np.uint32).copy()
    codes[-texts.itemsize // 4] = code
    return codes.view(texts.dtype)


@pytest.mark.parametrize("name, change, said", [
    ("frame_start", lambda a: a[::-1], "frame_start does not count"),
    ("frame_start", lambda a: a[:-1], "frame_start has shape"),
    ("frame_start", lambda a: np.r_[a[:-1], a[-2]], "frame_start does not"),
    ("frame_start", lambda a: a + 0.5, "holds float64"),
    ("frame_start", lambda a: np.r_[0, np.full(len(a) - 1, 2**62)], "frame_start does not"),
    ("shards", lambda a: a - 1, "not listed"), ("shards", lambda a: a + 1, "not listed"),
    ("record_offsets", lambda a: a - 2**40, "outside its shard"),
    ("record_offsets", lambda a: a * 0, "outside its shard"),
    ("record_offsets", lambda a: a.astype(np.uint64), "holds uint64"),
    ("record_lengths", lambda a: a + 2**62, "outside its shard"),
    ("frame_offsets", lambda a: a[::-1], "outside its record"), ("frame_lengths", lambda a: -a, "outside its record"),
    ("frame_lengths", lambda a: a + 2**62, "outside its record"), ("names", lambda a: a[:, None], "names has shape"),
    ("names", lambda a: np.arange(len(a)), "names holds int64"),
    ("names", lambda a: a.astype(object), "Object arrays cannot be loaded"),  # they are pickles
    ("names", lambda a: _codes(a, 0x110000), "names holds codes that are not characters"),
    ("shard_names", lambda a: _codes(a, 0xDC80), "shard_names holds codes that are not characters"),
    ("rectangles", lambda a: a[:, :3], "rectangles has shape"),
    ("image_sizes", lambda a: a[:1], "image_sizes has shape"), ("actions", lambda a: a + 7, "an action that is not"),
    ("pids", lambda a: a[:0], "pids has shape"), ("schema_version", lambda a: a.repeat(2), "0-dim")])
def test_an_index_whose_columns_do_not_fit_is_refused(folder, name, change, said):
    change_column(folder, name, change)
    check_refused(f"index-gallery.npz is damaged .*{said}.*--rebuild_index", RecordSet.open, folder, "gallery")


def test_shards_that_are_named_elsewhere_are_not_followed(folder, records_directory):
    change_column(folder, "shard_names", lambda names: np.array([f"../{records_directory.name}/{names[0]}"]))
    check_refused("is stale, made from other shards", RecordSet.open, folder, "gallery")


def test_links_in_a_folder_of_records_are_followed(folder, records_directory):
    """Data sets are put together from links; whoever may write a link there may write the file."""
    linked, direct = (RecordSet.open(place, "gallery") for place in (folder, records_directory))
    assert linked.frame(0, 0) == direct.frame(0, 0)
