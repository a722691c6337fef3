"""Shards that are complete or absent, resumed runs, and what TensorFlow Datasets reads."""

import json
import sys

import numpy as np
import pytest

from cfaan_jax.data.manifest import load_manifest
from cfaan_jax.data.records import RecordSet
from cfaan_jax.errors import InputError
from data_prep import writer
from data_prep.datasets import Dataset
from data_prep.redetect_link.packing import Packer
from data_prep.redetect_link.tracklet import Tracklet
from tests.data.test_records import jpeg
from tests.data_prep.checks import check_refused, contents, write_named

SETTINGS = {"dataset": "toy", "detector": "none", "shard_size": 2, "image_size": (16, 8)}
PACK = Packer(95)


def tracklet(number: int, split: str, frames: int = 3, **changes) -> Tracklet:
    fields = dict(name=f"T{number}", split=split, track_id=number, pid=number // 2, camid=1 + number % 2,
                  sources=tuple(f"T{number}F{k}.jpg" for k in range(frames)), read=lambda k: jpeg(10 * number + k))
    return Tracklet(**fields | changes)


def toy() -> Dataset:
    splits = ["train"] * 5 + ["query"] * 1 + ["gallery"] * 4
    return Dataset("toy", [tracklet(number, split) for number, split in enumerate(splits)], "a note")


def write_all(folder, dataset, settings=SETTINGS):
    settings = writer.save_or_check_settings(folder, dataset, settings)
    shards = writer.plan(dataset, folder, settings["shard_size"])
    missing = [shard for shard in shards if not shard.path.exists()]
    writer.write(missing, lambda tracklets: (PACK(tracklet) for tracklet in tracklets), lambda record: None)
    writer.finish(folder, dataset, folder.parent, shards, settings, {"aligned": False})
    return missing


@pytest.fixture
def out(tmp_path):
    """The records of the toy."""
    write_all(tmp_path / "out", toy())
    return tmp_path / "out"


def test_shards_and_the_manifest_follow_the_data_set(out):
    assert sorted(path.name for path in out.glob("*.tfrecord-*")) == [
        f"toy-{split}.tfrecord-{k:05}-of-{shards:05}"
        for split, shards in (("gallery", 2), ("query", 1), ("train", 3)) for k in range(shards)]
    for split, numbers in (("train", range(5)), ("query", [5]), ("gallery", range(6, 10))):
        records = RecordSet.open(out, split)
        assert records.names == [f"T{number}" for number in numbers]
        assert records.frame(0, 2) == jpeg(10 * numbers[0] + 2)
    manifest = load_manifest(out)
    assert manifest["dataset"] == "toy" and manifest["note"] == "a note" and manifest["aligned"] is False
    assert manifest["counts"]["train"] == {"tracklets": 5, "frames": 15, "identities": 2}
    assert not (out / "unfinished.json").exists()


@pytest.mark.parametrize("lost", ["toy-train.tfrecord-00001-of-00003", "toy-query.tfrecord-00000-of-00001"])
def test_a_deleted_shard_comes_back_with_the_same_bytes(out, lost):
    before = contents(out)
    (out / lost).unlink()
    assert [shard.path.name for shard in write_all(out, toy())] == [lost]
    assert contents(out) == before


def test_the_index_is_made_anew_when_a_new_shard_has_the_size_of_the_old_one(tmp_path):
    def trailing(frame):  # one frame is longer by some bytes behind its end
        return tracklet(4, "train", read=lambda k: jpeg(40 + k) + b"\0" * 5 * (k == frame))

    for frame in (0, 1):
        dataset = toy()
        dataset.tracklets[4] = trailing(frame)
        write_all(tmp_path / "out", dataset)
        records = RecordSet.open(tmp_path / "out", "train")
        assert [records.frame(4, k) for k in range(3)] == [trailing(frame).read(k) for k in range(3)]
        (tmp_path / "out" / "toy-train.tfrecord-00002-of-00003").unlink()


def test_other_settings_are_refused_and_named(out):
    before = contents(out)
    with pytest.raises(InputError) as caught:
        write_all(out, toy(), settings=SETTINGS | {"detector": "hog", "shard_size": 3})
    text = str(caught.value)
    assert str(out) in text and "detector: none there, hog now" in text
    assert "shard_size: 2 there, 3 now" in text and "image_size" not in text and "another --out" in text
    for change, said in (({"padding": 0.1}, "padding: None there, 0.1 now"),
                         ({"detector": "hog", "padding": 0.1}, r"\(detector: none there, hog now\)")):
        check_refused(said, write_all, out, toy(), settings=SETTINGS | change)
    assert contents(out) == before


