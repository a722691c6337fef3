"""What the tests of several parts of data_prep share; `check_refused` serves those of other rooms, too."""

from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from cfaan_jax.data.records import RecordSet
from cfaan_jax.data.tracklet_record import SPLITS, TrackletRecord
from cfaan_jax.errors import InputError
from data_prep.redetect_link.detectors import Detections


def check_refused(message, function, *args, **options):
    """The call fails with an InputError in which the pattern `message` occurs."""
    with pytest.raises(InputError, match=message):
        function(*args, **options)


class Planted:
    """Detects in frame i the boxes planted there, in pixels of the crop without its border of the default padding."""

    device = "CPU"

    def __init__(self, *frames, border=48):
        self.frames, self.border, self.images = frames, border, []

    def detect(self, images):
        self.images = list(images)
        return [Detections(np.array(boxes, np.float32).reshape(-1, 4) + self.border,
                           np.linspace(1, 0.5, len(boxes), dtype=np.float32))
                for boxes in self.frames[:len(images)]]


def write_named(folder, names):
    """Files whose content is their name."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def facts(dataset):
    return [(t.name, t.track_id, t.pid, t.camid, len(t)) for t in dataset.tracklets]


def contents(folder, pattern="*") -> dict[str, bytes]:
    """The files of a folder without the one that holds the speed of a run."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob(pattern))
            if path.is_file() and path.name != "summary.json"}


def records(folder) -> Iterator[TrackletRecord]:
    """All records of a folder, split by split."""
    for split in SPLITS:
        opened = RecordSet.open(folder, split)
        yield from map(opened.record, range(len(opened)))


def decode(data: bytes) -> np.ndarray:
    """The pixels of an image file, RGB."""
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
