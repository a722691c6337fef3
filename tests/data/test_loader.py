"""Reading clips and batches from real record files."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from cfaan_jax.data import clips, loader, reading
from cfaan_jax.data.records import RecordSet
from cfaan_jax.data.samplers import IdentitySampler
from tests import tiny_records
from tests.data_prep.checks import check_refused


def by_pillow(file: bytes, size: tuple[int, int] | None = None) -> np.ndarray:
    image = Image.open(io.BytesIO(file)).convert("RGB")
    return np.asarray(image if size is None else image.resize(size[::-1], Image.Resampling.BILINEAR))


@pytest.fixture(scope="module")
def train_records(records_directory) -> RecordSet:
    return RecordSet.open(records_directory, "train")


def train_batches(records: RecordSet, seed: int = 0, steps: int = 20, rows: slice = slice(None)):
    return loader.TrainBatches(records, IdentitySampler(records.pids, 4, 2, seed), 3, tiny_records.SIZE, steps,
                               rows=rows)


def assert_same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_a_stored_frame_of_the_wanted_size_is_only_decoded(train_records):
    frames, rectangles = reading.read_clip(train_records, 3, np.array([1, 0, 1]), tiny_records.SIZE)
    for frame, k in zip(frames, (1, 0, 1), strict=True):
        np.testing.assert_array_equal(frame, by_pillow(train_records.frame(3, k)))
    np.testing.assert_array_equal(rectangles, [[0, 64, 0, 32]] * 3)
    assert (frames.dtype, rectangles.dtype) == (np.uint8, np.int32)


def test_frames_of_other_tracklets_are_out_of_reach(train_records):
    with pytest.raises(IndexError, match="tracklet train-3 has . frames, asked for frame -1"):
        reading.read_clip(train_records, 3, np.array([0, -1]), tiny_records.SIZE)
    for size in (tiny_records.SIZE, (32, 16)):
        with pytest.raises(IndexError, match="tracklet train-3 has . frames"):
            reading.read_clip(train_records, 3, np.array([0, train_records.lengths[3]]), size)


@pytest.mark.parametrize("size", [(32, 16), (128, 64), (48, 48)])
def test_another_size_is_resized_as_pillow_does_and_the_rectangle_with_it(tmp_path, size):
    rng = np.random.default_rng(0)
    stored = [tiny_records.frame(rng, 1, (100, 40)) for _ in range(2)]
    rectangles = np.array([[0, 100, 0, 40], [25, 76, 10, 31]])
    directory = tiny_records.write(tmp_path, [tiny_records.tracklet("a", "train", 0, 1, 1, stored, rectangles)])
    frames, scaled = reading.read_clip(RecordSet.open(directory, "train"), 0, np.array([0, 1]), size)
    np.testing.assert_array_equal(frames, [by_pillow(file, size) for file in stored])
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
        stored = [by_pillow(train_records.frame(position, k)) for k in range(train_records.lengths[position])]
        assert all(any(np.array_equal(frame, image) for image in stored) for frame in batch["frames"][row])
        assert sampler.pids[batch["labels"][row]] == train_records.pids[position]


def test_training_batches_are_a_pure_function_of_seed_and_step(train_records):
    one, other = train_batches(train_records), train_batches(train_records)
    in_order = {step: one[step] for step in (0, 7)}
    for step in (7, 0, 7):
        assert_same(in_order[step], other[step])
    assert not np.array_equal(in_order[7]["frames"], train_batches(train_records, seed=1)[7]["frames"])


def test_the_rows_of_a_process_are_those_of_the_whole_batch(train_records):
    whole, part = (train_batches(train_records, rows=rows)[3] for rows in (slice(None), slice(2, 5)))
    assert_same({name: values[2:5] for name, values in whole.items()}, part)


@pytest.mark.parametrize("workers", [1, 3])
def test_reading_ahead_gives_the_same_batches_in_order_from_any_start(train_records, workers):
    batches = train_batches(train_records)
    read = list(loader.read_ahead(batches, 12, workers))
    assert len(read) == 8
    for step, batch in enumerate(read, start=12):
        assert_same(batch, batches[step])


@pytest.mark.parametrize("mode", clips.MODES)
def test_evaluation_reads_every_clip_of_every_tracklet_once(records_directory, mode):
    records = RecordSet.open(records_directory, "gallery")
    batches = loader.ClipBatches(records, mode, 3, tiny_records.SIZE, batch_size=4)
    read = list(batches)
    assert len(read) == len(batches)
    real = [(tracklet, frames) for batch in read
            for tracklet, frames in zip(batch["tracklet"], batch["frames"], strict=True) if tracklet >= 0]
    expected = [(i, clip[clip >= 0]) for i, length in enumerate(records.lengths)
                for clip in clips.test_clips(length, 3, mode)]
    expected.sort(key=lambda place: -len(place[1]))  # stable: those of one length keep their order
    assert 4 * len(read) - len(real) < 4 * len({len(clip) for _, clip in expected}) and len(expected) == len(real)
    for (tracklet, frames), (i, clip) in zip(real, expected, strict=True):
        assert tracklet == i
        np.testing.assert_array_equal(frames, reading.read_clip(records, i, clip, tiny_records.SIZE)[0])
    for batch in read:
        padding = batch["tracklet"] < 0
        assert len(padding) == 4 and not padding[0] and (padding == sorted(padding)).all()
        assert not batch["frames"][padding].any()
        np.testing.assert_array_equal(batch["rectangles"], np.tile([0, 64, 0, 32], (*batch["frames"].shape[:2], 1)))


@pytest.mark.parametrize("harm, message", [
    (lambda folder: tiny_records.damage(folder, "gallery", 1), "tracklet gallery-5 is damaged"),
    (lambda folder: tiny_records.reseal(folder, "gallery", 1, tiny_records.blackened),
     "frame 2 of tracklet gallery-5 is not")])
def test_an_unreadable_frame_names_shard_and_tracklet_also_from_a_thread(tmp_path, records_directory, harm, message):
    folder = shutil.copytree(records_directory, tmp_path / "records")
    harm(folder)
    batches = loader.ClipBatches(RecordSet.open(folder, "gallery"), "all_sampled", 3, tiny_records.SIZE, 1)
    check_refused(rf"tiny-gallery\.tfrecord-00000-of-00001: {message}", list, batches)
