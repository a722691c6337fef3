"""Follows the persons of a video by SORT (Bewley et al. 2016): a Kalman filter and the overlap of boxes."""

from collections import defaultdict
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from cfaan_jax.errors import InputError
from cfaan_jax.runtime.progress import Progress
from data_prep.redetect_link.detectors import Detector
from data_prep.video.files import open_video, read_frames

try:
    import supervision
    from trackers import SORTTracker
except ImportError as error:
    raise InputError(f"--dataset=video needs a tracker ({error}); install it with: "
                     "pip install --no-deps -r data_prep/requirements-video.txt") from error

CROP_SIZE = (256, 128)  # as in MARS
_MARGIN = 0.1           # context above and below a person, as a share of the box's height
_JPEG_QUALITY = 95
_XYXY, _YYXX = [2, 0, 3, 1], [1, 3, 0, 2]  # from our order of a box's sides to the tracker's, and back
_BATCH = 8
# A detection joins the track with the most overlapping predicted box, from an intersection over union of 0.4; a track
# survives so many seconds without a detection. This is stricter than usual: a torn track does less harm here than two
# persons in one track.
_LEAST_OVERLAP, _PATIENCE = 0.4, 0.5
_TRACKER_RATE = 30  # SORTTracker counts its patience in frames of this rate


def track_persons(path: Path, detector: Detector, stride: int, minimum_height: int) -> list[list[tuple[str, bytes]]]:
    """Returns the tracks of a video: their frames as (source, JPEG file).

    A track starts at its second detection, when SORT confirms it.

    Args:
        stride: use only every so many frames.
        minimum_height: ignore detections with fewer rows of pixels.
    """
    capture = open_video(path)
    rate = (capture.get(cv2.CAP_PROP_FPS) or 25) / stride
    tracker = SORTTracker(lost_track_buffer=round(_PATIENCE * _TRACKER_RATE), frame_rate=rate,
                          minimum_consecutive_frames=2, minimum_iou_threshold=_LEAST_OVERLAP)
    tracks = defaultdict(list)
    frames = read_frames(path, stride)
    total = -(-int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) // stride)
    with Progress(f"detecting persons in {path.name}", total) as progress:
        while batch := list(islice(frames, _BATCH)):
            detections = detector.detect([frame for _, frame in batch])
            for (number, frame), persons in zip(batch, detections, strict=True):
                boxes = persons.boxes[persons.boxes[:, 1] - persons.boxes[:, 0] >= minimum_height]
                tracked = tracker.update(supervision.Detections(xyxy=boxes[:, _XYXY]))
                for corners, person in zip(tracked.xyxy, tracked.tracker_id.tolist(), strict=True):
                    if person >= 0:
                        tracks[person].append((f"{path.name}#{number:06d}", _cut(frame, corners[_YYXX])))
            progress.advance(len(batch), tracks=len(tracks))
    return list(tracks.values())


def _cut(frame: np.ndarray, box: np.ndarray) -> bytes:
    """Cuts out a person with some context, in the shape of the crop as far as the frame reaches; a JPEG file."""
    centre = np.array([box[0] + box[1], box[2] + box[3]]) / 2
    height = max((box[1] - box[0]) * (1 + 2 * _MARGIN), (box[3] - box[2]) * CROP_SIZE[0] / CROP_SIZE[1])
    half = np.array([height, height * CROP_SIZE[1] / CROP_SIZE[0]]) / 2
    low = np.clip(np.rint(centre - half).astype(int), 0, np.array(frame.shape[:2]) - 1)
    high = np.clip(np.rint(centre + half).astype(int), low + 1, frame.shape[:2])
    crop = cv2.resize(frame[low[0]:high[0], low[1]:high[1]], CROP_SIZE[::-1], interpolation=cv2.INTER_LINEAR)
    _, file = cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return file.tobytes()
