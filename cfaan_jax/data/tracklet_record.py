"""What the record of one tracklet holds, as a `tf.train.Example`."""

from dataclasses import dataclass

import numpy as np

from cfaan_jax.data import example

SCHEMA_VERSION = 1  # of records, their index and their manifest
SPLITS = ("train", "query", "gallery")
_PER_FRAME = ("frames", "rectangles", "boxes", "actions", "candidates", "sources")


@dataclass(frozen=True, eq=False)
class TrackletRecord:
    """One tracklet of n frames, as one `tf.train.Example` whose features have the names of these fields.

    ValueError if the fields with one entry a frame differ in length, or there is no frame.

    Attributes:
        name: unique in the data set.
        split: one of `SPLITS`.
        track_id: row in the data set's own list, from 0.
        pid, camid: identity and camera as the data set numbers them (MARS: pid -1 is junk, 0 a distractor).
        frames: JPEG files, in temporal order.
        rectangles: int32 `[n, 4]`, (y0, y1, x0, x1): where the stored image holds real pixels; the rest is padding.
        boxes: int32 `[n, 4]`, (y0, y1, x0, x1): the part cut out of the source image, in its pixels.
        actions: what Re-Detect and Link did to each frame, see `data_prep.redetect_link.alignment`; "none" without it.
        candidates: number of persons detected in each frame; 0 without Re-Detect and Link.
        sources: names of the source frames.
    """

    name: str
    split: str
    track_id: int
    pid: int
    camid: int
    frames: tuple[bytes, ...]
    rectangles: np.ndarray
    boxes: np.ndarray
    actions: tuple[str, ...]
    candidates: tuple[int, ...]
    sources: tuple[str, ...]

    def __post_init__(self):
        lengths = {name: len(getattr(self, name)) for name in _PER_FRAME}
        if len(set(lengths.values())) != 1 or not self.frames:
            raise ValueError(f"tracklet {self.name}: fields of different or no length: {lengths}")


def encode(record: TrackletRecord) -> bytes:
    """Serialises a record; the same record gives the same bytes."""
    return example.serialize({
        "name": [record.name.encode()], "split": [record.split.encode()],
        "track_id": [int(record.track_id)], "pid": [int(record.pid)], "camid": [int(record.camid)],
        "frames": list(record.frames),
        "rectangles": np.asarray(record.rectangles, np.int64).ravel().tolist(),
        "boxes": np.asarray(record.boxes, np.int64).ravel().tolist(),
        "actions": [action.encode() for action in record.actions],
        "candidates": [int(count) for count in record.candidates],
        "sources": [source.encode() for source in record.sources],
    })


def decode(payload: bytes) -> TrackletRecord:
    """Reads a serialised record; ValueError where the bytes are something else."""
    features = example.parse(payload)
    try:
        return TrackletRecord(
            name=features["name"][0].decode(), split=features["split"][0].decode(),
            track_id=features["track_id"][0], pid=features["pid"][0], camid=features["camid"][0],
            frames=tuple(features["frames"]),
            rectangles=np.array(features["rectangles"], np.int32).reshape(-1, 4),
            boxes=np.array(features["boxes"], np.int32).reshape(-1, 4),
            actions=tuple(action.decode() for action in features["actions"]),
            candidates=tuple(features["candidates"]),
            sources=tuple(source.decode() for source in features["sources"]))
    except (KeyError, IndexError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f"not a tracklet record: {error!r}") from None
