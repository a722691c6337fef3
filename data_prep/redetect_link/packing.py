"""Tracklets to records: as they are, or after Re-Detect and Link. Several are worked on at a time, in order."""

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
from cfaan_jax.runtime.files import atomic_file
from data_prep.redetect_link import detectors, linkers, preview
from data_prep.redetect_link.alignment import AlignedFrame, AlignmentSettings, align_tracklet
from data_prep.redetect_link.clock import Clock
from data_prep.redetect_link.detectors import Detector
from data_prep.redetect_link.linkers import Linker
from data_prep.redetect_link.tracklet import Tracklet

_JPEG_START = b"\xff\xd8"


class Packer:
    """Keeps JPEG files byte for byte; other image files become JPEGs. Every frame is decoded once to be sure of it.

    Args:
        quality: of JPEGs made here, 1 to 100.

    Attributes:
        clock: the time that each stage took so far.
    """

    def __init__(self, quality: int):
        self._quality, self.clock = quality, Clock()

    def __call__(self, tracklet: Tracklet) -> TrackletRecord:
        """Returns the record of a tracklet; InputError for a frame that cannot be read."""
        frames, whole = [], []
        for index in range(len(tracklet)):
            with self.clock.stage("decode", 1):
                data, image = read_frame(tracklet, index)
            frames.append(data if data.startswith(_JPEG_START) else _as_jpeg(image, self._quality))
            whole.append((0, image.shape[0], 0, image.shape[1]))
        rectangles = whole if tracklet.rectangles is None else _inside(tracklet, whole)
        actions, candidates = ["none"] * len(frames), [0] * len(frames)
        return _record(tracklet, frames, rectangles, whole, actions, candidates)


class Aligner:
    """Re-detects and links tracklets.

    Args:
        detector, linker, settings: see `data_prep.alignment`.
        quality: of the JPEGs, 1 to 100.

    Attributes:
        clock: the time that each stage took so far.
        devices: where detector and linker compute.
    """

    def __init__(self, detector: Detector, linker: Linker, settings: AlignmentSettings, quality: int):
        self._detector, self._linker, self._settings, self._quality = detector, linker, settings, quality
        self.clock = Clock()
        self.devices = {"detector": detector.device, "linker": linker.device}

    def __call__(self, tracklet: Tracklet) -> TrackletRecord:
        """Returns the record of a tracklet; InputError for a frame that cannot be read."""
        _, aligned = self._align(tracklet)
        with self.clock.stage("encode", len(aligned)):
            frames = [_as_jpeg(frame.image, self._quality) for frame in aligned]
        return _record(tracklet, frames,
                       [frame.rectangle for frame in aligned], [frame.box for frame in aligned],
                       [frame.action for frame in aligned], [len(frame.candidates.scores) for frame in aligned])

    def draw(self, tracklet: Tracklet, path: Path) -> None:
        """Writes a contact sheet of a tracklet, a PNG file."""
        sheet = preview.contact_sheet(tracklet, *self._align(tracklet))
        with atomic_file(path) as file:
            file.write(cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tobytes())

    def _align(self, tracklet: Tracklet) -> tuple[list[np.ndarray], list[AlignedFrame]]:
        with self.clock.stage("decode", len(tracklet)):
            images = [read_frame(tracklet, index)[1] for index in range(len(tracklet))]
        return images, align_tracklet(images, self._detector, self._linker, self._settings, self.clock)


def create(detector: str, linker: str | None, settings: AlignmentSettings, quality: int) -> Packer | Aligner:
    """What makes a record of a tracklet.

    Args:
        detector, linker: see `data_prep.detectors` and `data_prep.linkers`; detector "none" keeps frames as they are.
        settings: of Re-Detect and Link.
        quality: of the JPEGs, 1 to 100.

    Raises:
        InputError: a detector or linker that does not exist or cannot be had.
    """
    if detector == "none":
        return Packer(quality)
    finder = detectors.create(detector, confidence=settings.detector_confidence, nms=settings.detector_nms,
                              input_size=settings.detector_size)
    return Aligner(finder, linkers.create(linker), settings, quality)


def read_frame(tracklet: Tracklet, index: int) -> tuple[bytes, np.ndarray]:
    """Reads one frame.

    Returns:
        The image file, and its pixels uint8 `[h, w, 3]`, RGB.

    Raises:
        InputError: it cannot be read or is no whole image. (OpenCV would take half a JPEG for a whole one.)
    """
    try:
        data = tracklet.read(index)
    except InputError as error:
        raise InputError(f"tracklet {tracklet.name}: {error}") from error
    try:
        size_of(data)
        with Image.open(io.BytesIO(data)) as image:
            return data, np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's own errors are OSErrors; some formats give others
        raise InputError(f"{tracklet.sources[index]}: frame {index} of tracklet {tracklet.name} is not a readable "
                         f"image ({len(data)} bytes: {error}); restore this file and run again") from error


def in_order(work: Callable, items: Iterable, workers: int) -> Iterator:
    """Yields `work(item)` for every item, in order, while the next few are worked on in `workers` threads."""
    cv2.setNumThreads(1)  # items are worked on side by side, so OpenCV must not start threads for each image
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque = deque()
        try:
            for item in items:
                ahead.append(pool.submit(work, item))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _as_jpeg(image: np.ndarray, quality: int) -> bytes:
    """Encodes uint8 `[h, w, 3]`, RGB."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise InputError(f"a frame of {image.shape[0]} x {image.shape[1]} pixels cannot be written as JPEG, which "
                         "holds 65,500 on a side; scale the images of this data set down")
    return data.tobytes()


def _inside(tracklet: Tracklet, whole: list[tuple[int, int, int, int]]) -> np.ndarray:
    """The rectangles of a tracklet that was aligned before; InputError for one that leaves its frame."""
    ends = np.array(whole)[:, [1, 3]]
    wrong = (tracklet.rectangles[:, [1, 3]] > ends).any(axis=1)
    if wrong.any():
        frame = int(wrong.argmax())
        raise InputError(f"{tracklet.sources[frame]}: its mask (y0, y1, x0, x1) = "
                         f"{tuple(tracklet.rectangles[frame].tolist())} leaves the image of {ends[frame][0]} x "
                         f"{ends[frame][1]} pixels; restore the released mask file")
    return tracklet.rectangles


def _record(tracklet: Tracklet, frames: list[bytes], rectangles: list, boxes: list, actions: list[str],
            candidates: list[int]) -> TrackletRecord:
    return TrackletRecord(
        name=tracklet.name, split=tracklet.split, track_id=tracklet.track_id, pid=tracklet.pid, camid=tracklet.camid,
        frames=tuple(frames), rectangles=np.array(rectangles, np.int32), boxes=np.array(boxes, np.int32),
        actions=tuple(actions), candidates=tuple(candidates), sources=tracklet.sources)
