"""Any video file that OpenCV reads as a data set of tracklets, without a label made by hand.

Persons are detected in full frames, linked into tracks by SORT (Bewley et al. 2016: a Kalman filter and the overlap of
boxes) and cut out; a track begins at its second detection, which is when SORT knows it. With one camera there is
nobody to find again elsewhere, so the first and the second half of a track stand for two cameras. A share of the
tracks, drawn by `seed`, is for training; of the others the first halves are the queries and the second halves the
gallery. This makes an easy test, and a person who leaves and comes back counts as two: the note of the data set says
so.

Several files, joined as folders are in PATH (a.mp4:b.mp4), are cameras 1, 2 and so on. Nobody knows who is who there,
so nobody is for training and every track is a person of its own: the first camera's tracks are the queries, all others
the gallery.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from cfaan_jax.errors import InputError
from cfaan_jax.runtime.progress import Progress
from data_prep.datasets import Dataset
from data_prep.redetect_link import detectors
from data_prep.redetect_link.tracklet import Tracklet

try:
    import supervision
    from trackers import SORTTracker
except ImportError as error:
    raise InputError(f"--dataset=video needs a tracker ({error}); install it with: "
                     "pip install --no-deps -r data_prep/requirements-video.txt") from error

NOTE = ("pseudo-cameras: the first and second half of a track count as two cameras; identities are those of an "
        "automatic tracker")
UNKNOWN = "tracks are those of an automatic tracker; nobody knows who is who, so each counts as a person of its own"
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
         stride: int = 1, training_share: float = 0.5, seed: int = 0) -> Dataset:
    """Detects, tracks and cuts out the persons of one video, of all videos in a folder, or of one video a camera.

    Args:
        root: a video file, or a folder with files of the kinds in `SUFFIXES`; or several files, joined by `os.pathsep`,
            each a camera.
        detector: its name (see `detectors.create`) or a detector.
        confidence: lowest score of a detection; None takes the detector's default.
        input_size: `(height, width)` at which the detector sees a full frame; None scales the longer side to 960
            pixels for `hog` (which finds persons from 96 pixels there) and to 640 for Darknet networks.
        minimum_length: tracks with fewer frames are dropped; at least 2.
        minimum_height: detections with fewer rows, in pixels of the video, are ignored.
        stride: only every so many frames of the video is used.
        training_share: of the tracks, from 0 to 1, for training; several cameras have none.
        seed: draws them.

    Raises:
        InputError: no video, a video that OpenCV cannot read, fewer than two tracks, or a camera without any.
    """
    for flag, value, least in (("minimum_length", minimum_length, 2), ("video_stride", stride, 1),
                               ("minimum_height", minimum_height, 1), ("seed", seed, 0)):
        if value < least:
            raise InputError(f"--{flag}={value}: must be at least {least}")
    if confidence is not None and not np.isfinite(confidence):
        raise InputError(f"--video_confidence={confidence}: give a number")
    if not 0 <= training_share < 1:
        raise InputError(f"--training_share={training_share}: must be at least 0 and below 1")
    root, tracks = Path(root), []
    videos = _videos(root)
    cameras = len(videos) > 1 and not root.is_dir()
    remedy = "lower the minimum length or the confidence, or give a larger input size"
    for number, path in enumerate(videos, start=1):
        looks = detector if not isinstance(detector, str) else detectors.create(
            detector, confidence=confidence, input_size=input_size, default_size=_full_frame_size(path, detector),
            flag="--video_detector")
        found = _follow(path, looks, stride, minimum_height)
        kept = sorted((track for track in found.values() if len(track) >= minimum_length), key=lambda t: t[0][0])
        print(f"{path.name}: {len(kept)} of {len(found)} tracks have the {minimum_length} frames of --minimum_length")
        if cameras and not kept:
            raise InputError(f"{path}: no track of at least {minimum_length} frames; {remedy}")
        tracks += [_Track(number, index, *zip(*track, strict=True)) for index, track in enumerate(kept, start=1)]
    if cameras:
        return Dataset("video", _cameras(tracks), UNKNOWN)
    if len(tracks) < 2:
        raise InputError(f"{root}: {len(tracks)} tracks of at least {minimum_length} frames, but two are needed; "
                         f"{remedy}")
    return Dataset("video", _halves(tracks, int(len(tracks) * training_share), seed), NOTE)


def _cameras(tracks: Sequence[_Track]) -> list[Tracklet]:
    """The tracks of the first video as queries, then all others as the gallery."""
    return [Tracklet(f"V{track.video:02d}T{track.number:04d}", "query" if track.video == 1 else "gallery", row, row + 1,
                     track.video, track.sources, _Crops(track.files)) for row, track in enumerate(tracks)]


def _halves(tracks: Sequence[_Track], for_training: int, seed: int) -> list[Tracklet]:
    """So many tracks for training (both halves of each), then the queries, then the gallery."""
    training = set(np.random.default_rng(seed).permutation(len(tracks))[:for_training].tolist())
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
    if os.pathsep in str(root):
        files = [Path(each) for each in str(root).split(os.pathsep)]
        if missing := [path for path in files if not path.is_file()]:
            raise InputError(f"{root}: no video '{missing[0]}'; join the names of video files by '{os.pathsep}'")
        return files
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