@pytest.mark.parametrize("change", [{"pid": 9}, {"camid": 3}, {"track_id": 77}, {"name": "X"},
                                    {"sources": ("a", "b", "c")}])
def test_another_data_set_is_refused(out, change):
    other = toy()
    other.tracklets[2] = tracklet(2, "train", **change)
    check_refused("tracklets: 10 with checksum", write_all, out, other)


def test_a_folder_with_other_things_is_refused(tmp_path):
    write_named(tmp_path / "out", ["thesis.tex"])
    check_refused("holds thesis.tex", write_all, tmp_path / "out", toy())
    assert contents(tmp_path / "out") == {"thesis.tex": b"thesis.tex"}
    check_refused("thesis.tex: is a file", write_all, tmp_path / "out" / "thesis.tex", toy())


def test_tracklets_that_cannot_be_told_apart_and_empty_ones_are_refused(tmp_path):
    for broken, said in (([tracklet(1, "train"), tracklet(1, "query")], "two tracklets are named T1"),
                         ([tracklet(1, "train", frames=0)], "tracklet T1 has no frames"), ([], "no tracklets")):
        check_refused(said, writer.plan, Dataset("toy", broken), tmp_path, 2)


def test_a_shard_with_the_wrong_tracklets_is_found(out):
    gallery = [out / f"toy-gallery.tfrecord-0000{k}-of-00002" for k in (0, 1)]
    gallery[1].write_bytes(gallery[0].read_bytes())
    (out / "index-gallery.npz").unlink()
    check_refused(f"{gallery[1].name}: does not hold the 2 tracklets", write_all, out, toy())


def test_finished_means_the_same_settings_and_nothing_missing(tmp_path):
    out, root = tmp_path / "out", tmp_path
    assert not writer.is_finished(out, SETTINGS, root)
    write_all(out, toy())
    assert writer.is_finished(out, SETTINGS, root)
    assert not writer.is_finished(out, SETTINGS | {"detector": "hog"}, root)
    assert not writer.is_finished(out, SETTINGS, tmp_path / "elsewhere")
    (out / "features.json").unlink()
    assert not writer.is_finished(out, SETTINGS, root)
    write_all(out, toy())
    (out / "toy-query.tfrecord-00000-of-00001").unlink()
    assert not writer.is_finished(out, SETTINGS, root)


def test_tensorflow_datasets_reads_the_description_without_tensorflow(tmp_path):
    import tensorflow_datasets as tfds

    had_tensorflow = "tensorflow" in sys.modules
    write_all(tmp_path / "out", toy())
    builder = tfds.builder_from_directory(tmp_path / "out")
    assert builder.name == "toy" and builder.info.description == "a note"
    assert {name: (split.num_examples, split.num_shards) for name, split in builder.info.splits.items()} == {
        "train": (5, 3), "query": (1, 1), "gallery": (4, 2)}
    assert builder.info.splits["train"].filenames == [f"toy-train.tfrecord-0000{k}-of-00003" for k in range(3)]
    assert set(builder.info.features) == {"name", "split", "track_id", "pid", "camid", "frames", "rectangles", "boxes",
                                          "actions", "candidates", "sources"}
    assert builder.info.features["frames"].feature.encoding_format == "jpeg"
    assert builder.info.features["rectangles"].shape == (None, 4)
    assert ("tensorflow" in sys.modules) == had_tensorflow


@pytest.mark.slow
def test_tensorflow_reads_the_records(out):
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed: nothing here needs it but this proof")
    import tensorflow_datasets as tfds

    for split in ("train", "query", "gallery"):
        mine = RecordSet.open(out, split)
        theirs = list(tfds.as_numpy(tfds.builder_from_directory(out).as_dataset(split=split)))
        assert [row["name"].decode() for row in theirs] == mine.names
        for i, row in enumerate(theirs):
            assert row["frames"].shape == (3, 16, 8, 3) and row["pid"] == mine.pids[i]
            np.testing.assert_array_equal(row["rectangles"], mine.rectangles(i))
            assert tuple(row["sources"]) == tuple(source.encode() for source in mine.record(i).sources)


def test_tensorflow_users_are_told_of_frames_that_cannot_be_stacked(tmp_path):
    dataset = toy()
    dataset.tracklets[0] = tracklet(0, "train", read=lambda k: jpeg(k, (16 + 2 * k, 8)))
    write_all(tmp_path / "out", dataset)
    assert "SkipDecoding" in json.loads((tmp_path / "out" / "dataset_info.json").read_text())["description"]
