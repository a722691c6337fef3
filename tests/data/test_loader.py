"""Reading clips and batches from real record files."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

from cfaan_jax.data import clips, example, loader, reading
from cfaan_jax.data.records import RecordSet
from cfaan_jax.data.samplers import IdentitySampler
from cfaan_jax.errors import InputError
from tests import tiny_records


def pillow(data: bytes, size: tuple[int, int] | None = None) -> np.ndarray:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return np.asarray(image if size is None else image.resize(size[::-1], Image.Resampling.BILINEAR))


@pytest.fixture(scope="module")
def train_records(records_directory) -> RecordSet:
    return RecordSet.open(records_directory, "train")


def train_batches(records: RecordSet, seed: int = 0, steps: int = 20, image_size=tiny_records.SIZE):
    return loader.TrainBatches(records, IdentitySampler(records.pids, 4, 2, seed), 3, image_size, steps)


def assert_same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_a_stored_frame_of_the_wanted_size_is_only_decoded(train_records):
    frames, rectangles = reading.read_clip(train_records, 3, np.array([1, 0, 1]), tiny_records.SIZE)
    for read, k in zip(frames, (1, 0, 1), strict=True):
        np.testing.assert_array_equal(read, pillow(train_records.frame(3, k)))
    np.testing.assert_array_equal(rectangles, [[0, 64, 0, 32]] * 3)
    assert (frames.dtype, rectangles.dtype) == (np.uint8, np.int32)


def test_frames_of_other_tracklets_are_out_of_reach(train_records):
    with pytest.raises(IndexError, match="tracklet train-3 has . frames, asked for frame -1"):
        reading.read_clip(train_records, 3, np.array([0, -1]), tiny_records.SIZE)
    for size in (tiny_records.SIZE, (32, 16)):
        with pytest.raises(IndexError):
            reading.read_clip(train_records, 3, np.array([0, train_records.lengths[3]]), size)


@pytest.mark.parametrize("frames", [
    np.zeros((1, 2, 64, 32, 3), np.float32), np.zeros((1, 4, 64, 32, 3), np.uint8)[:, ::2],
    np.zeros((1, 2, 32, 64, 3), np.uint8).swapaxes(2, 3)])
def test_frames_that_would_be_filled_wrongly_are_refused(train_records, frames):
    with pytest.raises(ValueError, match="give contiguous ones of uint8"):
        reading.read_into(frames, train_records, np.array([3]), np.array([[0, 1]]))


@pytest.mark.parametrize("size", [(32, 16), (128, 64), (48, 48)])
def test_another_size_is_resized_as_pillow_does_and_the_rectangle_with_it(tmp_path, size):
    rng = np.random.default_rng(0)
    stored = [tiny_records.frame(rng, 1, (100, 40)) for _ in range(2)]
    rectangles = np.array([[0, 100, 0, 40], [25, 76, 10, 31]])
    directory = tiny_records.write(tmp_path, [tiny_records.tracklet("a", "train", 0, 1, 1, stored, rectangles)])
    frames, scaled = reading.read_clip(RecordSet.open(directory, "train"), 0, np.array([0, 1]), size)
    np.testing.assert_array_equal(frames, [pillow(data, size) for data in stored])
    (height, width), (y0, y1, x0, x1) = size, scaled[1]
    np.testing.assert_array_equal(scaled[0], [0, height, 0, width])
    assert y0 <= 0.25 * height < y0 + 1 and y1 - 1 < 0.76 * height <= y1
    assert x0 <= 0.25 * width < x0 + 1 and x1 - 1 < 0.775 * width <= x1


def test_a_training_batch_holds_frames_masks_and_labels_of_its_tracklets(train_records):
    batch = train_batches(train_records)[5]
    assert batch["frames"].shape == (8, 3, 64, 32, 3) and batch["frames"].dtype == np.uint8
    assert batch["rectangles"].shape == (8, 3, 4) and batch["labels"].dtype == np.int32
    sampler = IdentitySampler(train_records.pids, 4, 2, seed=0)
    for row, position in enumerate(sampler.batch(5)):
        stored = [pillow(train_records.frame(position, k)) for k in range(train_records.lengths[position])]
        assert all(any(np.array_equal(frame, each) for each in stored) for frame in batch["frames"][row])
        assert sampler.pids[batch["labels"][row]] == train_records.pids[position]


def test_training_batches_are_a_pure_function_of_seed_and_step(train_records):
    one, other = train_batches(train_records), train_batches(train_records)
    later_first = [other[step] for step in (7, 0, 7)]
    assert_same(one[0], later_first[1])
    assert_same(one[7], later_first[0])
    assert_same(one[7], later_first[2])
    assert not np.array_equal(one[7]["frames"], train_batches(train_records, seed=1)[7]["frames"])


@pytest.mark.parametrize("workers", [1, 3])
def test_reading_ahead_gives_the_same_batches_in_order_from_any_start(train_records, workers):
    batches = train_batches(train_records)
    read = list(loader.read_ahead(batches, 12, workers))
    assert len(read) == 8
    for step, batch in enumerate(read, start=12):
        assert_same(batch, batches[step])


def test_an_identity_with_fewer_than_k_tracklets_repeats_them(train_records):
    sampler = IdentitySampler(train_records.pids, 8, 4, seed=0)
    batch = loader.TrainBatches(train_records, sampler, 3, tiny_records.SIZE, 1)[0]
    assert (np.bincount(batch["labels"]) == 4).all()
    assert len(set(sampler.batch(0)[batch["labels"] == 0])) == 1  # pid 1 has one tracklet


@pytest.mark.parametrize("mode", clips.MODES)
def test_evaluation_reads_every_clip_of_every_tracklet_once(records_directory, mode):
    records = RecordSet.open(records_directory, "gallery")
    batches = loader.ClipBatches(records, mode, 3, tiny_records.SIZE, batch_size=4)
    read = list(batches)
    assert len(read) == len(batches)
    rows = [(tracklet, frames) for batch in read for tracklet, frames in zip(batch["tracklet"], batch["frames"],
                                                                             strict=True)]
    assert all(len(batch["tracklet"]) == 4 for batch in read)
    real = [(tracklet, frames) for tracklet, frames in rows if tracklet >= 0]
    expected = [(i, clip[clip >= 0]) for i, length in enumerate(records.lengths)
                for clip in clips.test_clips(length, 3, mode)]
    expected.sort(key=lambda each: -len(each[1]))  # stable: those of one length keep their order
    assert len(rows) - len(real) < 4 * len({len(clip) for _, clip in expected}) and len(expected) == len(real)
    for (tracklet, frames), (i, clip) in zip(real, expected, strict=True):
        assert tracklet == i
        np.testing.assert_array_equal(frames, reading.read_clip(records, i, clip, tiny_records.SIZE)[0])
    for batch in read:
        np.testing.assert_array_equal(batch["rectangles"], np.tile([0, 64, 0, 32], (*batch["frames"].shape[:2], 1)))


@pytest.mark.parametrize("sealed, message", [(False, "tracklet torn is damaged"),
                                             (True, "frame 2 of tracklet torn is not")])
def test_an_unreadable_frame_names_shard_and_tracklet_also_from_a_thread(tmp_path, sealed, message):
    """Behind the back of the checksums, or with checksums that fit: then it was no JPEG when it was packed."""
    frames = [tiny_records.frame(np.random.default_rng(k), 1) for k in range(4)]
    directory = tiny_records.write(tmp_path, [tiny_records.tracklet("fine", "gallery", 0, 1, 1, frames[:1]),
                                              tiny_records.tracklet("torn", "gallery", 1, 1, 1, frames[1:])])
    shard = next(directory.glob("*.tfrecord-*"))
    payloads = [payload for _, payload in example.read_file(shard)]
    torn = b"".join(payloads).replace(frames[3], bytes(len(frames[3])))[len(payloads[0]):]
    shard.write_bytes(example.frame(payloads[0]) + example.frame(torn) if sealed
                      else shard.read_bytes().replace(payloads[1], torn))
    batches = loader.ClipBatches(RecordSet.open(directory, "gallery"), "all_sampled", 3, tiny_records.SIZE, 1)
    with pytest.raises(InputError, match=rf"tiny-gallery\.tfrecord-00000-of-00001: {message}"):
        list(batches)


def test_memory_of_a_batch_is_used_again_when_nobody_holds_it(train_records):
    batches = train_batches(train_records)
    held, part = batches[0], batches[1]["frames"][2:4, 0]
    alone = jax.device_put(batches[2]["frames"])
    expected = [np.array(each) for each in (held["frames"], part, alone)]
    places = {batches[step]["frames"].ctypes.data for step in range(3, 20)}
    assert len(places) == 1 and held["frames"].ctypes.data not in places
    for now, before in zip((held["frames"], part, alone), expected, strict=True):
        np.testing.assert_array_equal(now, before)


def test_what_fills_up_the_last_batch_is_empty(records_directory):
    batches = loader.ClipBatches(RecordSet.open(records_directory, "query"), "test", 3, tiny_records.SIZE, 3)
    assert (batches[0]["tracklet"] >= 0).all()
    last = batches[1]
    assert (last["tracklet"] >= 0).tolist() == [True, False, False]
    assert not last["frames"][1:].any() and last["frames"][0].any()
