"""The bytes of records, random access through the index, and what happens to damaged, stale and missing files."""

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfaan_jax.data import example, records, tracklet_record
from cfaan_jax.data.index import index_path
from cfaan_jax.data.index_build import rebuild_index
from cfaan_jax.data.manifest import load_manifest
from cfaan_jax.data.records import RecordSet, TrackletRecord
from cfaan_jax.data.tracklet_record import SCHEMA_VERSION, decode, encode
from cfaan_jax.errors import InputError
from tests import tiny_records
from tests.data_prep.checks import check_refused

SHARDS = (3, 2)  # records in each shard


def jpeg(seed: int, size: tuple[int, int] = (16, 8)) -> bytes:
    return tiny_records.frame(np.random.default_rng(seed), seed, size)


def make_record(number: int, frames: tuple[bytes, ...] | None = None) -> TrackletRecord:
    if frames is None:
        frames = tuple(jpeg(100 * number + k) for k in range(2 + number % 3))
    length = len(frames)
    return TrackletRecord(
        name=f"T{number:04d}", split="train", track_id=number, pid=(-1, 0, 7, 7, 300)[number % 5], camid=1 + number % 6,
        frames=frames, rectangles=np.array([[0, 16, k, 8] for k in range(length)], np.int32),
        boxes=np.array([[k, 40 + k, 3, 23] for k in range(length)], np.int32),
        actions=("largest", "linked|shift_left", *["fallback"] * length)[:length],
        candidates=tuple(k % 3 for k in range(length)), sources=tuple(f"{number}/F{k}.jpg" for k in range(length)))


def write_folder(folder: Path, every: list[TrackletRecord], shards=SHARDS) -> list[Path]:
    """Shards and manifest, without index."""
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION, "dataset": "toy", "note": "",
        "aligned": False, "counts": {"train": {"tracklets": len(every)}}, "settings": {}}))
    rest, paths = iter(every), []
    for number, count in enumerate(shards):
        paths.append(folder / f"toy-train.tfrecord-{number:05d}-of-{len(shards):05d}")
        paths[-1].write_bytes(b"".join(example.pack_tfrecord(encode(next(rest))) for _ in range(count)))
    return paths


@pytest.fixture
def every() -> list[TrackletRecord]:
    return [make_record(number) for number in range(sum(SHARDS))]


@pytest.fixture
def folder(tmp_path, every) -> Path:
    write_folder(tmp_path / "records", every)
    rebuild_index(tmp_path / "records", "train")
    return tmp_path / "records"


def shard(folder: Path, number: int) -> Path:
    return folder / f"toy-train.tfrecord-{number:05d}-of-00002"


# --- bytes ---

def as_features(record: TrackletRecord) -> dict[str, list]:
    return {
        "name": [record.name.encode()], "split": [record.split.encode()], "track_id": [record.track_id],
        "pid": [record.pid], "camid": [record.camid], "frames": list(record.frames),
        "rectangles": record.rectangles.ravel().tolist(), "boxes": record.boxes.ravel().tolist(),
        "actions": [action.encode() for action in record.actions], "candidates": list(record.candidates),
        "sources": [source.encode() for source in record.sources]}


def test_a_record_has_the_bytes_that_tensorflow_wrote_for_it():
    """With a negative number. The next test asks TensorFlow itself, where it is installed."""
    digest = hashlib.sha256(encode(make_record(0, frames=(b"one", b"two")))).hexdigest()
    assert digest == "684420279b9fc4b3a6d5aa2c13c196ed09741bdbc6ed789b38969a189c7eec1b"


def test_a_record_has_the_bytes_that_tensorflow_writes(folder, every):
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed: nothing here needs it but this proof")
    for record in every:
        reference = tf.train.Example()
        for name, values in as_features(record).items():
            feature = reference.features.feature[name]
            (feature.bytes_list if isinstance(values[0], bytes) else feature.int64_list).value.extend(values)
        assert encode(record) == reference.SerializeToString(deterministic=True)
    payloads = [payload.numpy() for payload in tf.data.TFRecordDataset([str(shard(folder, k)) for k in (0, 1)])]
    assert payloads == [encode(record) for record in every]


def test_framing_has_the_bytes_that_tensorflow_writes():
    """Length, masked CRC-32C of it, payload, masked CRC-32C of that."""
    payload = b"123456789" * 5
    framed = b"-\0\0\0\0\0\0\0" + b"<A\x8a\xfb" + payload + b"\xef\xa6\xb9\xac"
    assert example.pack_tfrecord(payload) == framed and example.unpack_tfrecord(framed, "here") == payload


def same(one: TrackletRecord, other: TrackletRecord) -> bool:
    return as_features(one) == as_features(other)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(st.data(), st.integers(1, 4))
