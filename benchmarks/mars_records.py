"""Records with the tracklets of MARS, whose frames are a few pictures made by code, again and again."""

import copy
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from cfaan_jax.data.clips import test_clips
from cfaan_jax.data.records import RecordSet, TrackletRecord
from cfaan_jax.errors import InputError
from cfaan_jax.runtime.progress import Progress
from data_prep import writer
from data_prep.datasets import Dataset, mars
from data_prep.redetect_link.tracklet import Tracklet

SIZE = (256, 128)
_PICTURES, _SHARD = 16, 512
_AROUND_A_FRAME = 60  # bytes that a record holds beside the JPEG file of a frame


def write_records(directory: Path, found: mars.Metadata, frame_kb: float) -> float:
    """Writes records, or finds them there; returns the mean size of a frame in bytes.

    Args:
        directory: empty, or with records of the same tracklets and frames.
        found: the tracklets.
        frame_kb: the most kB of a frame.

    Raises:
        InputError: the folder holds something else, the disk is too full, or no frame is as small as that.
    """
    pictures = pool(int(1000 * frame_kb))
    dataset = Dataset("mars-rehearsal", _tracklets(found, pictures), "frames made by code")
    frames, size = sum(map(len, dataset.tracklets)), float(np.mean([len(data) for data in pictures]))
    own = {"frame_kb": frame_kb}
    settings = writer.save_or_check_settings(directory, dataset, own)
    if writer.is_finished(directory, own, directory):
        return size
    needed, free = frames * (size + _AROUND_A_FRAME), shutil.disk_usage(directory).free
    if needed > free:
        raise InputError(f"{directory}: {frames:,} frames need {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free "
                         "there; give --records in another place, or a smaller --frame_kb")
    shards = writer.plan(dataset, directory, _SHARD)
    with Progress(f"writing {frames:,} frames as tracklets", len(dataset.tracklets)) as progress:
        writer.write(shards, _records, lambda _: progress.advance())
    writer.finish(directory, dataset, directory, shards, settings, {"aligned": False})
    return size


def pool(most: int) -> list[bytes]:
    """JPEG files of `SIZE`, different ones, each of the best quality in which it has at most so many bytes."""
    rng, found = np.random.default_rng(0), []
    for _ in range(_PICTURES):
        colours = rng.integers(0, 256, (8, 4, 3)).astype(np.uint8)
        image = cv2.resize(colours, SIZE[::-1], interpolation=cv2.INTER_CUBIC) + rng.normal(0, 12, (*SIZE, 3))
        image = np.clip(image, 0, 255).astype(np.uint8)
        files = (cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for quality in range(95, 0, -5))
        small = next((data.tobytes() for data in files if len(data) <= most), None)
        if small is None:
            raise InputError(f"--frame_kb={most / 1000}: no JPEG of {SIZE[0]} x {SIZE[1]} is as small as that; give 2")
        found.append(small)
    return found


def first(records: RecordSet, clips: int, clip_length: int, mode: str) -> RecordSet:
    """The first tracklets of a record set, as many as give so many clips, or all."""
    counts = [len(test_clips(int(length), clip_length, mode)) for length in records.lengths]
    stop = int(np.searchsorted(np.cumsum(counts), clips)) + 1
    part = copy.copy(records)
    part.names, part.lengths = records.names[:stop], records.lengths[:stop]
    return part


def _tracklets(found: mars.Metadata, pictures: list[bytes]) -> list[Tracklet]:
    split = np.full(len(found.test), "gallery")
    split[found.query] = "query"
    listed = [("train", row, *values) for row, values in enumerate(found.train.tolist())]
    listed += [(split[row], row, *found.test[row].tolist()) for wanted in ("query", "gallery")
               for row in np.flatnonzero(split == wanted).tolist()]
    return [Tracklet(f"{'train' if split == 'train' else 'test'}-{row}", str(split), row, pid, camid,
                     ("",) * (end - start), lambda k, start=start: pictures[(start + k) % len(pictures)])
            for split, row, start, end, pid, camid in listed]


def _records(tracklets: Iterable[Tracklet]) -> Iterator[TrackletRecord]:
    for each in tracklets:
        whole = np.tile(np.array([0, SIZE[0], 0, SIZE[1]], np.int32), (len(each), 1))
        yield TrackletRecord(each.name, each.split, each.track_id, each.pid, each.camid,
                             tuple(each.read(k) for k in range(len(each))), whole, whole, ("none",) * len(each),
                             (0,) * len(each), each.sources)
