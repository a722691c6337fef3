"""Video files as a data set of tracklets without manual labels: persons are detected, tracked and cut out.

One camera does not see a person elsewhere again, so the first and the second half of a track stand for two cameras. A
share of the tracks, drawn by `seed`, is for training; of the others the first halves are the queries and the second
halves the gallery. This test is easy, and a person who leaves and returns counts as two: the note of the data set says
so.

Several files, joined as in PATH (a.mp4:b.mp4), are cameras 1, 2 and so on. Nobody knows the identities then, so no
track is for training and each is a person of its own: the first camera's tracks are queries, all others the gallery.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cfaan_jax.errors import InputError
from data_prep.datasets import Dataset
from data_prep.flags import check_range
from data_prep.redetect_link import detectors
from data_prep.redetect_link.tracklet import Tracklet
from data_prep.video.files import find_videos, open_video
from data_prep.video.tracking import track_persons

NOTE = ("pseudo-cameras: the first and second half of a track count as two cameras; identities are those of an "
        "automatic tracker")
UNKNOWN = "tracks are those of an automatic tracker; nobody knows who is who, so each counts as a person of its own"
_LONG_SIDE, _LONG_SIDE_HOG = 640, 960  # pixels of the longer side of a full frame in the detector


@dataclass(frozen=True)
class _Track:
    video: int
    number: int
    sources: tuple[str, ...]
    files: tuple[bytes, ...]

    @property
    def name(self) -> str:
        return f"V{self.video:02d}T{self.number:04d}"


def open(root: Path, *, detector: str | detectors.Detector = "hog", confidence: float | None = None,
         input_size: tuple[int, int] | None = None, minimum_length: int = 16, minimum_height: int = 32,
         stride: int = 1, training_share: float = 0.5, seed: int = 0) -> Dataset:
    """Detects, tracks and cuts out the persons of one video, of all videos in a folder, or of one video per camera.

    Args:
        root: a video file, or a folder of them; or several files, joined by `os.pathsep`, one per camera.
        detector, confidence, input_size: see `detectors.create`, or a detector. Without a size the longer side of a
            frame has 960 pixels in `hog`, which detects persons from 96 pixels there, and 640 in other detectors.
        minimum_length, minimum_height, stride, training_share, seed: see the flags of `build_tfrecords.py`.

    Raises:
        InputError: no video, a video that OpenCV cannot read, fewer than two tracks, or a camera without tracks.
    """
    for flag, value, least in (("minimum_length", minimum_length, 2), ("video_stride", stride, 1),
                               ("minimum_height", minimum_height, 1), ("seed", seed, 0)):
        check_range(flag, value, least)
    if confidence is not None and not np.isfinite(confidence):
        raise InputError(f"--video_confidence={confidence}: must be finite")
    if not 0 <= training_share < 1:
        raise InputError(f"--training_share={training_share}: must be at least 0 and below 1")
    videos = find_videos(Path(root))
    several_cameras = len(videos) > 1 and not Path(root).is_dir()
    remedy = "lower the minimum length or the confidence, or set a larger input size"
    tracks = []
    for number, path in enumerate(videos, start=1):
        frame_detector = detector if not isinstance(detector, str) else detectors.create(
            detector, confidence=confidence, input_size=input_size, default_size=_full_frame_size(path, detector),
            flag="--video_detector")
        followed = track_persons(path, frame_detector, stride, minimum_height)
        long = sorted((track for track in followed if len(track) >= minimum_length), key=lambda track: track[0][0])
        print(f"{path.name}: {len(long)} of {len(followed)} tracks have the {minimum_length} frames of "
              "--minimum_length")
        if several_cameras and not long:
            raise InputError(f"{path}: no track of at least {minimum_length} frames; {remedy}")
        tracks += [_Track(number, index, *zip(*track, strict=True)) for index, track in enumerate(long, start=1)]
    if several_cameras:
        return Dataset("video", _cameras(tracks), UNKNOWN)
    if len(tracks) < 2:
        raise InputError(f"{root}: {len(tracks)} tracks of at least {minimum_length} frames, but at least two are "
                         f"needed; {remedy}")
    return Dataset("video", _halves(tracks, int(len(tracks) * training_share), seed), NOTE)


def _full_frame_size(path: Path, detector: str) -> tuple[int, int]:
    """Height and width of the frames of a video in the detector, multiples of 32."""
    capture = open_video(path)
    sides = [capture.get(cv2.CAP_PROP_FRAME_HEIGHT), capture.get(cv2.CAP_PROP_FRAME_WIDTH)]
    scale = (_LONG_SIDE_HOG if detector == "hog" else _LONG_SIDE) / max(*sides, 1)
    height, width = (max(32, 32 * round(side * scale / 32)) for side in sides)
    return height, width


def _cameras(tracks: Sequence[_Track]) -> list[Tracklet]:
    """The tracks of the first video as queries, then all others as the gallery."""
    return [Tracklet(track.name, "query" if track.video == 1 else "gallery", row, row + 1, track.video, track.sources,
                     track.files.__getitem__) for row, track in enumerate(tracks)]


def _halves(tracks: Sequence[_Track], for_training: int, seed: int) -> list[Tracklet]:
    """So many tracks for training (both halves), then the queries, then the gallery."""
    training = set(np.random.default_rng(seed).permutation(len(tracks))[:for_training].tolist())
    train, query, gallery = [], [], []
    for index, track in enumerate(tracks):
        middle = len(track.files) // 2
        for camid, part in ((1, slice(middle)), (2, slice(middle, None))):
            rows = train if index in training else query if camid == 1 else gallery
            rows.append((f"{track.name}C{camid}", index + 1, camid, track.sources[part],
                         track.files[part].__getitem__))
    return [Tracklet(name, split, row + first, pid, camid, sources, read)
            for split, first, rows in (("train", 0, train), ("query", 0, query), ("gallery", len(query), gallery))
            for row, (name, pid, camid, sources, read) in enumerate(rows)]