def test_every_record_comes_back(data, n):
    def column(values):
        return tuple(data.draw(st.lists(values, min_size=n, max_size=n)))

    int64, four_int32 = st.integers(-2**63, 2**63 - 1), st.tuples(*[st.integers(-2**31, 2**31 - 1)] * 4)
    record = TrackletRecord(
        name=data.draw(st.text()), split="query", track_id=data.draw(int64), pid=data.draw(int64), camid=3,
        frames=column(st.binary()), rectangles=np.array(column(four_int32), np.int32),
        boxes=np.array(column(four_int32), np.int32), actions=column(st.text()),
        candidates=column(st.integers(0, 99)), sources=column(st.text()))
    back = decode(encode(record))
    assert same(back, record)
    assert back.rectangles.dtype == back.boxes.dtype == np.int32


def test_fields_of_different_length_and_empty_tracklets_are_refused():
    record = make_record(1)
    with pytest.raises(ValueError, match="T0001.*different"):
        replace(record, boxes=record.boxes[1:])
    with pytest.raises(ValueError, match="T0001"):
        replace(record, **{name: getattr(record, name)[:0] for name in tracklet_record._PER_FRAME})


@pytest.mark.parametrize("payload", [
    b"no protobuf", example.serialize({"name": [b"T1"]}),
    *(example.serialize(as_features(make_record(1)) | wrong) for wrong in ({"candidates": [1]}, {"name": [5]}))])
def test_bytes_that_are_no_record_are_refused(payload):
    with pytest.raises(ValueError):
        decode(payload)


# --- access ---

def test_frames_and_columns_are_those_of_the_records(folder, every):
    split = RecordSet.open(folder, "train")
    assert len(split) == len(every) and split.split == "train"
    assert split.names == [record.name for record in every]
    for column, attribute in (("track_ids", "track_id"), ("pids", "pid"), ("camids", "camid")):
        assert getattr(split, column).dtype == np.int64
        assert getattr(split, column).tolist() == [getattr(record, attribute) for record in every]
    assert split.lengths.tolist() == [len(record.frames) for record in every] and split.lengths.dtype == np.int64
    for i, record in enumerate(every):
        assert [split.frame(i, k) for k in range(len(record.frames))] == list(record.frames)
        assert same(split.record(i), record)
        assert split.rectangles(i).dtype == np.int32
        np.testing.assert_array_equal(split.rectangles(i), record.rectangles)
        assert split.image_size(i) == (16, 8) and split.image_sizes(i).tolist() == [[16, 8]] * len(record.frames)
        assert split.shard(i) == shard(folder, 0 if i < SHARDS[0] else 1)


def test_equal_frames_and_frames_of_different_sizes_are_told_apart(tmp_path):
    a, b = jpeg(1, (16, 8)), jpeg(2, (30, 20))
    write_folder(tmp_path / "r", [make_record(0, frames=(a, a, b, a))], shards=(1,))
    rebuild_index(tmp_path / "r", "train")
    split = RecordSet.open(tmp_path / "r", "train")
    assert [split.frame(0, k) for k in range(4)] == [a, a, b, a]
    assert split.image_sizes(0).tolist() == [[16, 8], [16, 8], [30, 20], [16, 8]]


def test_many_threads_read_the_right_frames(folder, every):
    split = RecordSet.open(folder, "train")
    wanted = [(i, k) for i, record in enumerate(every) for k in range(len(record.frames))] * 50
    with ThreadPoolExecutor(8) as pool:
        frames = list(pool.map(lambda place: split.frame(*place), wanted))
    assert frames == [every[i].frames[k] for i, k in wanted]


def test_a_rebuilt_index_has_the_same_bytes(folder):
    path = index_path(folder, "train")
    before = path.read_bytes()
    path.unlink()
    done = subprocess.run([sys.executable, "-m", "cfaan_jax.data.records", f"--rebuild_index={folder}"],
                          capture_output=True, text=True, check=True)
    assert path.read_bytes() == before and str(path) in done.stdout and done.stderr == ""


def test_names_of_the_last_release_still_work(folder):
    records = RecordSet.open(folder, "train")
    tracklets, frames = np.array([1, 4]), np.array([0, 1])
    pixels = [np.empty((16, 8, 3), np.uint8) for _ in frames]
    with pytest.warns(DeprecationWarning, match="next release"):
        records.hold(workers=2)
        records.images_into(pixels, tracklets, frames)
        np.testing.assert_array_equal(records.image_sizes_at(tracklets, frames), [[16, 8], [16, 8]])
        np.testing.assert_array_equal(records.rectangles_at(tracklets, frames), [[0, 16, 0, 8], [0, 16, 1, 8]])
    np.testing.assert_array_equal(pixels, [records.image(1, 0), records.image(4, 1)])


# --- damage ---

@pytest.mark.parametrize("place", [1, 9, 500, -1])  # in the length, its checksum, the payload and its checksum
def test_a_flipped_bit_is_found_with_file_and_record(folder, every, place):
    path = shard(folder, 0)
    records = [bytearray(example.pack_tfrecord(encode(record))) for record in every[:SHARDS[0]]]
    records[1][place] ^= 4
    path.write_bytes(b"".join(records))
    check_refused(f"{path.name}: record 1 ", rebuild_index, folder, "train")
    split = RecordSet.open(folder, "train")
    for read in (lambda: split.record(1), lambda: split.frame(1, 0)):
        check_refused(f"{path.name}: tracklet T0001", read)
    assert same(split.record(0), every[0]) and same(split.record(2), every[2])


