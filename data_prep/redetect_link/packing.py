"""Tracklets to records, with the frames as they are or after Re-Detect and Link, several tracklets at a time."""

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from cfaan_jax.data.images import size_of
from cfaan_jax.data.records import TrackletRecord
from cfaan_jax.errors import InputError
from cfaan_jax.runtime.files import write_atomic
from data_prep.redetect_link import detectors, linkers, preview
from data_prep.redetect_link.alignment import AlignedFrame, AlignmentSettings, align_tracklet
from data_prep.redetect_link.clock import Clock
from data_prep.redetect_link.detectors import Detector
from data_prep.redetect_link.linkers import Linker
from data_prep.redetect_link.tracklet import Tracklet

_JPEG_START = b"\xff\xd8"


class Packer:
    """Keeps JPEG files byte for byte and encodes other image files as JPEG. Every frame is decoded once as a check.

    Args:
        quality: of the JPEGs encoded here, 1 to 100.

    Attributes:
        clock: the time that every stage took so far.
    """

    def __init__(self, quality: int):
        self._quality, self.clock = quality, Clock()

    def __call__(self, tracklet: Tracklet) -> TrackletRecord:
        """Returns the record of a tracklet; InputError for a frame that cannot be read."""
        frames, whole = [], []
        for index in range(len(tracklet)):
            with self.clock.stage("decode", 1):
                data, image = read_frame(tracklet, index)
            frames.append(data if data.startswith(_JPEG_START) else as_jpeg(image, self._quality))
            whole.append((0, image.shape[0], 0, image.shape[1]))
        rectangles = whole if tracklet.rectangles is None else _checked_rectangles(tracklet, whole)
        return _record(tracklet, frames, rectangles, whole, ["none"] * len(frames), [0] * len(frames))


class Aligner:
    """Re-detects and links tracklets.

    Args:
        detector, linker, settings: see `alignment.align_tracklet`.
        quality: of the JPEGs, 1 to 100.

    Attributes:
        clock: the time that every stage took so far.
        devices: the devices of detector and linker, by their names.
    """

    def __init__(self, detector: Detector, linker: Linker, settings: AlignmentSettings, quality: int):
        self._detector, self._linker, self._settings, self._quality = detector, linker, settings, quality
        self.clock = Clock()
        self.devices = {"detector": detector.device, "linker": linker.device}

    def __call__(self, tracklet: Tracklet) -> TrackletRecord:
        """Returns the record of a tracklet; InputError for a frame that cannot be read."""
        _, aligned = self._align(tracklet)
        with self.clock.stage("encode", len(aligned)):
            frames = [as_jpeg(frame.image, self._quality) for frame in aligned]
        return _record(tracklet, frames,
                       [frame.rectangle for frame in aligned], [frame.box for frame in aligned],
                       [frame.action for frame in aligned], [len(frame.candidates.scores) for frame in aligned])

    def draw(self, tracklet: Tracklet, path: Path) -> None:
        """Writes a contact sheet of a tracklet, a PNG file."""
        sheet = preview.contact_sheet(tracklet, *self._align(tracklet))
        write_atomic(path, cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tobytes())

    def _align(self, tracklet: Tracklet) -> tuple[list[np.ndarray], list[AlignedFrame]]:
        with self.clock.stage("decode", len(tracklet)):
            images = [read_frame(tracklet, index)[1] for index in range(len(tracklet))]
        return images, align_tracklet(images, self._detector, self._linker, self._settings, self.clock)


def create(detector: str, linker: str | None, settings: AlignmentSettings, quality: int) -> Packer | Aligner:
    """Returns what turns a tracklet into a record.

    Args:
        detector, linker: see `detectors.create` and `linkers.create`; the detector "none" keeps frames as they are.
        settings: of Re-Detect and Link.
        quality: of the JPEGs, 1 to 100.

    Raises:
        InputError: unknown detector or linker, or one that cannot be loaded.
    """
    if detector == "none":
        return Packer(quality)
    return Aligner(detectors.create(detector, confidence=settings.detector_confidence, nms=settings.detector_nms,
                                    input_size=settings.detector_size), linkers.create(linker), settings, quality)


def read_frame(tracklet: Tracklet, index: int) -> tuple[bytes, np.ndarray]:
    """Reads one frame.

    Returns:
        The image file, and its pixels uint8 `[h, w, 3]`, RGB.

    Raises:
        InputError: it cannot be read or is not a whole image. (OpenCV would accept half a JPEG.)
    """
    try:
        data = tracklet.read(index)
    except InputError as error:
        raise InputError(f"tracklet {tracklet.name}: {error}") from error
    try:
        size_of(data)
        with Image.open(io.BytesIO(data)) as image:
            return data, np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's own errors are OSErrors; some formats raise others
        raise InputError(f"{tracklet.sources[index]}: frame {index} of tracklet {tracklet.name} is not a readable "
                         f"image ({len(data)} bytes: {error}); restore this file and run again") from error


def in_order(work: Callable, items: Iterable, workers: int) -> Iterator:
    """Yields `work(item)` for every item, in order, while `workers` threads work on the next few."""
    cv2.setNumThreads(1)  # the workers fill the cores, so OpenCV must not start threads for every image
    with ThreadPoolExecutor(workers) as pool:
        pending: deque = deque()
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def as_jpeg(image: np.ndarray, quality: int) -> bytes:
    """Encodes uint8 `[h, w, 3]`, RGB."""
    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not encoded:
        raise InputError(f"a frame of {image.shape[0]} x {image.shape[1]} pixels does not fit into a JPEG file, which "
                         "holds 65,500 on a side; scale the images of this data set down")
    return data.tobytes()


def _checked_rectangles(tracklet: Tracklet, whole: list[tuple[int, int, int, int]]) -> np.ndarray:
    """The rectangles of a tracklet that is aligned already; InputError for one that leaves its frame."""
    sizes = np.array(whole)[:, [1, 3]]
    outside = (tracklet.rectangles[:, [1, 3]] > sizes).any(axis=1)
    if outside.any():
        frame = int(outside.argmax())
        raise InputError(f"{tracklet.sources[frame]}: its mask (y0, y1, x0, x1) = "
                         f"{tuple(tracklet.rectangles[frame].tolist())} leaves the image of {sizes[frame][0]} x "
                         f"{sizes[frame][1]} pixels; restore the released mask file")
    return tracklet.rectangles


def _record(tracklet: Tracklet, frames: list[bytes], rectangles: list, boxes: list, actions: list[str],
            candidates: list[int]) -> TrackletRecord:
    return TrackletRecord(
        name=tracklet.name, split=tracklet.split, track_id=tracklet.track_id, pid=tracklet.pid, camid=tracklet.camid,
        frames=tuple(frames), rectangles=np.array(rectangles, np.int32), boxes=np.array(boxes, np.int32),
        actions=tuple(actions), candidates=tuple(candidates), sources=tracklet.sources)
