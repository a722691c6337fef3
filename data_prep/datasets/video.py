"""Any video file that OpenCV reads as a data set of tracklets, without a label made by hand.

Persons are detected in full frames, linked into tracks by SORT (Bewley et al. 2016: a Kalman filter and the overlap of
boxes) and cut out; a track begins at its second detection, which is when SORT knows it. With one camera there is
nobody to find again elsewhere, so the first and the second half of a track stand for two cameras. Half of the tracks,
drawn by `seed`, are for training; of the others the first halves are the queries and the second halves the gallery.
This makes an easy test, and a person who leaves and comes back counts as two: the note of the data set says so.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from cfaan_jax.errors import InputError
from cfaan_jax.progress import Progress
from data_prep import detectors
from data_prep.datasets import Dataset, Tracklet

try:
    import supervision
    from trackers import SORTTracker
except ImportError as error:
    raise InputError(f"--dataset=video needs a tracker ({error}); install it with: "
                     "pip install --no-deps -r data_prep/requirements-video.txt") from error

NOTE = ("pseudo-cameras: the first and second half of a track count as two cameras; identities are those of an "
        "automatic tracker")
SUFFIXES = frozenset((".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"))
CROP_SIZE = (256, 128)  # as in MARS
_MARGIN = 0.1           # context above and below a person, as a share of the box's height
_LONG_SIDE = {"hog": 960, "darknet": 640}  # pixels of the longer side at which a full frame is looked at
_JPEG_QUALITY = 95
_XYXY, _YYXX = [2, 0, 3, 1], [1, 3, 0, 2]  # from our order of a box's sides to the tracker's, and back
_BATCH = 8
# A detection joins the track whose predicted box it overlaps best, by an intersection over union of at least 0.4; a
# track survives this many seconds without a detection. Stricter than usual: a track torn apart does less harm here than
# two persons in one track.
_LEAST_OVERLAP, _PATIENCE = 0.4, 0.5
_TRACKER_RATE = 30  # SORTTracker counts its patience in frames of this rate


@dataclass(frozen=True)
class _Crops:
    """The frames of a tracklet, kept in memory as JPEG files."""

    files: tuple[bytes, ...]

    def __call__(self, index: int) -> bytes:
        return self.files[index]


@dataclass(frozen=True)
class _Track:
    video: int
    number: int
    sources: tuple[str, ...]
    files: tuple[bytes, ...]


def open(root: Path, *, detector: str | detectors.Detector = "hog", confidence: float | None = None,
         input_size: tuple[int, int] | None = None, minimum_length: int = 16, minimum_height: int = 32,
         stride: int = 1, seed: int = 0) -> Dataset:
    """Detects, tracks and cuts out the persons of one video or of all videos in a folder.

    Args:
        root: a video file, or a folder with files of the kinds in `SUFFIXES`.
        detector: its name (see `detectors.create`) or a detector.
        confidence: lowest score of a detection; None takes the detector's default.
        input_size: `(height, width)` at which the detector sees a full frame; None scales the longer side to 960
            pixels for `hog` (which finds persons from 96 pixels there) and to 640 for Darknet networks.
        minimum_length: tracks with fewer frames are dropped; at least 2.
        minimum_height: detections with fewer rows, in pixels of the video, are ignored.
        stride: only every so many frames of the video is used.
        seed: draws the tracks that are for training.

    Raises:
        InputError: no video, a video that OpenCV cannot read, or fewer than two tracks.
    """
    for flag, value, least in (("minimum_length", minimum_length, 2), ("video_stride", stride, 1),
                               ("minimum_height", minimum_height, 1), ("seed", seed, 0)):
        if value < least:
            raise InputError(f"--{flag}={value}: must be at least {least}")
    if confidence is not None and not np.isfinite(confidence):
        raise InputError(f"--video_confidence={confidence}: give a number")
    tracks = []
    for number, path in enumerate(_videos(Path(root)), start=1):
        looks = detector if not isinstance(detector, str) else detectors.create(
            detector, confidence=confidence, input_size=input_size, default_size=_full_frame_size(path, detector),
            flag="--video_detector")
        found = _follow(path, looks, stride, minimum_height)
        kept = sorted((track for track in found.values() if len(track) >= minimum_length), key=lambda t: t[0][0])
        tracks += [_Track(number, index, *zip(*track, strict=True)) for index, track in enumerate(kept, start=1)]
    if len(tracks) < 2:
        raise InputError(f"{root}: {len(tracks)} tracks of at least {minimum_length} frames, but training and test "
                         "need one each; lower the minimum length or the confidence, or give a larger input size")
    return Dataset("video", _halves(tracks, seed), NOTE)


def _halves(tracks: Sequence[_Track], seed: int) -> list[Tracklet]:
    """Half of the tracks for training (both halves of each), then the queries, then the gallery."""
    training = set(np.random.default_rng(seed).permutation(len(tracks))[:len(tracks) // 2].tolist())
    train, query, gallery = [], [], []
    for index, track in enumerate(tracks):
        middle = len(track.files) // 2
        for camid, part in ((1, slice(middle)), (2, slice(middle, None))):
            rows = train if index in training else query if camid == 1 else gallery
            rows.append((f"V{track.video:02d}T{track.number:04d}C{camid}", index + 1, camid, track.sources[part],
                         _Crops(track.files[part])))
    return [Tracklet(name, split, row + first, pid, camid, sources, read)
            for split, first, rows in (("train", 0, train), ("query", 0, query), ("gallery", len(query), gallery))
            for row, (name, pid, camid, sources, read) in enumerate(rows)]


def _videos(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    found = sorted(path for path in root.glob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError(f"{root}: no video there; give a video file or a folder with {', '.join(sorted(SUFFIXES))}")
    return found


def _open_video(path: Path) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise InputError(f"{path}: OpenCV cannot read this video; convert it, for example to MP4 with H.264")
    return capture


def _full_frame_size(path: Path, detector: str) -> tuple[int, int]:
    """The size of the detector's input for the frames of a video: the longer side given, multiples of 32."""
    capture = _open_video(path)
    sides = [capture.get(cv2.CAP_PROP_FRAME_HEIGHT), capture.get(cv2.CAP_PROP_FRAME_WIDTH)]
    scale = _LONG_SIDE.get(detector.partition(":")[0], 640) / max(*sides, 1)
    height, width = (max(32, 32 * round(side * scale / 32)) for side in sides)
    return height, width