@pytest.mark.parametrize("lost", [1, 20, 300])
def test_a_shard_cut_short_is_found(folder, lost):
    path = shard(folder, 1)
    content = path.read_bytes()
    path.write_bytes(content[:-lost])
    with pytest.raises(InputError, match=f"{path.name} has {len(content) - lost} bytes.*{len(content)}.*delete it"):
        RecordSet.open(folder, "train")
    check_refused(f"{path.name}: record 1 ", rebuild_index, folder, "train")


def test_a_shard_that_lost_whole_records_is_found_when_the_index_was_rebuilt(folder, every):
    shard(folder, 1).write_bytes(example.pack_tfrecord(encode(every[3])))
    rebuild_index(folder, "train")
    check_refused("4 tracklets, but manifest.json counts 5", RecordSet.open, folder, "train")


def test_an_only_shard_that_is_empty_is_found(tmp_path):
    write_folder(tmp_path / "r", [make_record(0)], shards=(1,))[0].write_bytes(b"")
    check_refused("00000-of-00001: an empty file", rebuild_index, tmp_path / "r", "train")


@pytest.mark.parametrize("payload, said", [
    (example.serialize({"label": [1]}), "not a tracklet record"),
    (encode(make_record(3, frames=(b"no picture",))), "not an image")])
def test_a_record_that_is_no_tracklet_is_found_with_file_and_record(folder, every, payload, said):
    shard(folder, 1).write_bytes(b"".join(map(example.pack_tfrecord, (encode(every[3]), payload))))
    check_refused(f"00001-of-00002: record 1: {said}", rebuild_index, folder, "train")


def test_an_index_of_other_shards_is_stale(folder, every):
    write_folder(folder, every, shards=(2, 2, 1))
    check_refused("different runs.*of-00002.*of-00003", RecordSet.open, folder, "train")
    for number in range(2):
        shard(folder, number).unlink()
    check_refused(f"index-train.npz is stale.*--rebuild_index {folder}", RecordSet.open, folder, "train")
    rebuild_index(folder, "train")
    assert same(RecordSet.open(folder, "train").record(4), every[4])


def test_missing_files_are_named_with_the_remedy(folder):
    index = index_path(folder, "train")
    content = index.read_bytes()
    index.unlink()
    check_refused(f"index-train.npz is missing.*--rebuild_index {folder}", RecordSet.open, folder, "train")
    index.write_bytes(content[:len(content) // 2])
    check_refused("index-train.npz is damaged.*--rebuild_index", RecordSet.open, folder, "train")
    check_refused("no split 'query', only train", RecordSet.open, folder, "query")
    shard(folder, 0).unlink()
    for attempt in (RecordSet.open, rebuild_index):
        check_refused("00000-of-00002: this shard is missing.*build_tfrecords.py", attempt, folder, "train")
    (folder / "manifest.json").unlink()
    check_refused("manifest.json is missing.*name the folder where they are", RecordSet.open, folder, "train")


def test_an_index_packed_in_an_unknown_way_is_damaged(folder):
    path = index_path(folder, "train")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1 << 5  # says that it holds patches
    path.write_bytes(content)
    check_refused("index-train.npz is damaged.*patched", RecordSet.open, folder, "train")


@pytest.mark.parametrize(("content", "said"), [
    ("{", "not readable as JSON"), ('{"schema_version": 0}', "schema version 0"), ("[]", "schema version None"),
    *((json.dumps({"schema_version": 1, "dataset": "a", "note": "", "aligned": False, "settings": {}, "counts": {}}
                  | changed), "damaged") for changed in ({"counts": {"train": {"trackletz": 1}}}, {"aligned": "no"},
                                                         {"counts": {"trAin": {"tracklets": 1}}}, {"note": None}))])
def test_a_strange_manifest_is_refused(tmp_path, content, said):
    (tmp_path / "manifest.json").write_text(content)
    check_refused(f"manifest.json.*{said}", load_manifest, tmp_path)


def test_a_split_that_the_manifest_does_not_count_is_not_passed_over(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["counts"]["train"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    check_refused("manifest.json: damaged", load_manifest, folder)


def test_a_shard_that_is_cut_short_while_it_is_open_is_an_error_and_ends_nothing(folder):
    split = RecordSet.open(folder, "train")
    assert split.frame(0, 0)
    last = int(split.lengths[0]) - 1
    os.truncate(split.shard(0), 0)
    for read in (lambda: split.frame(0, last), lambda: split.record(0), lambda: split.record(1)):
        check_refused("train.tfrecord-00000-of-00002 ends before byte .*restore it", read)


@pytest.mark.parametrize("name", ["manifest.json", "index-train.npz"])
def test_pipes_are_not_waited_for(folder, name):
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(InputError, match=f"{name}.*not a regular file"):
        load_manifest(folder) if name == "manifest.json" else RecordSet.open(folder, "train")


def test_rebuilding_where_nothing_is_says_so(tmp_path, capsys):
    assert records.main([f"--rebuild_index={tmp_path}"]) == 2
    assert f"{tmp_path}: no shard there" in capsys.readouterr().err