def _frames(path: Path, stride: int) -> Iterator[tuple[int, np.ndarray]]:
    """Every `stride`-th frame with its number, RGB."""
    capture = _open_video(path)
    number = 0
    while capture.grab():
        if number % stride == 0:
            ok, frame = capture.retrieve()
            if not ok:
                raise InputError(f"{path}: frame {number} cannot be decoded; convert the video anew")
            yield number, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        number += 1
    expected = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))  # for some containers an estimate
    if number == 0 or number < 0.9 * expected:
        raise InputError(f"{path}: the video ends after {number} of {expected} frames; fetch the file again, or "
                         "convert what is there to a new file")


def _follow(path: Path, detector: detectors.Detector, stride: int,
            minimum_height: int) -> dict[int, list[tuple[str, bytes]]]:
    """Tracks the persons of a video: for each track the frames in which it was seen, as (source, JPEG)."""
    capture = _open_video(path)
    rate = (capture.get(cv2.CAP_PROP_FPS) or 25) / stride
    tracker = SORTTracker(lost_track_buffer=round(_PATIENCE * _TRACKER_RATE), frame_rate=rate,
                          minimum_consecutive_frames=2, minimum_iou_threshold=_LEAST_OVERLAP)
    tracks = defaultdict(list)
    frames = _frames(path, stride)
    total = -(-int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) // stride)
    with Progress(f"detecting persons in {path.name}", total) as progress:
        while batch := list(islice(frames, _BATCH)):
            for (number, frame), found in zip(batch, detector.detect([frame for _, frame in batch]), strict=True):
                boxes = found.boxes[found.boxes[:, 1] - found.boxes[:, 0] >= minimum_height]
                tracked = tracker.update(supervision.Detections(xyxy=boxes[:, _XYXY]))
                for corners, person in zip(tracked.xyxy, tracked.tracker_id.tolist(), strict=True):
                    if person >= 0:
                        tracks[person].append((f"{path.name}#{number:06d}", _cut(frame, corners[_YYXX])))
            progress.advance(len(batch), tracks=len(tracks))
    return tracks


def _cut(frame: np.ndarray, box: np.ndarray) -> bytes:
    """Cuts a person out with some context in the shape of the crop, as far as the frame goes; a JPEG file."""
    centre = np.array([box[0] + box[1], box[2] + box[3]]) / 2
    height = max((box[1] - box[0]) * (1 + 2 * _MARGIN), (box[3] - box[2]) * CROP_SIZE[0] / CROP_SIZE[1])
    half = np.array([height, height * CROP_SIZE[1] / CROP_SIZE[0]]) / 2
    low = np.clip(np.rint(centre - half).astype(int), 0, np.array(frame.shape[:2]) - 1)
    high = np.clip(np.rint(centre + half).astype(int), low + 1, frame.shape[:2])
    crop = cv2.resize(frame[low[0]:high[0], low[1]:high[1]], CROP_SIZE[::-1], interpolation=cv2.INTER_LINEAR)
    _, file = cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return file.tobytes()
